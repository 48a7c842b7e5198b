"""A plan with its cost in time and memory, and the planner's advice."""

from __future__ import annotations

from dataclasses import dataclass, field

from pres_dist.planner.footprint import Part
from pres_dist.planner.plan import ParallelPlan
from pres_dist.planner.predict import StepCost


@dataclass(frozen=True)
class Bounds:
    """Limits on the choices of a plan that cost accuracy.

    Attributes:
        batch: largest temporal batch, in events.
        epochs: largest number of groups that draw their own negatives.
        replicas: largest number of memory replicas.
    """

    batch: int
    epochs: int = 1
    replicas: int = 1


@dataclass(frozen=True)
class Choice:
    """A plan with its predicted cost.

    Attributes:
        epoch_price: price of an epoch on whole nodes; None if no price is known.
    """

    plan: ParallelPlan
    cost: StepCost
    epoch_s: float
    efficiency: float
    inflation: float
    parts: list[Part]
    problems: list[str]
    epoch_price: float | None = None

    @property
    def fits(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Advice:
    """Advice of the planner.

    Attributes:
        best: the recommended plan; None if none fits.
        others: the other plans that fit, fastest first.
        refused: plans that do not fit, fastest first.
        why: reasons, one per line.
        fewer: the best plans for fewer workers, most workers first.
    """

    best: Choice | None
    others: list[Choice]
    refused: list[Choice]
    why: list[str]
    fewer: list[Choice] = field(default_factory=list)
