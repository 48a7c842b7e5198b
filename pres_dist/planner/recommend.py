"""Recommend a plan, with reasons and the runners-up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.events.builtin import load_stream
from pres_dist.planner.accuracy import largest_batch
from pres_dist.planner.choice import Advice, Bounds, Choice
from pres_dist.planner.config import PlanConfig
from pres_dist.planner.footprint import footprint, obstacles, over_limit
from pres_dist.planner.machine import (
    Machine,
    differing,
    load_machine,
    model_sizes,
    nearest_machine,
)
from pres_dist.planner.plan import ParallelPlan
from pres_dist.planner.power_law import assumed_touches
from pres_dist.planner.predict import efficiency, predict, work_inflation
from pres_dist.planner.reasons import why, why_none
from pres_dist.planner.touched import TouchModel, count_touches
from pres_dist.planner.workload import Workload, check_covered

AS_FAST = 0.05
"""Share by which a plan's epochs may take longer than the fastest and still count as fast. Among
fast plans, the one that costs the least accuracy is recommended."""
_SMALLEST_BATCH = 100


def make_planner(config: RunConfig, asked: PlanConfig) -> tuple[Planner, list[str]]:
    """Return the planner for a configuration, and notes on its assumptions.

    Raises:
        ConfigError: the cost of the model cannot be predicted, or a size is missing.
    """
    check_covered(config)
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
        numbers = asked.nodes, asked.events
        workload = Workload(
            config, *numbers, asked.edge_features, asked.node_features, asked.sources
        )
        touch = assumed_touches(config, *numbers, asked.sources, asked.zipf, asked.repeat_share)
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

    def choice(self, plan: ParallelPlan) -> Choice:
        """Predict the cost of a plan and list its problems."""
        known = (self.workload, plan, self.machine, self.touch)
        cost, parts = predict(*known), footprint(*known, self.spread)
        problems = obstacles(self.workload, self.spread) + over_limit(parts, self.machine)
        steps = self.workload.train_events / cost.events
        share, inflation = efficiency(*known), work_inflation(*known)
        epoch_s = steps * cost.step_s
        price = self._price(plan.workers, epoch_s)
        return Choice(plan, cost, epoch_s, share, inflation, parts, problems, price)

    def advise(self, workers: int) -> Advice:
        """Recommend a plan for a number of workers, and compare with fewer workers."""
        fitting, refused = self._sorted(workers)
        best = _preferred(fitting)
        others = [choice for choice in fitting if choice is not best]
        fewer = [choice for num in _fewer(workers) if (choice := self.best(num)) is not None]
        reasons = (
            why_none(workers, refused, self.bounds)
            if best is None
            else why(best, fitting, fewer, self.bounds)
        )
        return Advice(best, others, refused, reasons, fewer)

    def best(self, workers: int) -> Choice | None:
        """Return the recommended plan for a number of workers; None if none fits."""
        return _preferred(self._sorted(workers)[0])

    def batch_for(self, plan: ParallelPlan, wanted: float) -> int | None:
        """Return the smallest temporal batch at which a plan reaches an efficiency.

        None if no batch reaches it.
        """
        batch = max(plan.slices, _SMALLEST_BATCH)
        while batch * plan.replicas <= self.workload.train_events:
            tried = ParallelPlan(plan.slices, plan.epochs, plan.replicas, batch)
            if efficiency(self.workload, tried, self.machine, self.touch) >= wanted:
                return batch
            batch += max(batch // 8, 1)
        return None

    @property
    def with_whole_steps(self) -> Planner:
        """This planner with one optimizer step per temporal batch."""
        return replace(self, workload=self.workload.with_whole_steps)

    def batch_needed(self, plan: ParallelPlan, wanted: float) -> str:
        """Describe the temporal batch that PRES must keep accurate to reach an efficiency."""
        each = self.workload.config.training.events_per_step
        found = [("", self.batch_for(plan, wanted))]
        if each:
            found[0] = (f"with an optimizer step for every {each:,} events, ", found[0][1])
            found.append(
                (
                    "with one optimizer step a batch, ",
                    self.with_whole_steps.batch_for(plan, wanted),
                )
            )
        told = [f"{how}{self._batch_in_words(batch)}" for how, batch in found]
        return f"for an efficiency of {wanted:.0%}: {'; '.join(told)}"

    def _batch_in_words(self, batch: int | None) -> str:
        if batch is None:
            return "no temporal batch will do"
        relation = "within" if batch <= self.bounds.batch else "beyond"
        return (
            f"a temporal batch of {batch:,} events, which PRES must keep accurate, {relation} the "
            f"{self.bounds.batch:,} that are allowed"
        )

    def _price(self, workers: int, seconds: float) -> float | None:
        """Return the price of workers for some seconds; a partly used node is paid in full."""
        if not self.node_price:
            return None
        return self.node_price * self.machine.num_nodes(workers) * seconds / 3600

    def _sorted(self, workers: int) -> tuple[list[Choice], list[Choice]]:
        """Return the plans that fit and those that do not, fastest first."""
        choices = [self.choice(plan) for plan in plans(workers, self.bounds)]
        choices.sort(key=lambda choice: choice.epoch_s)
        return [one for one in choices if one.fits], [one for one in choices if not one.fits]


def plans(workers: int, bounds: Bounds) -> Iterator[ParallelPlan]:
    """Yield all plans within the bounds; a slice has at least one event."""
    for replicas in _divisors(workers, bounds.replicas):
        for epochs in _divisors(workers // replicas, bounds.epochs):
            slices = workers // replicas // epochs
            for batch in _batches(bounds.batch):
                if batch >= slices:
                    yield ParallelPlan(slices, epochs, replicas, batch)


def _divisors(number: int, most: int) -> list[int]:
    return [part for part in range(1, min(number, most) + 1) if number % part == 0]


def _batches(largest: int) -> list[int]:
    """Return the largest batch and its repeated halves."""
    batches = [largest]
    while batches[-1] // 2 >= _SMALLEST_BATCH:
        batches.append(batches[-1] // 2)
    return batches


def _fewer(workers: int) -> list[int]:
    """Return the powers of two below `workers`, largest first."""
    return [1 << power for power in reversed(range((workers - 1).bit_length()))]


def _preferred(choices: list[Choice]) -> Choice | None:
    """Return the plan that costs the least accuracy among those nearly as fast as the fastest."""
    if not choices:
        return None
    limit = choices[0].epoch_s * (1 + AS_FAST)

    def costs(choice: Choice) -> tuple[float, ...]:
        plan = choice.plan
        return plan.replicas, plan.batch, -plan.epochs, choice.epoch_s

    return min((choice for choice in choices if choice.epoch_s <= limit), key=costs)
