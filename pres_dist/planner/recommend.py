"""Which plan to take, why, and what the next ones would be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pres_dist.planner.footprint import Part, footprint, obstacles, over_limit
from pres_dist.planner.machine import Machine
from pres_dist.planner.plan import ParallelPlan
from pres_dist.planner.predict import StepCost, efficiency, predict, work_inflation
from pres_dist.planner.touched import TouchModel
from pres_dist.planner.units import duration
from pres_dist.planner.workload import Workload

AS_FAST = 0.05
"""Plans whose epochs take this share longer than the fastest count as fast: what they cost in
accuracy decides among them."""
_SMALLEST_BATCH = 100


@dataclass(frozen=True)
class Bounds:
    """What a plan may cost in accuracy.

    Attributes:
        batch: largest temporal batch.
        epochs: most groups with negatives of their own.
        replicas: most memory replicas.
    """

    batch: int
    epochs: int = 1
    replicas: int = 1


@dataclass(frozen=True)
class Choice:
    """A plan with all that is known of it."""

    plan: ParallelPlan
    cost: StepCost
    epoch_s: float
    efficiency: float
    inflation: float
    parts: list[Part]
    problems: list[str]

    @property
    def fits(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Advice:
    """What the planner says.

    Attributes:
        best: the plan to take; None where none fits.
        others: the rest that fit, fastest first.
        refused: plans that do not fit, fastest first.
        why: reasons, one a line.
        fewer: the best plan of fewer workers, most workers first.
    """

    best: Choice | None
    others: list[Choice]
    refused: list[Choice]
    why: list[str]
    fewer: list[Choice] = field(default_factory=list)


@dataclass(frozen=True)
class Planner:
    """Weighs plans for one workload on one kind of machine.

    Attributes:
        spread: parts of memory that count as if they were spread over workers.
    """

    workload: Workload
    machine: Machine
    touch: TouchModel
    bounds: Bounds
    spread: tuple[str, ...] = ()

    def choice(self, plan: ParallelPlan) -> Choice:
        """All that is known of a plan."""
        known = (self.workload, plan, self.machine, self.touch)
        cost, parts = predict(*known), footprint(*known, self.spread)
        problems = obstacles(self.workload, self.spread) + over_limit(parts, self.machine)
        steps = self.workload.train_events / cost.events
        share, inflation = efficiency(*known), work_inflation(*known)
        return Choice(plan, cost, steps * cost.step_s, share, inflation, parts, problems)

    def advise(self, workers: int) -> Advice:
        """The plan to take with so many workers, and what fewer of them would do."""
        fitting, refused = self._sorted(workers)
        best = _preferred(fitting)
        others = [choice for choice in fitting if choice is not best]
        fewer = [choice for num in _fewer(workers) if (choice := self.best(num)) is not None]
        why = (
            _why_none(workers, refused, self.bounds)
            if best is None
            else _why(best, fitting, fewer, self.bounds)
        )
        return Advice(best, others, refused, why, fewer)

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
        """The same with one optimiser step over each temporal batch."""
        return replace(self, workload=self.workload.with_whole_steps)

    def batch_needed(self, plan: ParallelPlan, wanted: float) -> str:
        """What PRES would have to keep accurate for an efficiency, in words."""
        each = self.workload.config.training.events_per_step
        found = [("", self.batch_for(plan, wanted))]
        if each:
            found[0] = (f"with an optimiser step for every {each:,} events, ", found[0][1])
            found.append(
                (
                    "with one optimiser step a batch, ",
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


def _why(best: Choice, fitting: list[Choice], fewer: list[Choice], bounds: Bounds) -> list[str]:
    fastest, plan = fitting[0], best.plan
    lines = [
        f"{len(fitting)} plans fit; {plan} is the fastest"
        if fastest is best
        else f"{len(fitting)} plans fit; {plan} takes {best.epoch_s / fastest.epoch_s - 1:.1%} "
        f"longer than the fastest, {fastest.plan}, and costs less accuracy"
    ]
    if plan.batch == bounds.batch:
        lines.append(f"its temporal batch is the largest that accuracy allows, {bounds.batch:,}")
    if plan.replicas > 1:
        lines.append(
            f"{plan.replicas} memory replicas give each step {plan.replicas} times the events; "
            "two cost 0.3 to 0.7 points of AP on wikipedia (docs/distributed.md)"
        )
    if plan.epochs > 1:
        lines.append(
            f"{plan.epochs} groups draw negatives of their own, at hardly any time: slices of "
            f"{plan.local_batch:,.1f} events are too small to gain by being cut further"
        )
    cost = best.cost
    shares = {
        "computing": cost.compute_s,
        "exchanging rows": cost.exchange_s,
        "adding up gradients": cost.reduce_s,
        "waiting for the slowest": cost.wait_s,
    }
    told = ", ".join(f"{part / cost.step_s:.0%} {name}" for name, part in shares.items())
    lines.append(f"of a step: {told}")
    quicker = min(fewer, key=lambda choice: choice.epoch_s, default=best)
    if quicker.epoch_s < best.epoch_s:
        lines.append(
            f"{quicker.plan.workers:,} workers are faster than {plan.workers:,}: an epoch takes "
            f"{duration(quicker.epoch_s)} and not {duration(best.epoch_s)}"
        )
    return lines


def _nearest(refused: list[Choice]) -> Choice:
    """The fastest of those with the fewest problems."""
    return min(refused, key=lambda choice: len(choice.problems))


def _why_none(workers: int, refused: list[Choice], bounds: Bounds) -> list[str]:
    if not refused:
        return [
            f"no plan: {workers:,} workers cannot be laid out as slices x epochs x replicas "
            f"with at most {bounds.epochs} epochs, {bounds.replicas} replicas and an event for "
            f"each slice of {bounds.batch:,}; --largest-batch, --largest-epochs and "
            "--largest-replicas allow more, fewer workers need less"
        ]
    nearest = _nearest(refused)
    return [
        f"none of {len(refused)} plans fits; {nearest.plan} does not because",
        *nearest.problems,
        "--spread PART,... tells what would be the plan if such parts were spread over workers, "
        "which this version does not do",
    ]
