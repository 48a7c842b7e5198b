"""Means, intervals, differences, verdicts and goals against figures computed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pres_dist.bench.estimates import Estimate, estimate, t975
from pres_dist.bench.sweep_cells import (
    CellResults,
    cell_results,
    paired_difference,
    verdict,
)
from pres_dist.bench.sweep_goals import goal_lines, tolerated
from pres_dist.bench.sweep_markdown import accuracy, markdown
from pres_dist.bench.sweep_runs import Outcome
from pres_dist.bench.sweep_spec import Cell, SweepSpec
from tests.bench.fake_sweep import SWEEP, by_seed, record, small_sweep

APS = {
    ("a", 100, "none"): (0.950, 0.952),
    ("a", 400, "none"): (0.949, 0.949),
    ("a", 1600, "none"): (0.930, 0.932),
    ("a", 100, "full"): (0.951, 0.953),
    ("a", 400, "full"): (0.950, 0.952),
    ("a", 1600, "full"): (0.948, 0.950),
    ("b", 100, "none"): (0.800, 0.800),
    ("b", 400, "none"): (0.790, 0.790),
    ("b", 100, "full"): (0.790, 0.792),
    ("b", 400, "full"): (0.796, 0.797),
}


def outcomes(
    sweep: SweepSpec, aps: Mapping[tuple[str, int, str], tuple[float, ...]]
) -> list[Outcome]:
    rows = []
    for cell in sweep.cells:
        values = aps.get((cell.stream, cell.batch_size, cell.method), ())
        for seed in sweep.config.seeds:
            task = sweep.run(cell, seed, ())
            there = seed < len(values)
            known = record(values[seed]) if there else None
            rows.append(Outcome(task, "done" if there else "new", known, True))
    return rows


@pytest.fixture
def sweep(tmp_path: Path) -> SweepSpec:
    return small_sweep(tmp_path, SWEEP + "targets: [0.93, 0, -0.01, 0.99]\ngoal_batch: 400\n")


@pytest.fixture
def results(sweep: SweepSpec) -> CellResults:
    return cell_results(sweep, outcomes(sweep, APS))


def test_the_interval_is_students() -> None:
    # Deviation 0.01, so 4.3027 * 0.01 / sqrt(3).
    assert estimate([0.90, 0.91, 0.92]) == Estimate(
        pytest.approx(0.91), pytest.approx(0.0248416, abs=1e-6), 3
    )
    assert estimate([0.5, None]) == Estimate(0.5, None, 1)
    assert estimate([None]) is None
    # Tables give 2.0452 (29), 2.0211 (40), 1.9840 (100).
    assert [round(t975(freedom), 4) for freedom in (29, 40, 100)] == [2.0452, 2.0211, 1.984]


def test_a_difference_is_paired_by_seed() -> None:
    difference = paired_difference(by_seed(0.91, 0.95, 0.93), by_seed(0.90, 0.94, 0.92))
    assert difference == Estimate(pytest.approx(0.01), pytest.approx(0, abs=1e-9), 3)
    assert paired_difference({1: record(0.9)}, {0: record(0.9)}) is None


@pytest.mark.parametrize(
    ("mean", "half", "words"),
    [
        (0.01, 0.002, "better"),
        (-0.01, 0.002, "worse"),
        (-0.01, 0.02, "equal within interval"),
        (0.0, 0.0, "equal within interval"),
        (0.01, None, "one seed"),
    ],
)
def test_verdicts(mean: float, half: float | None, words: str) -> None:
    assert verdict(Estimate(mean, half, 3), False, False) == words
    assert verdict(Estimate(mean, half, 3), True, False) == "worse: diverged"
    assert verdict(Estimate(mean, half, 3), False, True) == "better: the other diverged"


def test_a_cell_holds_the_means_of_its_runs(results: CellResults) -> None:
    cell = results[Cell("a", 400, "full")]
    assert (cell.planned, cell.done, cell.diverged, cell.failed) == (2, 2, 0, 0)
    assert cell.ap == pytest.approx(0.951)
    # Differences 0.001 and 0.003: mean 0.002, half 12.7062 * 0.001.
    assert cell.difference == Estimate(pytest.approx(0.002), pytest.approx(0.0127062, abs=1e-6), 2)
    assert cell.verdict == "equal within interval"
    figures = {name: value.mean for name, value in cell.figures.items() if value is not None}
    assert figures["gate"] == pytest.approx(0.83)
    assert figures["cpu_microseconds_per_event"] == pytest.approx(1000)
    assert figures["optimizer_steps"] == 300
    assert Cell("b", 1600, "full") not in results


def test_times_to_targets(results: CellResults) -> None:
    cell = results[Cell("a", 100, "none")]
    # Validation AP 0.90, 0.94, 0.96 after 10, 20, 30 CPU seconds; the base reaches 0.96.
    means = {name: value and value.mean for name, value in cell.time_to.items()}
    assert means == {"0.93": 20.0, "base": 30.0, "base-0.01": 30.0, "0.99": None}
    assert cell.reached == {"0.93": 2, "base": 2, "base-0.01": 2, "0.99": 0}


def test_the_largest_batch_within_tolerance(sweep: SweepSpec, results: CellResults) -> None:
    found = {(row.stream, row.method): row.batches for row in tolerated(sweep, results)}
    assert found == {
        # none: 0.951, 0.949, 0.931; full: 0.952, 0.951, 0.949, of which the last is 0.003 less.
        ("a", "none"): (400, 400, 400),
        ("a", "full"): (1600, 1600, 1600),
        # full: 0.791, 0.7965: below none at the base by more than 0.003.
        ("b", "none"): (100, 100, 100),
        ("b", "full"): (400, None, 400),
    }


def test_goals(sweep: SweepSpec, results: CellResults) -> None:
    growth, at_least = goal_lines(sweep, results)
    assert "on 1 of 2 streams (a)" in growth
    assert "not measured" not in growth
    # 400 and 1600 on a, 400 on b.
    assert "3 of 3 cells; worse beyond the interval in 0" in at_least
    fewer = {cell: result for cell, result in results.items() if cell != Cell("a", 1600, "full")}
    assert "on 0 of 1 streams; not measured: a (1,600)" in goal_lines(sweep, fewer)[0]


def test_a_seed_that_diverged_is_no_accuracy(sweep: SweepSpec) -> None:
    rows = outcomes(sweep, APS)
    cell = Cell("a", 400, "full")
    rows = [
        Outcome(row.task, "diverged", record(None, "diverged"), True)
        if row.task.cell == cell and row.task.seed == 1
        else row
        for row in rows
    ]
    results = cell_results(sweep, rows)
    assert (results[cell].done, results[cell].diverged, results[cell].ap) == (1, 1, None)
    assert results[cell].verdict == "worse: diverged"
    assert "1 of 2 diverged" in accuracy(results[cell])
    assert tolerated(sweep, results)[1].of_own_base == 1600


def test_classes_stand_beside_baselines(sweep: SweepSpec) -> None:
    """Metrics of classes, without MRR; a baseline's are those of any seed."""
    metrics = {"ap": 0.8, "auc": 0.9, "mrr": None, "accuracy": 0.7, "macro_f1": 0.6}
    prior = {"ap": 0.3333, "auc": 0.5, "mrr": None, "accuracy": 0.4, "macro_f1": None}
    of_classes = record(0.8, test=metrics, baselines={"class prior": prior})
    cells = [Cell("a", 100, "none"), Cell("a", 100, "full")]
    rows = [Outcome(sweep.run(cell, 0, ()), "done", of_classes, True) for cell in cells]
    page = markdown(sweep, cell_results(sweep, rows))
    table = page[page.index("| temporal batch 100 |") :].splitlines()[:5]
    assert table[0] == "| temporal batch 100 | AP | AUC | accuracy | macro F1 |"
    assert table[2:] == [
        "| none | 0.8000 | 0.9000 | 0.7000 | 0.6000 |",
        "| full | 0.8000 | 0.9000 | 0.7000 | 0.6000 |",
        "| class prior | 0.3333 | 0.5000 | 0.4000 | - |",
    ]
    assert "MRR" not in accuracy(cell_results(sweep, rows)[cells[0]])


def test_the_tables(sweep: SweepSpec, results: CellResults) -> None:
    page = markdown(sweep, results)
    row = next(line for line in page.splitlines() if line.startswith("| 400 |"))
    assert "0.9490 ± 0.0000 (MRR 0.9490 ± 0.0000)" in row
    assert "equal within interval (+0.0020 ± 0.0127)" in row
    assert "| b | full | 400 | - | 400 |" in page
    assert "| a | 400 | 0.9490 ± 0.0000 | 0.9510 ± 0.0127 = |" in page
    large = [line for line in page.splitlines() if line.startswith("| 1,600 |")]
    # Of each stream the accuracies of both methods; of stream a what both cost, too.
    assert sorted(line.count("|") for line in large) == [4, 4, 15, 15]
