"""Names of data sets, methods and nodes are shown as they are, and never as code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pres_dist.bench.ledger import Ledger
from pres_dist.bench.scaling.scaling_report import write_scaling_reports
from pres_dist.bench.sweep_report import write_reports
from pres_dist.bench.sweep_runs import first_runs
from pres_dist.cli.main import main
from pres_dist.cli.recommend import _print_table
from pres_dist.errors import ConfigError
from pres_dist.events.stream import EventStream
from pres_dist.inference.recommend import Recommendation
from tests.bench.fake_scaling import World, fail_run, make_ledger, make_plan, play_run
from tests.bench.fake_sweep import SWEEP, record, small_sweep
from tests.support.parsed_page import Page

HOSTILE = """</script><script>alert("1")</script><img src=x onerror='alert(2)'>&"""
OUR_SCRIPTS = 3
"""The figures, plotly and what draws them."""
MARKUP = "[/red] [link=https://example.org]click[/link]"


@pytest.mark.attack(
    "script tags in the names of a sweep",
    before="held",
    after="escaped or refused",
)
def test_a_sweep(tmp_path: Path) -> None:
    """Its own names are refused; the path of a stream may be anything."""
    hostile = json.dumps(HOSTILE)
    with pytest.raises(ConfigError, match="a name takes letters"):
        small_sweep(tmp_path, SWEEP.replace("full: {}", f"{hostile}: {{}}"))
    sweep = small_sweep(tmp_path, SWEEP.replace("{stream: a}", f"{{stream: {hostile}}}"))
    known = {task.fingerprint: record(0.9) for task in first_runs(sweep, {})}
    ledger = Ledger(tmp_path / "out", known)
    ledger.create()
    write_reports(sweep, ledger)
    page = Page(tmp_path / "out" / "report.html")
    assert len(page.scripts) == OUR_SCRIPTS
    assert HOSTILE in page.text


def test_a_scaling_report(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "--data.stream", HOSTILE, workers=[1, 2])
    ledger = make_ledger(tmp_path / "out")
    first, *others = plan.runs()
    fail_run(first, ledger, f"error: {HOSTILE}")
    for run in others:
        play_run(run, ledger, World())
    write_scaling_reports(plan, ledger)
    page = Page(tmp_path / "out" / "report.html")
    assert len(page.scripts) == OUR_SCRIPTS
    assert page.text.count(HOSTILE) >= 2  # the configuration, and what the failed run said


def test_tables_of_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = np.arange(30)
    EventStream.from_arrays(events % 3, events % 5, events, name=MARKUP).save(tmp_path / "s")
    assert main(["data", "describe", str(tmp_path / "s")]) == 0
    assert "[/red] [link=https://example.org]" in capsys.readouterr().out
    _print_table([Recommendation(MARKUP, 1, MARKUP, 0.5, 3)], 7)
    assert capsys.readouterr().out.count("[/red]") == 2
