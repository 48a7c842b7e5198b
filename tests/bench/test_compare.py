"""`pres-dist bench compare`: what changed beyond noise, and what cannot be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pres_dist.bench.compare import Change, Comparison, compare, welch
from pres_dist.bench.read_reports import read_compared
from pres_dist.bench.scaling.scaling_report import write_scaling_reports
from pres_dist.bench.scaling.scaling_spec import ScalingRun
from pres_dist.bench.sweep_cells import cell_results
from pres_dist.bench.sweep_report import report_content
from pres_dist.bench.sweep_runs import Outcome
from pres_dist.cli.main import main
from tests.bench.fake_scaling import World, make_ledger, make_plan, play
from tests.bench.fake_sweep import SWEEP, record, small_sweep

SEEDS = [0, 1, 2]


def shaken(*factors: float) -> Callable[[ScalingRun], float]:
    """Noise of a run by its seed, alike for all setups."""
    return lambda run: factors[run.seed]


def report(folder: Path, world: World, *overrides: str, seeds: Sequence[int] = SEEDS) -> Path:
    folder.mkdir()
    plan = make_plan(folder, *overrides, workers=[1, 2], seeds=list(seeds))
    ledger = make_ledger(folder / "out")
    play(plan, ledger, world)
    write_scaling_reports(plan, ledger)
    return folder / "out"


def compared(before: Path, after: Path) -> Comparison:
    return compare(read_compared(before), read_compared(after))


def change(
    comparison: Comparison, figure: str, point: str = "strong, 2 workers, torchrun"
) -> Change:
    (found,) = (c for c in comparison.changes if (c.point, c.figure) == (point, figure))
    return found


def test_what_changed_beyond_noise(tmp_path: Path) -> None:
    noise = shaken(1.00, 1.01, 1.02)
    before = report(tmp_path / "a", World(noise=noise))
    after = report(tmp_path / "b", World(noise=noise, serial=10, parallel=40))
    rate = change(compared(before, after), "events_per_second")
    assert math.exp(rate.by) == pytest.approx(2)
    assert rate.half is not None
    # Deviations of log 1, 1.01, 1.02 are 0.0099; 4 degrees of freedom, two sides of 3 runs.
    assert rate.half == pytest.approx(2.7764 * 0.0099 * math.sqrt(2 / 3), rel=0.01)
    assert rate.verdict == "better"
    assert change(compared(after, before), "events_per_second").verdict == "worse"
    assert change(compared(before, after), "cpu_microseconds_per_event").verdict == "better"
    assert change(compared(before, after), "remote_bytes_per_step").verdict == "the same"


def test_within_noise_is_no_difference(tmp_path: Path) -> None:
    before = report(tmp_path / "a", World(noise=shaken(1.00, 1.05, 1.10)))
    after = report(tmp_path / "b", World(noise=shaken(1.04, 1.09, 1.02)))
    assert change(compared(before, after), "events_per_second").verdict.startswith("no difference")


def test_accuracy_is_paired_by_seed(tmp_path: Path) -> None:
    """A gain that every seed has shows, however far the seeds are apart."""

    def far(gain: float) -> World:
        return World(ap=lambda run: 0.90 + 0.02 * run.seed + gain * (1 + 0.01 * run.seed))

    before, after = report(tmp_path / "a", far(0)), report(tmp_path / "b", far(0.005))
    ap = change(compared(before, after), "test_ap")
    assert ap.verdict == "better"
    assert ap.by == pytest.approx(0.00505)


def test_one_run_has_no_noise_to_compare_with(tmp_path: Path) -> None:
    before = report(tmp_path / "a", World(), seeds=[0])
    after = report(tmp_path / "b", World(serial=10), seeds=[0])
    assert change(compared(before, after), "events_per_second").verdict == "one run: noise unknown"


def test_welch_against_a_textbook() -> None:
    """Variances 1 and 4 of 4 and 9 values."""
    a = [-1.2247448714, 0, 0, 1.2247448714]  # variance 1
    b = [-2.0, 2.0] * 4 + [0.0]  # variance 4
    difference, half = welch(a, [value + 3 for value in b])
    assert difference == pytest.approx(3)
    # (1/4 + 4/9)^2 / ((1/4)^2 / 3 + (4/9)^2 / 8) = 10.6, so t(10) = 2.2281.
    assert half == pytest.approx(2.2281 * math.sqrt(1 / 4 + 4 / 9), rel=1e-4)


def test_the_command_tells_changes_and_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = report(tmp_path / "a", World())
    after = report(tmp_path / "b", World(serial=5), "--training.batch_size", "2000")
    assert main(["bench", "compare", str(before), str(after / "report.json")]) == 0
    out = capsys.readouterr().out
    assert "strong, 2 workers, torchrun  events_per_second" in out
    assert "better" in out
    assert "figures changed beyond noise" in out
    settings = out[out.index("made with") :].splitlines()
    assert [line.split() for line in settings[1:]] == [["training.batch_size", "1000", "2000"]]
    assert "only in A: 1 worker, torchrun, batch 2,000" in out


def sweep_report(folder: Path, shift: float) -> Path:
    folder.mkdir()
    sweep = small_sweep(folder, SWEEP)
    rows = [
        Outcome(task, "done", record(0.9 + shift * (1 + seed / 10) + seed / 10), True)
        for cell in sweep.cells
        for seed in (0, 1)
        for task in [sweep.run(cell, seed, ())]
    ]
    content = report_content(sweep, rows, cell_results(sweep, rows))
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def test_sweeps_over_batches_can_be_compared_too(tmp_path: Path) -> None:
    before, after = sweep_report(tmp_path / "a", 0), sweep_report(tmp_path / "b", 0.02)
    ap = change(compared(before, after), "ap", "a, batch 400, full")
    # Differences 0.020 and 0.022: 12.7062 * 0.001 is less than their mean.
    assert (ap.verdict, ap.by, ap.half) == (
        "better",
        pytest.approx(0.021),
        pytest.approx(0.0127062, abs=1e-6),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "must be the report.json of `pres-dist bench scaling` or `bench batch-size`"),
        ('{"runs": []}', "must be the report.json of"),
        ('{"format": "pres_dist.scaling/2"}', "not a report as pres_dist.scaling/1 has it: format"),
        ('{"sweep": {}, "runs": [{}]}', "a damaged report.json of `bench batch-size`: 'record'"),
    ],
)
def test_what_is_no_report(
    tmp_path: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    assert main(["bench", "compare", str(tmp_path), str(path)]) == 2
    assert f"{path}: {message}" in capsys.readouterr().err


def test_what_has_nothing_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scaling, sweep = report(tmp_path / "a", World()), sweep_report(tmp_path / "b", 0)
    assert main(["bench", "compare", str(scaling), str(sweep)]) == 2
    assert "there is nothing to compare" in capsys.readouterr().err
    other = json.loads((scaling / "report.json").read_text())
    for run in other["runs"]:
        run["launcher"] = "ray"
    for point in other["points"]:
        point["launcher"] = "ray"
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert main(["bench", "compare", str(scaling), str(tmp_path / "other.json")]) == 2
    assert "have no point in common: 1 worker, torchrun;" in capsys.readouterr().err
