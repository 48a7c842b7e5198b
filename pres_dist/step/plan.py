"""What a step will read and write, known before any state is: from the stream and the draws.

A worker computes one or several parts (time slices) of a temporal batch. It pulls the
nodes of all its parts at once.

Shapes: B events of a part, U distinct nodes of a part, V distinct nodes of all parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.memory.shard_layout import pulled_columns, pulled_of
from pres_dist.memory.state import Pulled
from pres_dist.model.neighborhood import repeated
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.delivery import Deliveries
from pres_dist.step.gather import Gathered


@dataclass(frozen=True)
class PlannedPart:
    """One time slice.

    Attributes:
        batch: its events.
        gathered: its nodes, and who reads them.
        rows_U: where its nodes are among those of the plan; None where it is the only part.
    """

    batch: TemporalBatch
    gathered: Gathered
    rows_U: Tensor | None

    def in_plan(self, index: Tensor) -> Tensor:
        """Places among the nodes of the plan, of places among those of the part."""
        return index if self.rows_U is None else self.rows_U[index]


@dataclass(frozen=True)
class Plan:
    """The parts that a worker computes in a step.

    Attributes:
        parts: in the order of time.
        nodes_V: sorted ids.
        writes: whether this worker pushes the endpoints of its events.
        writes_V: bool, nodes whose rows the step will push.
        observes_V: bool, negatives, whose transitions the step will tell; None where it tells
            of none.
        first_event: of the whole batch; None where reads do not lag behind it.
        deliveries: mail that the step will send; None where mailboxes do not roll.
        now: int64 time of the first event of the whole batch; likewise.
    """

    parts: Sequence[PlannedPart]
    nodes_V: Tensor
    writes: bool
    writes_V: Tensor
    observes_V: Tensor | None = None
    first_event: int | None = None
    deliveries: Deliveries | None = None
    now: Tensor | None = None


def plan_parts(
    batches: Sequence[TemporalBatch],
    gathered: Sequence[Gathered],
    writes: bool,
    observes: bool = False,
) -> Plan:
    """Put the parts of a step together.

    Args:
        batches: the time slices.
        gathered: the nodes of each.
        writes: whether this worker pushes the endpoints of its events.
        observes: whether the transitions of its negatives count.
    """
    if len(batches) == 1:
        nodes_V, rows = gathered[0].nodes_U, [None]
    else:
        nodes_V, index = torch.unique(
            torch.cat([part.nodes_U for part in gathered]), return_inverse=True
        )
        rows = list(index.split([part.nodes_U.numel() for part in gathered]))
    parts = [PlannedPart(*part) for part in zip(batches, gathered, rows, strict=True)]
    endpoints = [part.in_plan(part.gathered.index_2B) for part in parts] if writes else []
    negatives = [part.in_plan(part.gathered.index_BM.flatten()) for part in parts]
    return Plan(
        parts,
        nodes_V,
        writes,
        _mask(nodes_V, endpoints),
        _mask(nodes_V, negatives) if observes else None,
    )


def pulled_by(part: PlannedPart, pulled: Pulled) -> Pulled:
    """The rows of one part out of those of the plan."""
    return pulled if part.rows_U is None else pulled_rows(pulled, part.rows_U)


def pulled_rows(pulled: Pulled, rows_U: Tensor) -> Pulled:
    """Some rows of those of the plan."""
    columns = [column.index_select(0, rows_U) for column in pulled_columns(pulled)]
    return pulled_of(columns, pulled.version)


@dataclass(frozen=True)
class Written:
    """The nodes that some parts write or tell of, each once.

    Attributes:
        gathered: them alone.
        rows_U: where they are among those of the plan.
        by_part: each part's events, as rows of them; without hops.
    """

    gathered: Gathered
    rows_U: Tensor
    by_part: Sequence[Gathered]


def written_of(plan: Plan, numbers: Sequence[int]) -> Written:
    """What of the plan some of its parts write: endpoints and, where told of, negatives."""
    read = []
    for part in (plan.parts[number] for number in numbers):
        index_BM = part.gathered.index_BM
        index_BM = index_BM if plan.observes_V is not None else index_BM[:, :0]
        read.append((part.in_plan(part.gathered.index_2B), part.in_plan(index_BM)))
    flat = torch.cat([each.flatten() for pair in read for each in pair])
    once = repeated(flat, plan.nodes_V.numel())
    nodes_U = plan.nodes_V.index_select(0, once.rows_P)
    places = iter(once.place_Q.split([each.numel() for pair in read for each in pair]))
    by_part = [
        Gathered(nodes_U, next(places), next(places).view(index_BM.shape), [])
        for _, index_BM in read
    ]
    return Written(Gathered(nodes_U, flat[:0], flat[:0].view(0, 0), []), once.rows_P, by_part)


def _mask(nodes_V: Tensor, places: Sequence[Tensor]) -> Tensor:
    mask_V = torch.zeros_like(nodes_V, dtype=torch.bool)
    for place in places:
        mask_V[place] = True
    return mask_V
