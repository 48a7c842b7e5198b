"""A plan with its price in time and memory, and what the planner says of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pres_dist.planner.footprint import Part
from pres_dist.planner.plan import ParallelPlan
from pres_dist.planner.predict import StepCost


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
    """A plan with all that is known of it.

    Attributes:
        epoch_price: of an epoch on whole nodes; None where no price is known.
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
