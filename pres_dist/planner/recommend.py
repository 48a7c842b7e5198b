"""Which plan to take, why, and what the next ones would be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pres_dist.planner.choice import Advice, Bounds, Choice
from pres_dist.planner.footprint import footprint, obstacles, over_limit
from pres_dist.planner.machine import Machine
from pres_dist.planner.plan import ParallelPlan
from pres_dist.planner.predict import efficiency, predict, work_inflation
from pres_dist.planner.reasons import why, why_none
from pres_dist.planner.touched import TouchModel
from pres_dist.planner.workload import Workload

AS_FAST = 0.05
"""Plans whose epochs take this share longer than the fastest count as fast: what they cost in
accuracy decides among them."""
_SMALLEST_BATCH = 100


@dataclass(frozen=True)
class Planner:
    """Weighs plans for one workload on one kind of machine.

    Attributes:
        spread: parts of memory that count as if they were spread over workers.
        node_price: of a node and hour; 0 where it is not known.
    """

    workload: Workload
    machine: Machine
    touch: TouchModel
    bounds: Bounds
    spread: tuple[str, ...] = ()
    node_price: float = 0.0

    def choice(self, plan: ParallelPlan) -> Choice:
        """All that is known of a plan."""
        known = (self.workload, plan, self.machine, self.touch)
        cost, parts = predict(*known), footprint(*known, self.spread)
        problems = obstacles(self.workload, self.spread) + over_limit(parts, self.machine)
        steps = self.workload.train_events / cost.events
        share, inflation = efficiency(*known), work_inflation(*known)
        epoch_s = steps * cost.step_s
        price = self._price(plan.workers, epoch_s)
        return Choice(plan, cost, epoch_s, share, inflation, parts, problems, price)

    def advise(self, workers: int) -> Advice:
        """The plan to take with so many workers, and what fewer of them would do."""
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
        """The plan to take with so many workers; None where none fits."""
        return _preferred(self._sorted(workers)[0])

    def batch_for(self, plan: ParallelPlan, wanted: float) -> int | None:
        """The smallest temporal batch at which a plan has an efficiency; None where none has."""
        batch = max(plan.slices, _SMALLEST_BATCH)
        while batch * plan.replicas <= self.workload.train_events:
            tried = ParallelPlan(plan.slices, plan.epochs, plan.replicas, batch)
            if efficiency(self.workload, tried, self.machine, self.touch) >= wanted:
                return batch
            batch += max(batch // 8, 1)
        return None

    @property
    def with_whole_steps(self) -> Planner:
        """The same with one optimizer step over each temporal batch."""
        return replace(self, workload=self.workload.with_whole_steps)

    def batch_needed(self, plan: ParallelPlan, wanted: float) -> str:
        """What PRES would have to keep accurate for an efficiency, in words."""
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
        """Of so many workers for so long; a node that is not full is paid in full."""
        if not self.node_price:
            return None
        return self.node_price * self.machine.num_nodes(workers) * seconds / 3600

    def _sorted(self, workers: int) -> tuple[list[Choice], list[Choice]]:
        """Plans that fit and plans that do not, fastest first."""
        choices = [self.choice(plan) for plan in plans(workers, self.bounds)]
        choices.sort(key=lambda choice: choice.epoch_s)
        return [one for one in choices if one.fits], [one for one in choices if not one.fits]


def plans(workers: int, bounds: Bounds) -> Iterator[ParallelPlan]:
    """All plans within the bounds; a slice has at least one event."""
    for replicas in _divisors(workers, bounds.replicas):
        for epochs in _divisors(workers // replicas, bounds.epochs):
            slices = workers // replicas // epochs
            for batch in _batches(bounds.batch):
                if batch >= slices:
                    yield ParallelPlan(slices, epochs, replicas, batch)


def _divisors(number: int, most: int) -> list[int]:
    return [part for part in range(1, min(number, most) + 1) if number % part == 0]


def _batches(largest: int) -> list[int]:
    """The largest batch, and halves of it."""
    batches = [largest]
    while batches[-1] // 2 >= _SMALLEST_BATCH:
        batches.append(batches[-1] // 2)
    return batches


def _fewer(workers: int) -> list[int]:
    """Powers of two below."""
    return [1 << power for power in reversed(range((workers - 1).bit_length()))]


def _preferred(choices: list[Choice]) -> Choice | None:
    """Of those that are as fast as the fastest, the one that costs least accuracy."""
    if not choices:
        return None
    limit = choices[0].epoch_s * (1 + AS_FAST)

    def costs(choice: Choice) -> tuple[float, ...]:
        plan = choice.plan
        return plan.replicas, plan.batch, -plan.epochs, choice.epoch_s

    return min((choice for choice in choices if choice.epoch_s <= limit), key=costs)
