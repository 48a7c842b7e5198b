"""Baselines, what beats the model, and the share of negatives found, wherever results are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pres_dist.report.html import write_report
from pres_dist.report.progress import LineProgress
from pres_dist.report.result_tables import comparison_rows
from tests.report.fake_run import make_run, validation

BASELINES = {
    "EdgeBank": {"ap": 0.8111, "auc": 0.8, "mrr": 0.9123, "inductive": {"ap": 0.6222}},
    "most popular": {"ap": 0.7333, "auc": 0.7, "mrr": 0.3, "inductive": {"num_events": 0}},
}
RESULTS = {
    part: validation(5) | {"baselines": BASELINES, "negatives_found": found}
    for part, found in (("validation", 0.25), ("test", 0.5))
} | {"num_negatives": 20, "negatives": "historical"}
FOUND = "25.0% (validation) and 50.0% (test) of the negatives are historical, random ones stand in"
WARNING = "does not beat EdgeBank (0.9123): the model has learned nothing that remembering"


def test_on_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    LineProgress().results(RESULTS)
    header, _, test, edgebank, popular, summary, warning = capsys.readouterr().out.splitlines()
    assert test.startswith("test ")
    assert edgebank.split() == ["EdgeBank", "0.8111", "0.8000", "0.9123", "0.6222", "-", "-"]
    assert popular.split() == ["most", "popular", "0.7333", "0.7000", "0.3000", "-", "-", "-"]
    assert len(header) == len(edgebank)
    assert FOUND in summary
    assert warning.startswith("warning: test MRR 0.7")
    assert WARNING in warning


def test_in_the_report(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run")
    (run_dir / "results.json").write_text(json.dumps(RESULTS))
    write_report(run_dir)
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert page.count("<th>EdgeBank</th>") == page.count("<th>most popular</th>") == 2
    for text in ("<td>0.8111</td>", "<td>0.6222</td>", FOUND, WARNING):
        assert text in page


def test_nothing_is_said_of_random_negatives(capsys: pytest.CaptureFixture[str]) -> None:
    LineProgress().results(RESULTS | {"negatives": "random"})
    assert "stand in" not in capsys.readouterr().out


def test_kinds_beside_each_other() -> None:
    bare = {"test": {"num_events": 0, "baselines": {}, "negatives_found": None}}
    header, model, edgebank, popular, found = comparison_rows(
        {"historical": RESULTS, "inductive": bare}, "test"
    )
    assert header[1:] == [
        f"{kind} {name}" for kind in ("historical", "inductive") for name in ("AP", "AUC", "MRR")
    ]
    assert model[0] == "model"
    assert edgebank == ["EdgeBank", "0.8111", "0.8000", "0.9123", "-", "-", "-"]
    assert popular[:2] == ["most popular", "0.7333"]
    assert found == ["negatives of that kind", "50.0%", "", "", "-", "", ""]
