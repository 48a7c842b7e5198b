"""Advice on the layout of a run: from a configuration to a recommended layout, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.events.builtin import load_stream
from pres_dist.planner.failures import Lossy, losses
from pres_dist.planner.footprint import Part, footprint, obstacles, over_limit
from pres_dist.planner.layout import SMALLEST_BATCH, Bounds, Layout, largest_batch, layouts
from pres_dist.planner.machine import (
    Machine,
    differing,
    load_machine,
    model_sizes,
    nearest_machine,
)
from pres_dist.planner.plan_config import PlanConfig
from pres_dist.planner.power_law import assumed_touches
from pres_dist.planner.predict import (
    StepCost,
    efficiency,
    one_worker,
    predict,
    work_inflation,
)
from pres_dist.planner.simulate import Disturbed, cluster_of, disturbed
from pres_dist.planner.touched import TouchModel, count_touches
from pres_dist.planner.units import duration
from pres_dist.planner.workload import Workload

AS_FAST = 0.05
"""Share by which a layout's epochs may take longer than the fastest and still count as fast.
Among fast layouts, the one that costs the least accuracy is recommended."""


@dataclass(frozen=True)
class Choice:
    """A layout with its predicted cost.

    Attributes:
        epoch_price: price of an epoch on whole nodes; None if no price is known.
    """

    layout: Layout
    cost: StepCost
    epoch_s: float
    efficiency: float
    inflation: float
    parts: list[Part]
    problems: list[str]
    epoch_price: float | None = None

    @property
    def fits(self) -> bool:
        """Return True if the layout has no problems."""
        return not self.problems


@dataclass(frozen=True)
class Advice:
    """Advice of the planner.

    Attributes:
        best: the recommended layout; None if none fits.
        others: the other layouts that fit, fastest first.
        refused: layouts that do not fit, fastest first.
        why: reasons, one per line.
        fewer: the best layouts for fewer workers, most workers first.
    """

    best: Choice | None
    others: list[Choice]
    refused: list[Choice]
    why: list[str]
    fewer: list[Choice] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """Output of the planner.

    Attributes:
        planner: the workload and the machine of the plan.
        notes: assumptions, one per line.
        advice: the recommended layout, reasons and alternatives.
        disturbed: simulated stragglers and slow shards, if asked for.
        losses: simulated failures of nodes, if asked for.
    """

    planner: Planner
    notes: list[str]
    advice: Advice
    disturbed: list[Disturbed] = field(default_factory=list)
    losses: Lossy | None = None


def make_plan(config: RunConfig, asked: PlanConfig) -> Plan:
    """Return the plan for a configuration.

    Raises:
        ConfigError: the cost of the model cannot be predicted, or a size is missing.
    """
    planner, notes = make_planner(config, asked)
    advice = planner.advise(asked.workers)
    if advice.best is None:
        return Plan(planner, notes, advice)
    layout, machine = advice.best.layout, planner.machine
    advice.why.append(planner.batch_needed(layout, asked.efficiency))
    quicker = _quicker(advice.best, advice.fewer)
    if quicker is not None:
        advice.why.extend(planner.pays_if(layout, quicker.layout))
    if not asked.simulate:
        return Plan(planner, notes, advice)
    rows = disturbed(cluster_of(advice.best.cost, layout, machine))
    lossy = losses(planner.workload, layout, machine, asked.mtbf_hours, asked.restart_seconds)
    return Plan(planner, notes, advice, rows, lossy)


def make_planner(config: RunConfig, asked: PlanConfig) -> tuple[Planner, list[str]]:
    """Return the planner for a configuration, and notes on its assumptions."""
    if not config.model.has_memory:
        raise ConfigError(
            f"pres-dist plan is for models with a memory, got model.kind {config.model.kind}"
        )
    if config.model.updater == "attention":
        raise ConfigError(
            "pres-dist plan does not cover mailboxes that roll (model.updater attention): the "
            "cost of their deliveries is not modeled"
        )
    if config.memory.store == "server":
        raise ConfigError("pres-dist plan covers memory.store auto, local and sharded, got server")
    sizes = model_sizes(config.model_dump())
    machine = load_machine(asked.machine) if asked.machine else nearest_machine(sizes)
    stream = load_stream(asked.stream, config.data.max_events) if asked.stream else None
    if stream is None and not (asked.nodes and asked.events):
        raise ConfigError(
            "command line: pres-dist plan needs --nodes and --events, or --stream, got "
            f"--nodes {asked.nodes}, --events {asked.events} and no stream"
        )
    if asked.sources and asked.nodes and asked.sources >= asked.nodes:
        raise ConfigError(
            f"command line: --sources must be below --nodes ({asked.nodes:,}), got "
            f"{asked.sources:,}"
        )
    batch = asked.largest_batch or largest_batch(config.preset)
    measured = "as asked" if asked.largest_batch else f"as measured for preset {config.preset}"
    notes = [f"temporal batch of {batch:,} events at most: {measured}"]
    others = differing(machine, sizes)
    if others:
        notes.append(
            "compute rates are of another model, calibrate anew: measured with " + ", ".join(others)
        )
    touch: TouchModel
    if stream is None:
        workload = Workload(
            config,
            asked.nodes,
            asked.events,
            asked.edge_features,
            asked.node_features,
            asked.sources,
        )
        touch = assumed_touches(
            config, asked.nodes, asked.events, asked.sources, asked.zipf, asked.repeat_share
        )
    else:
        workload = Workload(
            config,
            asked.nodes or stream.num_nodes,
            asked.events or stream.num_events,
            stream.edge_dim,
            stream.node_dim,
            stream.num_sources or 0,
        )
        touch = count_touches(stream, config, batch)
    bounds = Bounds(batch, asked.largest_epochs, asked.largest_replicas)
    spread, price = tuple(asked.spread), asked.price_per_hour
    return Planner(workload, machine, touch, bounds, spread, price), notes


@dataclass(frozen=True)
class Planner:
    """Planner for one workload on one kind of machine.

    Attributes:
        spread: parts of memory to count as if they were sharded over workers.
        node_price: price of a node per hour; 0 if unknown.
    """

    workload: Workload
    machine: Machine
    touch: TouchModel
    bounds: Bounds
    spread: tuple[str, ...] = ()
    node_price: float = 0.0

    def advise(self, workers: int) -> Advice:
        """Recommend a layout for a number of workers, and compare with fewer workers."""
        fitting, refused = self._choices(workers)
        best = _preferred(fitting)
        smaller = (1 << power for power in reversed(range((workers - 1).bit_length())))
        fewer = [choice for num in smaller if (choice := _preferred(self._choices(num)[0]))]
        if best is None:
            why = _why_none(workers, refused, self.bounds)
        else:
            why = _why(best, fitting, fewer, self.bounds)
        others = [choice for choice in fitting if choice is not best]
        return Advice(best, others, refused, why, fewer)

    def choice(self, layout: Layout) -> Choice:
        """Predict the cost of a layout and list its problems."""
        known = (self.workload, layout, self.machine, self.touch)
        cost, parts = predict(*known), footprint(*known, self.spread)
        alone = one_worker(self.workload, layout.batch, self.machine, self.touch)
        problems = obstacles(self.workload, self.spread) + over_limit(parts, self.machine)
        epoch_s = self.workload.train_events / cost.events * cost.step_s
        price = None
        if self.node_price:  # a partly used node is paid in full
            price = self.node_price * self.machine.num_nodes(layout.workers) * epoch_s / 3600
        share = efficiency(cost, layout.workers, alone)
        inflation = work_inflation(cost, layout.workers, alone)
        return Choice(layout, cost, epoch_s, share, inflation, parts, problems, price)

    def batch_for(self, layout: Layout, wanted: float) -> int | None:
        """Return the smallest temporal batch at which a layout reaches an efficiency.

        None if no batch reaches it.
        """
        for batch in self._batches(layout, max(layout.slices, SMALLEST_BATCH)):
            tried = replace(layout, batch=batch)
            cost = predict(self.workload, tried, self.machine, self.touch)
            alone = one_worker(self.workload, batch, self.machine, self.touch)
            if efficiency(cost, layout.workers, alone) >= wanted:
                return batch
        return None

    def batch_needed(self, layout: Layout, wanted: float) -> str:
        """Describe the temporal batch that PRES must keep accurate to reach an efficiency."""
        each, found = self.workload.config.training.events_per_step, []
        if each:
            whole = replace(self, workload=self.workload.with_whole_steps)
            found = [
                (f"with an optimizer step for every {each:,} events, ", self),
                ("with one optimizer step a batch, ", whole),
            ]
        told = []
        for how, planner in found or [("", self)]:
            batch = planner.batch_for(layout, wanted)
            if batch is None:
                told.append(f"{how}no temporal batch will do")
                continue
            relation = "within" if batch <= self.bounds.batch else "beyond"
            told.append(
                f"{how}a temporal batch of {batch:,} events, which PRES must keep accurate, "
                f"{relation} the {self.bounds.batch:,} that are allowed"
            )
        return f"for an efficiency of {wanted:.0%}: {'; '.join(told)}"

    def pays_if(self, layout: Layout, quicker: Layout) -> list[str]:
        """Describe the temporal batch and the stream for which more workers pay."""

        def faster(batch: int) -> bool:
            more, fewer = (self.choice(replace(one, batch=batch)) for one in (layout, quicker))
            return more.epoch_s < fewer.epoch_s

        number = f"{layout.workers:,} workers"
        batch = next((one for one in self._batches(layout, layout.batch) if faster(one)), None)
        lines = [
            f"no temporal batch of this stream makes {number} faster"
            if batch is None
            else f"{number} are faster from a temporal batch of {batch:,} events on"
        ]
        num_nodes = self.workload.num_nodes
        for larger in (num_nodes << power for power in range(1, 40)):
            stream = replace(self, workload=replace(self.workload, num_nodes=larger))
            if not stream.choice(quicker).fits:
                if stream.choice(layout).fits:
                    lines.append(
                        f"{number} are needed for a stream of {larger:,} nodes, whose memory does "
                        f"not fit {quicker.workers:,}"
                    )
                break
        return lines

    def _batches(self, layout: Layout, batch: int) -> Iterator[int]:
        """Yield temporal batches from the given one up to the training split."""
        while batch * layout.replicas <= self.workload.train_events:
            yield batch
            batch += max(batch // 8, 1)

    def _choices(self, workers: int) -> tuple[list[Choice], list[Choice]]:
        """Return the layouts that fit and those that do not, fastest first."""
        choices = [self.choice(layout) for layout in layouts(workers, self.bounds)]
        choices.sort(key=lambda choice: choice.epoch_s)
        return [one for one in choices if one.fits], [one for one in choices if not one.fits]


def _preferred(choices: list[Choice]) -> Choice | None:
    """Return the layout that costs the least accuracy among those nearly as fast as the first."""
    fast = [one for one in choices if one.epoch_s <= choices[0].epoch_s * (1 + AS_FAST)]

    def accuracy_cost(choice: Choice) -> tuple[float, ...]:
        layout = choice.layout
        return layout.replicas, layout.batch, -layout.epochs, choice.epoch_s

    return min(fast, key=accuracy_cost, default=None)


def _why(best: Choice, fitting: list[Choice], fewer: list[Choice], bounds: Bounds) -> list[str]:
    """Return the reasons for the recommended layout, one per line."""
    fastest, layout, cost = fitting[0], best.layout, best.cost
    fit = "1 plan fits" if len(fitting) == 1 else f"{len(fitting)} plans fit"
    lines = [
        f"{fit}; {layout} is the fastest"
        if fastest is best
        else f"{fit}; {layout} takes {best.epoch_s / fastest.epoch_s - 1:.1%} "
        f"longer than the fastest, {fastest.layout}, and costs less accuracy"
    ]
    if layout.batch == bounds.batch:
        lines.append(f"its temporal batch is the largest that accuracy allows, {bounds.batch:,}")
    if layout.replicas > 1:
        lines.append(
            f"{layout.replicas} memory replicas give each step {layout.replicas} times the "
            "events; two cost 0.3 to 0.7 points of AP on wikipedia (docs/guides/distributed.md)"
        )
    if layout.epochs > 1:
        lines.append(
            f"{layout.epochs} groups draw negatives of their own, at hardly any time: slices of "
            f"{layout.local_batch:,.1f} events are too small to gain by being cut further"
        )
    shares = (f"{seconds / cost.step_s:.0%} {name}" for name, seconds in cost.phases.items())
    lines.append(f"of a step: {', '.join(shares)}")
    quicker = _quicker(best, fewer)
    if quicker is not None:
        number = quicker.layout.workers
        lines.append(
            f"{'1 worker is' if number == 1 else f'{number:,} workers are'} faster than "
            f"{layout.workers:,}: an epoch takes {duration(quicker.epoch_s)} and not "
            f"{duration(best.epoch_s)}"
        )
    return lines


def _quicker(best: Choice, fewer: list[Choice]) -> Choice | None:
    """Return the fastest layout of fewer workers if it is faster than the best of all workers."""
    quicker = min(fewer, key=lambda choice: choice.epoch_s, default=best)
    return quicker if quicker.epoch_s < best.epoch_s else None


def _why_none(workers: int, refused: list[Choice], bounds: Bounds) -> list[str]:
    """Return the reasons why no layout fits, one per line."""
    if not refused:
        return [
            f"no plan: {workers:,} workers cannot be laid out as slices x epochs x replicas "
            f"with at most {bounds.epochs} epochs, {bounds.replicas} replicas and an event for "
            f"each slice of {bounds.batch:,}; --largest-batch, --largest-epochs and "
            "--largest-replicas allow more, fewer workers need less"
        ]
    nearest = min(refused, key=lambda choice: len(choice.problems))  # and the fastest of these
    return [
        f"the only plan, {nearest.layout}, does not fit because"
        if len(refused) == 1
        else f"none of {len(refused)} plans fits; {nearest.layout} does not because",
        *nearest.problems,
        "--spread PART,... tells what would be the plan if such parts were spread over workers, "
        "which this version does not do",
    ]
