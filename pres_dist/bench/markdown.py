"""Write report.md: the tables of a sweep, ready for a documentation page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pres_dist.bench.cells import CellResult, Results
from pres_dist.bench.goals import goal_lines, tolerated
from pres_dist.bench.plan import Cell, Sweep
from pres_dist.bench.statistics import Estimate

NONE = "-"
MARKS = {"better": " ▲", "worse": " ▼", "equal within interval": " ="}
"""Mark after an AP in the overview table, by verdict; other verdicts have none."""


def markdown(sweep: Sweep, results: Results) -> str:
    """Return the whole page."""
    parts = [
        f"# {sweep.config.name}",
        "\n".join(f"- {line}" for line in goal_lines(sweep, results)),
    ]
    parts += ["## Test AP", overview_table(sweep, results)]
    for stream in sweep.config.streams:
        parts += [f"## {stream}", accuracy_table(sweep, results, stream)]
        parts += [cost_table(sweep, results, stream)]
    parts += ["## Largest batch within tolerance", tolerance_table(sweep, results)]
    if len(sweep.grid) > 1:
        parts += ["## Tuned", tuning_table(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def overview_table(sweep: Sweep, results: Results) -> str:
    """Return a table of the test AP of every cell, marked against the method compared with.

    ▲ is better, ▼ worse, = neither.
    """
    head = ["stream", "temporal batch", *sweep.methods]
    rows = []
    for stream in sweep.config.streams:
        for size in sorted(sweep.config.batch_sizes):
            cells = [results.get(Cell(stream, size, method)) for method in sweep.methods]
            rows.append([stream, batch(size), *(short_accuracy(cell) for cell in cells)])
    return table(head, rows)


def short_accuracy(result: CellResult | None) -> str:
    """Format a cell as `0.9857 ± 0.0038 ▲`, with the number of seeds if some are missing."""
    if result is None or result.figures["ap"] is None or result.diverged:
        return "diverged" if result is not None and result.diverged else NONE
    text = interval(result.figures["ap"]) + MARKS.get(result.verdict, "")
    return text if result.done == result.planned else f"{text} (n = {result.done})"


def accuracy_table(sweep: Sweep, results: Results, stream: str) -> str:
    """Return a table of test AP and MRR with intervals and verdicts, by batch and method."""
    methods = list(sweep.methods)
    rows = []
    for size in sorted(sweep.config.batch_sizes):
        cells = [results.get(Cell(stream, size, method)) for method in methods]
        rows.append([batch(size), *(accuracy(cell) for cell in cells)])
    return table(["temporal batch", *(f"{method}: AP, MRR" for method in methods)], rows)


def accuracy(result: CellResult | None) -> str:
    """Format AP, MRR and verdict of a cell, and the number of missing or diverged seeds.

    For example `0.9857 ± 0.0038 (MRR 0.8907 ± 0.0041); better (+0.0011 ± 0.0004)`.
    """
    if result is None or (result.figures["ap"] is None and not result.diverged):
        return NONE
    text = f"{interval(result.figures['ap'])} (MRR {interval(result.figures['mrr'])})"
    if result.diverged:
        text += f"; {result.diverged} of {result.planned} diverged"
    elif result.done < result.planned:
        text += f"; {result.done} of {result.planned} seeds"
    if result.verdict:
        text += f"; {result.verdict}"
        text += f" ({interval(result.difference, signed=True)})" if result.difference else ""
    return text


def cost_table(sweep: Sweep, results: Results, stream: str) -> str:
    """Return a table of the cost of each cell and the figures of PRES."""
    targets = list(next((r.reached for c, r in results.items() if c.stream == stream), {}))
    head = [
        "temporal batch",
        "method",
        "epochs",
        "optimizer steps",
        "s an epoch",
        "CPU us an event",
    ]
    head += [f"CPU s to AP {target}" for target in targets]
    head += ["gate", "coherence", "prediction / persistence", "pending events"]
    rows = []
    for cell, result in results.items():
        if cell.stream != stream:
            continue
        figure = result.figures
        row = [f"{cell.batch_size:,}", cell.method, plain(figure["epochs"], 0)]
        row += [plain(figure["optimizer_steps"], 0), plain(figure["seconds_per_epoch"], 1)]
        row += [plain(figure["cpu_microseconds_per_event"], 0)]
        row += [seconds_to(result, target) for target in targets]
        row += [plain(figure[name], 2) for name in ("gate", "coherence", "prediction_ratio")]
        rows.append([*row, plain(figure["pending_events"], 1)])
    return table(head, rows) if rows else ""


def seconds_to(result: CellResult, target: str) -> str:
    """Format the mean over the seeds that reach the target, and their number if not all do."""
    reached = result.reached.get(target, 0)
    text = plain(result.time_to.get(target), 1)
    return text if reached in (0, result.done) else f"{text} ({reached} of {result.done})"


def tolerance_table(sweep: Sweep, results: Results) -> str:
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


def tuning_table(results: Results) -> str:
    """Return a table of the tuned settings of each cell."""
    rows = [
        [cell.stream, f"{cell.batch_size:,}", cell.method, tuned(result.tuned)]
        for cell, result in results.items()
    ]
    return table(["stream", "temporal batch", "method", "chosen"], rows)


def tuned(values: Any) -> str:
    """Format tuned settings, e.g. `learning_rate 0.002`."""
    return (
        ", ".join(f"{key.split('.')[-1]} {value}" for key, value in (values or {}).items()) or NONE
    )


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
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def batch(value: int | None) -> str:
    """Format a temporal batch for a table."""
    return NONE if value is None else f"{value:,}"
