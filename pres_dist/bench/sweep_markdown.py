"""Write report.md: the tables of a sweep, ready for a documentation page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pres_dist.bench.estimates import Estimate
from pres_dist.bench.sweep_cells import CellResult, CellResults
from pres_dist.bench.sweep_goals import goal_lines, tolerated
from pres_dist.bench.sweep_spec import Cell, SweepSpec
from pres_dist.report.result_tables import NAMES, number

NONE = "-"
MARKS = {"better": " ▲", "worse": " ▼", "equal within interval": " ="}
"""Mark after an AP in the overview table, by verdict; other verdicts have none."""
COST = {
    "epochs": ("epochs", 0),
    "optimizer steps": ("optimizer_steps", 0),
    "s an epoch": ("seconds_per_epoch", 1),
    "CPU us an event": ("cpu_microseconds_per_event", 0),
}
PRES = {
    "gate": ("gate", 2),
    "coherence": ("coherence", 2),
    "prediction / persistence": ("prediction_ratio", 2),
    "pending events": ("pending_events", 1),
}
"""Figure and decimals of columns of the table of costs."""


def markdown(sweep: SweepSpec, results: CellResults) -> str:
    """Return the whole page."""
    parts = [
        f"# {sweep.config.name}",
        "\n".join(f"- {line}" for line in goal_lines(sweep, results)),
        "## Test AP",
        overview_table(sweep, results),
    ]
    for stream in sweep.config.streams:
        parts += [f"## {stream}", accuracy_table(sweep, results, stream)]
        parts += [cost_table(results, stream)]
        parts += [baseline_table(sweep, results, stream, size) for size in sweep.sizes]
    parts += ["## Largest batch within tolerance", tolerance_table(sweep, results)]
    if len(sweep.grid) > 1:
        head = ["stream", "temporal batch", "method", "chosen"]
        rows = [
            [cell.stream, f"{cell.batch_size:,}", cell.method, tuned(result.tuned)]
            for cell, result in results.items()
        ]
        parts += ["## Tuned", table(head, rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def overview_table(sweep: SweepSpec, results: CellResults) -> str:
    """Return a table of the test AP of every cell, marked against the method compared with.

    ▲ is better, ▼ worse, = neither.
    """
    rows = [
        [stream, batch(size), *map(short_accuracy, _across(sweep, results, stream, size))]
        for stream in sweep.config.streams
        for size in sweep.sizes
    ]
    return table(["stream", "temporal batch", *sweep.methods], rows)


def _across(
    sweep: SweepSpec, results: CellResults, stream: str, size: int
) -> Iterable[CellResult | None]:
    """Return the results of all methods."""
    return (results.get(Cell(stream, size, method)) for method in sweep.methods)


def short_accuracy(result: CellResult | None) -> str:
    """Format a cell as `0.9857 ± 0.0038 ▲`, with the number of seeds if some are missing."""
    if result is None or result.figures["ap"] is None or result.diverged:
        return "diverged" if result is not None and result.diverged else NONE
    text = interval(result.figures["ap"]) + MARKS.get(result.verdict, "")
    return text if result.done == result.planned else f"{text} (n = {result.done})"


def accuracy_table(sweep: SweepSpec, results: CellResults, stream: str) -> str:
    """Return a table of test AP and MRR with intervals and verdicts, by batch and method."""
    rows = [
        [batch(size), *map(accuracy, _across(sweep, results, stream, size))] for size in sweep.sizes
    ]
    return table(["temporal batch", *(f"{method}: AP, MRR" for method in sweep.methods)], rows)


def accuracy(result: CellResult | None) -> str:
    """Format AP, MRR and verdict of a cell, and the number of missing or diverged seeds.

    For example `0.9857 ± 0.0038 (MRR 0.8907 ± 0.0041); better (+0.0011 ± 0.0004)`.
    """
    if result is None or (result.figures["ap"] is None and not result.diverged):
        return NONE
    text = interval(result.figures["ap"])
    if result.figures["accuracy"] is None:  # a task with classes has no MRR
        text += f" (MRR {interval(result.figures['mrr'])})"
    if result.diverged:
        text += f"; {result.diverged} of {result.planned} diverged"
    elif result.done < result.planned:
        text += f"; {result.done} of {result.planned} seeds"
    if result.verdict:
        text += f"; {result.verdict}"
        text += f" ({interval(result.difference, signed=True)})" if result.difference else ""
    return text


def baseline_table(sweep: SweepSpec, results: CellResults, stream: str, size: int) -> str:
    """Return a table of the test metrics of methods and baselines; empty without baselines."""
    cells = {name: results.get(Cell(stream, size, name)) for name in sweep.methods}
    own = {name: result for name, result in cells.items() if result is not None}
    baselines = next((result.baselines for result in own.values() if result.baselines), {})
    if not baselines:
        return ""
    columns = [key for key in NAMES if any(result.figures[key] for result in own.values())]
    rows = [
        [name, *(interval(result.figures[key]) for key in columns)] for name, result in own.items()
    ]
    rows += [[name, *(number(of[key]) for key in columns)] for name, of in baselines.items()]
    head = [f"temporal batch {size:,}", *(NAMES[key] for key in columns)]
    return table(head, rows)


def cost_table(results: CellResults, stream: str) -> str:
    """Return a table of the cost of each cell and the figures of PRES; empty without cells."""
    own = {cell: result for cell, result in results.items() if cell.stream == stream}
    if not own:
        return ""
    targets = list(next(iter(own.values())).reached)
    head = ["temporal batch", "method", *COST, *(f"CPU s to AP {target}" for target in targets)]
    rows = [
        [
            f"{cell.batch_size:,}",
            cell.method,
            *(plain(result.figures[name], decimals) for name, decimals in COST.values()),
            *(seconds_to(result, target) for target in targets),
            *(plain(result.figures[name], decimals) for name, decimals in PRES.values()),
        ]
        for cell, result in own.items()
    ]
    return table([*head, *PRES], rows)


def seconds_to(result: CellResult, target: str) -> str:
    """Format the mean over the seeds that reach the target, and their number if not all do."""
    reached = result.reached.get(target, 0)
    text = plain(result.time_to.get(target), 1)
    return text if reached in (0, result.done) else f"{text} ({reached} of {result.done})"


def tolerance_table(sweep: SweepSpec, results: CellResults) -> str:
    """Return a table of the largest batches within tolerance of three references."""
    head = [
        "stream",
        "method",
        f"of itself at {sweep.base_batch:,}",
        f"of {sweep.config.baseline} at {sweep.base_batch:,}",
        "of its best batch",
    ]
    rows = [[row.stream, row.method, *map(batch, row.batches)] for row in tolerated(sweep, results)]
    return table(head, rows)


def tuned(values: Mapping[str, Any] | None) -> str:
    """Format tuned settings, e.g. `learning_rate 0.002`."""
    told = (f"{key.split('.')[-1]} {value}" for key, value in (values or {}).items())
    return ", ".join(told) or NONE


def interval(value: Estimate | None, decimals: int = 4, signed: bool = False) -> str:
    """Format as `0.9857 ± 0.0038`; without the interval if there is a single value."""
    if value is None:
        return NONE
    mean = f"{value.mean:{'+' if signed else ''}.{decimals}f}"
    return mean if value.half is None else f"{mean} ± {value.half:.{decimals}f}"


def plain(value: Estimate | None, decimals: int) -> str:
    """Format the mean alone."""
    return NONE if value is None else f"{value.mean:,.{decimals}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def batch(value: int | None) -> str:
    """Format a temporal batch for a table."""
    return NONE if value is None else f"{value:,}"
