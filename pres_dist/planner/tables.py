"""Format a plan as tables for the terminal and as JSON. Every figure has its unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from pres_dist.planner.advice import Choice, Plan
from pres_dist.planner.footprint import Part, row_bytes
from pres_dist.planner.machine import Machine
from pres_dist.planner.units import duration, price, quantity

_SHOWN = 5


def print_plan(plan: Plan, console: Console) -> None:
    """Print the workload, the recommended layout with its cost, and the alternatives."""
    advice, planner, lossy = plan.advice, plan.planner, plan.losses
    work, rows = planner.workload, row_bytes(planner.workload.config)
    table = _table("workload", "", "")
    table.add_row("nodes, events", f"{work.num_nodes:,}, {work.num_events:,}")
    table.add_row("row of a node", f"{rows.state:,} B in a store")
    table.add_row(
        "row on the way",
        f"{rows.pull:,} B pulled, {rows.push:,} B pushed, {rows.observe:,} B observed",
    )
    table.add_row("machine", planner.machine.name)
    console.print(table)
    for note in (planner.machine.origin, planner.touch.origin, *plan.notes):
        console.print(f"- {note}", highlight=False, markup=False)

    console.print()
    title = "no plan" if advice.best is None else f"plan: {advice.best.layout}"
    console.print(f"[bold]{title}[/bold]  (slices x epochs x replicas)", highlight=False)
    for reason in advice.why:
        console.print(f"- {reason}", highlight=False, markup=False)
    if advice.best is not None:
        console.print(f"- run it with {advice.best.layout.options}", highlight=False)
    shown = advice.best or (advice.refused[0] if advice.refused else None)
    if shown is not None:
        console.print(_memory(shown.parts, planner.machine))
        console.print(_step(shown))
        if shown.epoch_price is not None:
            epochs = work.config.training.epochs
            nodes = planner.machine.num_nodes(shown.layout.workers)
            console.print(
                f"- price: {nodes:,} node{'s'[: nodes > 1]} of "
                f"{planner.machine.workers_per_node} workers at {planner.node_price:,g} an hour; "
                f"all {epochs} epochs cost {price(epochs * shown.epoch_price)}, without a head "
                "node, start, import, evaluation, storage and traffic",
                highlight=False,
            )
    if advice.best is not None and advice.others:
        console.print(_choices("runners-up", advice.others[:_SHOWN]))
    if advice.fewer:
        console.print(_choices("fewer workers", advice.fewer))

    if lossy is not None:
        columns = ("scenario", "staleness", "throughput", "waiting", "reading")
        table = _table("simulated", *columns)
        for row in plan.disturbed:
            shares = (row.throughput, row.found.waiting, row.found.reading)
            table.add_row(row.name, str(row.staleness), *(f"{share:.0%}" for share in shares))
        console.print(table)
        failures = lossy.failures
        restart = f"{duration(failures.save_s)}, {duration(failures.restart_s)}"
        table = _table("lost nodes, simulated", "", "")
        table.add_row("a failure somewhere every", duration(failures.mtbf_s))
        table.add_row("a checkpoint, a restart", restart)
        table.add_row("best time between checkpoints", duration(lossy.best_s))
        table.add_row("by Young, by Daly", f"{duration(lossy.young_s)}, {duration(lossy.daly_s)}")
        table.add_row("time that ends up in weights", f"{lossy.useful:.1%}")
        console.print(table)


def to_json(plan: Plan) -> dict[str, object]:
    """Return the whole plan as JSON values, in seconds, bytes and events."""
    planner, advice = plan.planner, plan.advice
    return {
        "nodes": planner.workload.num_nodes,
        "events": planner.workload.num_events,
        "machine": planner.machine.model_dump(),
        "price_per_hour": planner.node_price or None,
        "notes": [planner.machine.origin, planner.touch.origin, *plan.notes],
        "row_bytes": asdict(row_bytes(planner.workload.config)),
        "plan": None if advice.best is None else _values(advice.best),
        "why": advice.why,
        "others": [_values(choice) for choice in advice.others],
        "refused": [_values(choice) for choice in advice.refused],
        "fewer_workers": [_values(choice) for choice in advice.fewer],
        "disturbed": [asdict(row) for row in plan.disturbed],
        "losses": None if plan.losses is None else asdict(plan.losses),
    }


def _values(choice: Choice) -> dict[str, object]:
    cost = choice.cost
    return {
        **asdict(choice.layout),
        "step_seconds": cost.step_s,
        "epoch_seconds": choice.epoch_s,
        "epoch_price": choice.epoch_price,
        "events_per_second": cost.events_per_s,
        "efficiency": choice.efficiency,
        "work_inflation": choice.inflation,
        "seconds": {
            name: getattr(cost, f"{name}_s")
            for name in ("compute", "exchange", "reduce", "wait", "cpu")
        },
        "bytes": asdict(cost.bytes),
        "touched": asdict(cost.touched),
        "memory": [asdict(part) for part in choice.parts],
        "problems": choice.problems,
    }


def _memory(parts: Sequence[Part], machine: Machine) -> Table:
    table = _table("memory", "of a worker", "bytes")
    own = [part for part in parts if not part.of_node]
    for part in own:
        table.add_row(part.what, quantity(part.bytes, "B"))
    limit = quantity(machine.worker_memory_bytes, "B")
    table.add_row("in all", f"{quantity(sum(part.bytes for part in own), 'B')} of {limit}")
    limit = quantity(machine.node_memory_bytes, "B")
    for part in parts:
        if part.of_node:
            table.add_row(part.what, f"{quantity(part.bytes, 'B')} of {limit}")
    return table


def _step(choice: Choice) -> Table:
    cost, touched, moved = choice.cost, choice.cost.touched, choice.cost.bytes
    events = f"{cost.events:,}, {choice.layout.local_batch:,.1f}"
    rows = {
        "events: of a step, of a slice": events,
        "distinct nodes of a slice: pulled, written": f"{touched.pulled:,.0f}, "
        f"{touched.written:,.0f}",
        "a worker moves": quantity(moved.total, "B"),
        **{f"  {name}": quantity(number, "B") for name, number in vars(moved).items()},
        "time": duration(cost.step_s),
        **{f"  {name}": duration(seconds) for name, seconds in cost.phases.items()},
        "events a second": f"{cost.events_per_s:,.0f}",
        "an epoch": duration(choice.epoch_s),
    }
    if choice.epoch_price is not None:
        rows["an epoch costs"] = price(choice.epoch_price)
    rows["efficiency against one worker"] = f"{choice.efficiency:.2%}"
    rows["work inflation"] = f"{choice.inflation:,.2f}"
    table = _table("a step", "", "")
    for row in rows.items():
        table.add_row(*row)
    return table


def _choices(title: str, choices: Sequence[Choice]) -> Table:
    columns = ["workers", "slices x epochs x replicas", "step", "epoch", "efficiency"]
    priced = choices[0].epoch_price is not None
    table = _table(title, *columns, *(["an epoch costs"] if priced else []))
    for choice in choices:
        table.add_row(
            f"{choice.layout.workers:,}",
            str(choice.layout),
            duration(choice.cost.step_s),
            duration(choice.epoch_s),
            f"{choice.efficiency:.2%}",
            *([] if choice.epoch_price is None else [price(choice.epoch_price)]),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=any(columns))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table
