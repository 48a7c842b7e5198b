"""Aggregate the runs of a sweep into one result per stream, batch and method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pres_dist.bench.estimates import Estimate, estimate
from pres_dist.bench.run_records import Record, at_best, mean_of_epochs, time_to
from pres_dist.bench.sweep_runs import Outcome
from pres_dist.bench.sweep_spec import Cell, SweepSpec

BySeed = Mapping[int, Record]


def _microseconds(record: Record) -> float | None:
    rate = mean_of_epochs(record, "events_per_cpu_second")
    return 1e6 / rate if rate else None


FIGURES: dict[str, Callable[[Record], float | None]] = {
    "ap": lambda record: record["test"]["ap"],
    "auc": lambda record: record["test"]["auc"],
    "mrr": lambda record: record["test"]["mrr"],
    "accuracy": lambda record: record["test"].get("accuracy"),
    "macro_f1": lambda record: record["test"].get("macro_f1"),
    "validation_ap": lambda record: record["validation"]["ap"],
    "best_epoch": lambda record: record["best_epoch"],
    "epochs": lambda record: len(record["epochs"]) or None,
    "optimizer_steps": lambda record: record["optimizer_steps"],
    "seconds_per_epoch": partial(mean_of_epochs, name="train_seconds"),
    "cpu_seconds_per_epoch": partial(mean_of_epochs, name="train_cpu_seconds"),
    "cpu_microseconds_per_event": _microseconds,
    "events_per_second": partial(mean_of_epochs, name="events_per_second"),
    "cpu_seconds": lambda record: record["cpu_seconds"],
    "gate": partial(at_best, name="gate"),
    "coherence": partial(at_best, name="coherence"),
    "prediction_ratio": partial(at_best, name="prediction_ratio"),
    "pending_events": partial(at_best, name="pending_events_mean"),
    "pending_share": partial(at_best, name="pending_share"),
}
"""Figures averaged over the seeds of a cell. Metrics without a prefix are of the test split."""


@dataclass(frozen=True)
class CellResult:
    """Result of a cell, aggregated over its seeds.

    Attributes:
        tuned: settings that the tuning chose; None if tuning has not finished.
        planned, done, diverged, failed: numbers of runs.
        figures: estimates by the names of FIGURES; None if no run has the figure.
        difference: AP minus that of the method compared with, paired by seed.
        verdict: the difference in words; empty for a method that is compared with itself.
        time_to: CPU seconds of training until validation AP reaches each target, over the
            seeds that reach it.
        reached: number of seeds that reach each target.
        baselines: test metrics by the name of the baseline, which no seed changes.
    """

    cell: Cell
    tuned: Mapping[str, Any] | None
    planned: int
    done: int
    diverged: int
    failed: int
    figures: Mapping[str, Estimate | None]
    difference: Estimate | None
    verdict: str
    time_to: Mapping[str, Estimate | None]
    reached: Mapping[str, int]
    baselines: Mapping[str, Mapping[str, float | None]]

    @property
    def ap(self) -> float | None:
        """Mean test AP; None if a seed diverged or none has finished."""
        ap = self.figures["ap"]
        return None if ap is None or self.diverged else ap.mean


CellResults = Mapping[Cell, CellResult]


def cell_results(sweep: SweepSpec, outcomes: Sequence[Outcome]) -> dict[Cell, CellResult]:
    """Return the results of every cell with at least one started run."""
    rows: dict[Cell, list[Outcome]] = {cell: [] for cell in sweep.cells}
    for outcome in outcomes:
        if outcome.chosen:
            rows[outcome.task.cell].append(outcome)
    records = {
        cell: {row.task.seed: row.record for row in own if row.record is not None}
        for cell, own in rows.items()
    }
    targets = {stream: _targets(sweep, stream, records) for stream in sweep.config.streams}
    return {
        cell: _cell_result(sweep, cell, own, records, targets[cell.stream])
        for cell, own in rows.items()
        if any(row.state != "new" for row in own)
    }


def _cell_result(
    sweep: SweepSpec,
    cell: Cell,
    rows: Sequence[Outcome],
    records: Mapping[Cell, BySeed],
    targets: Mapping[str, float],
) -> CellResult:
    own, other = records[cell], sweep.against(cell.method)
    done = [record for record in own.values() if record["state"] == "done"]
    difference, words = None, ""
    if other != cell.method:
        against = records[Cell(cell.stream, cell.batch_size, other)]
        difference = paired_difference(own, against)
        words = verdict(difference, _diverged(own), _diverged(against))
    times = {name: [time_to(record, ap) for record in done] for name, ap in targets.items()}
    return CellResult(
        cell=cell,
        tuned=dict(rows[0].task.tuned) if rows else None,
        planned=len(sweep.config.seeds),
        done=len(done),
        diverged=len(own) - len(done),
        failed=sum(row.state == "failed" for row in rows),
        figures={name: estimate(map(figure, done)) for name, figure in FIGURES.items()},
        difference=difference,
        verdict=words,
        time_to={name: estimate(seconds) for name, seconds in times.items()},
        reached={name: sum(s is not None for s in seconds) for name, seconds in times.items()},
        baselines=next((one["baselines"] for one in done if one.get("baselines")), {}),
    )


def paired_difference(own: BySeed, other: BySeed) -> Estimate | None:
    """Estimate AP of `own` minus AP of `other`, over the seeds that both have."""
    pairs = [(own[seed]["test"]["ap"], other[seed]["test"]["ap"]) for seed in own if seed in other]
    return estimate(a - b for a, b in pairs if a is not None and b is not None)


def verdict(difference: Estimate | None, own_diverged: bool, other_diverged: bool) -> str:
    """Describe a paired difference: neither better nor worse if its interval contains 0."""
    if own_diverged or other_diverged:
        if own_diverged and other_diverged:
            return "both diverged"
        return "worse: diverged" if own_diverged else "better: the other diverged"
    if difference is None:
        return "not measured"
    if difference.half is None:
        return "one seed"
    if abs(difference.mean) <= difference.half:
        return "equal within interval"
    return "better" if difference.mean > 0 else "worse"


def _diverged(records: BySeed) -> bool:
    return any(record["state"] == "diverged" for record in records.values())


def _targets(sweep: SweepSpec, stream: str, records: Mapping[Cell, BySeed]) -> dict[str, float]:
    """Return the target validation APs by label; relative targets need the baseline's result."""
    base = records[Cell(stream, sweep.base_batch, sweep.config.baseline)]
    reference = estimate(record["validation"]["ap"] for record in base.values())
    targets = {}
    for target in sweep.config.targets:
        if target > 0:
            targets[f"{target:g}"] = target
        elif reference is not None:
            targets[f"base{target:+g}" if target else "base"] = reference.mean + target
    return targets
