"""Run a sweep: which runs there are, which values tuning chooses, and how far they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pres_dist.bench.ledger import FINISHED, Ledger
from pres_dist.bench.run_records import Record, State
from pres_dist.bench.runner import Runner
from pres_dist.bench.sweep_spec import Cell, SweepRun, SweepSpec, Tuned
from pres_dist.errors import ConfigError

Only = Mapping[str, Sequence[str]]
"""Filter of runs: allowed values by property; a property that is missing allows all values."""
Choices = Mapping[Cell, Tuned | None]
"""Chosen values of each cell; None until all candidates that it depends on are finished."""


@dataclass(frozen=True)
class Outcome:
    """One run of a sweep: its state, and its figures if it is finished.

    Attributes:
        chosen: True if the run counts in its cell; False if tuning tried and rejected it.
    """

    task: SweepRun
    state: State
    record: Record | None
    chosen: bool


def run_sweep(sweep: SweepSpec, ledger: Ledger, runner: Runner, only: Only) -> None:
    """Run all unfinished tasks: the first seed with the whole tuning grid, then other seeds."""
    runner.run(first_runs(sweep, only))
    runner.run(other_runs(sweep, choose(sweep, ledger), only))


def runs_so_far(sweep: SweepSpec, ledger: Ledger, only: Only) -> list[SweepRun]:
    """Return the runs known so far, in the order of running."""
    return first_runs(sweep, only) + other_runs(sweep, choose(sweep, ledger), only)


def first_runs(sweep: SweepSpec, only: Only) -> list[SweepRun]:
    """Return the runs of the first seed: the whole tuning grid in every cell."""
    seed = sweep.config.seeds[0]
    cells = [cell for cell in sweep.cells if _wanted(cell, seed, only)]
    tasks = [sweep.run(cell, seed, tuned) for cell in cells for tuned in sweep.grid]
    return sorted(tasks, key=lambda task: task.cost)


def other_runs(sweep: SweepSpec, choices: Choices, only: Only) -> list[SweepRun]:
    """Return the runs of all other seeds in cells whose tuning has finished."""
    seeds = sweep.config.seeds
    tasks = [
        sweep.run(cell, seed, tuned)
        for seed in seeds[1:]
        for cell, tuned in choices.items()
        if tuned is not None and _wanted(cell, seed, only)
    ]
    # Seed by seed, so that an unfinished sweep already has a full table.
    return sorted(tasks, key=lambda task: (seeds.index(task.seed), task.cost))


def untuned_cells(sweep: SweepSpec, ledger: Ledger, only: Only) -> list[Cell]:
    """Return the cells whose other seeds wait for tuning."""
    seeds = sweep.config.seeds[1:]
    return [
        cell
        for cell, tuned in choose(sweep, ledger).items()
        if tuned is None and any(_wanted(cell, seed, only) for seed in seeds)
    ]


def outcomes(sweep: SweepSpec, ledger: Ledger) -> list[Outcome]:
    """Return every run of the sweep, with its results if it has any."""
    choices = choose(sweep, ledger)
    return [
        Outcome(task, ledger.state(task), ledger.record(task), choices[task.cell] == task.tuned)
        for task in first_runs(sweep, {}) + other_runs(sweep, choices, {})
    ]


def choose(sweep: SweepSpec, ledger: Ledger) -> Choices:
    """Return the values with the best validation AP of the first seed for each cell.

    Every method tries the same number of values. With `per: method`, the values with the best mean
    AP over all cells of the method are chosen. A diverged run ranks last.
    """
    if len(sweep.grid) == 1:
        return dict.fromkeys(sweep.cells, sweep.grid[0])
    scores = {cell: _scores(sweep, ledger, cell) for cell in sweep.cells}
    if sweep.config.tuning.per == "cell":
        return {cell: _best(sweep.grid, [scores[cell]]) for cell in sweep.cells}
    per_method = {
        method: _best(sweep.grid, [scores[c] for c in sweep.cells if c.method == method])
        for method in sweep.methods
    }
    return {cell: per_method[cell.method] for cell in sweep.cells}


def _scores(sweep: SweepSpec, ledger: Ledger, cell: Cell) -> list[float] | None:
    """Return the validation AP of each candidate; None until all are finished."""
    tasks = [sweep.run(cell, sweep.config.seeds[0], tuned) for tuned in sweep.grid]
    if any(ledger.state(task) not in FINISHED for task in tasks):
        return None
    aps = [record["validation"]["ap"] if (record := ledger.record(t)) else None for t in tasks]
    return [-math.inf if ap is None else ap for ap in aps]


def _best(grid: Sequence[Tuned], scores: Sequence[list[float] | None]) -> Tuned | None:
    """Return the candidate with the highest sum; the first of equals."""
    known = [row for row in scores if row is not None]
    if len(known) < len(scores):
        return None
    sums = [sum(column) for column in zip(*known, strict=True)]
    return grid[sums.index(max(sums))]


def listed(sweep: SweepSpec, ledger: Ledger, only: Only) -> list[str]:
    """Return a line for every run with its state, in the order of running."""
    lines = []
    seen: set[str] = set()
    for task in runs_so_far(sweep, ledger, only):
        state = "shared" if task.identity in seen else ledger.state(task)
        seen.add(task.identity)
        told = [f"{task.config.training.epochs} epochs"]
        told += [f"{name} {value}" for name, value in task.tuned]
        lines.append(f"{state:<9}{ledger.run_dir(task).name}  {', '.join(told)}")
    waiting = len(untuned_cells(sweep, ledger, only))
    if waiting:
        more = waiting * (len(sweep.config.seeds) - 1)
        lines.append(f"{more} more runs once tuning has chosen, in {waiting} cells")
    return lines


def parse_only(sweep: SweepSpec, texts: Sequence[str]) -> Only:
    """Parse filters such as `["stream=wikipedia,method=none"]`.

    A name given twice allows either value.

    Raises:
        ConfigError: An unknown name, or a value that the sweep does not have.
    """
    known = {
        "stream": list(sweep.config.streams),
        "batch_size": [str(size) for size in sweep.config.batch_sizes],
        "method": list(sweep.methods),
        "seed": [str(seed) for seed in sweep.config.seeds],
    }
    only: dict[str, list[str]] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise ConfigError(
                f"command line: --only takes {', '.join(f'{n}=VALUE' for n in known)}, got {part!r}"
            )
        if value not in known[name]:
            allowed = ", ".join(known[name])
            raise ConfigError(
                f"command line: --only {name} must be one of {allowed}, got {value!r}"
            )
        only.setdefault(name, []).append(value)
    return only


def _wanted(cell: Cell, seed: int, only: Only) -> bool:
    values = {**vars(cell), "seed": seed}
    return all(str(values[name]) in allowed for name, allowed in only.items())
