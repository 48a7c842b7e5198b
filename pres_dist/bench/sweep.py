"""Run a sweep and collect its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pres_dist.bench.ledger import Ledger, State
from pres_dist.bench.plan import Cell, Sweep, Task, in_order
from pres_dist.bench.records import Record
from pres_dist.bench.runner import Runner
from pres_dist.bench.tuning import Choices, candidates, choose
from pres_dist.errors import ConfigError

Only = Mapping[str, Sequence[str]]
"""Filter of runs: allowed values by property; a property that is missing allows all values."""


@dataclass(frozen=True)
class Outcome:
    """One run of a sweep: its state, and its figures if it is finished.

    Attributes:
        chosen: True if the run counts in its cell; False if tuning tried and rejected it.
    """

    task: Task
    state: State
    record: Record | None
    chosen: bool


def run_sweep(sweep: Sweep, ledger: Ledger, runner: Runner, only: Only) -> None:
    """Run all unfinished tasks: the first seed with the whole tuning grid, then other seeds."""
    runner.run(first_tasks(sweep, only))
    runner.run(other_tasks(sweep, choose(sweep, ledger), only))


def first_tasks(sweep: Sweep, only: Only) -> list[Task]:
    """Return the runs of the first seed: the whole tuning grid in every cell."""
    seed = sweep.config.seeds[0]
    cells = [cell for cell in sweep.cells if _wanted(cell, seed, only)]
    return in_order((t for cell in cells for t in candidates(sweep, cell)), [seed])


def other_tasks(sweep: Sweep, choices: Choices, only: Only) -> list[Task]:
    """Return the runs of all other seeds in cells whose tuning has finished."""
    tasks = [
        sweep.task(cell, seed, tuned)
        for seed in sweep.config.seeds[1:]
        for cell, tuned in choices.items()
        if tuned is not None and _wanted(cell, seed, only)
    ]
    return in_order(tasks, sweep.config.seeds)


def untuned_cells(sweep: Sweep, choices: Choices, only: Only) -> list[Cell]:
    """Return the cells whose other seeds wait for tuning."""
    seeds = sweep.config.seeds[1:]
    return [
        cell
        for cell, tuned in choices.items()
        if tuned is None and any(_wanted(cell, seed, only) for seed in seeds)
    ]


def outcomes(sweep: Sweep, ledger: Ledger) -> list[Outcome]:
    """Return every run of the sweep, with its results if it has any."""
    choices = choose(sweep, ledger)
    return [
        Outcome(task, ledger.state(task), ledger.record(task), chosen)
        for task, chosen in _all_tasks(sweep, choices)
    ]


def _all_tasks(sweep: Sweep, choices: Choices) -> Iterator[tuple[Task, bool]]:
    for task in first_tasks(sweep, {}):
        yield task, choices[task.cell] == task.tuned
    for task in other_tasks(sweep, choices, {}):
        yield task, True


def parse_only(sweep: Sweep, texts: Sequence[str]) -> Only:
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
