"""Plans: what a step will read and write, derived from the stream and the sampled negatives.

A plan needs no node state. A worker computes one or several parts (time slices) of a
temporal batch and pulls the nodes of all its parts at once.

Shapes: B events of a part, U distinct nodes of a part, V distinct nodes of all parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.memory.state import Pulled
from pres_dist.model.neighborhood import distinct_rows
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.gather import Gathered
from pres_dist.step.mail import Deliveries


@dataclass(frozen=True)
class PlannedPart:
    """One time slice of a step.

    Attributes:
        batch: its events.
        gathered: its nodes, and the queries' indices into them.
        rows_U: indices of its nodes among the plan's nodes; None if it is the only part.
    """

    batch: TemporalBatch
    gathered: Gathered
    rows_U: Tensor | None

    def in_plan(self, index: Tensor) -> Tensor:
        """Map indices into the part's nodes to indices into the plan's nodes."""
        return index if self.rows_U is None else self.rows_U[index]

    def pulled(self, of_plan: Pulled) -> Pulled:
        """Return the part's rows of the plan's state."""
        return of_plan if self.rows_U is None else of_plan.rows(self.rows_U)


@dataclass(frozen=True)
class Plan:
    """The parts that a worker computes in a step.

    Attributes:
        parts: the parts, in time order.
        nodes_V: sorted ids.
        writes: whether this worker pushes the endpoints of its events.
        writes_V: bool, nodes whose rows the step will push.
        observes_V: bool, negatives whose transitions the step will observe; None if it observes
            none.
        unread_before: first event of the whole batch, if the state that is read may lack events
            before it; None if it lacks none.
        deliveries: mail that the step will send; None without FIFO mailboxes.
        now: int64 time of the first event of the whole batch; None without FIFO mailboxes.
    """

    parts: Sequence[PlannedPart]
    nodes_V: Tensor
    writes: bool
    writes_V: Tensor
    observes_V: Tensor | None = None
    unread_before: int | None = None
    deliveries: Deliveries | None = None
    now: Tensor | None = None


def plan_parts(
    batches: Sequence[TemporalBatch],
    gathered: Sequence[Gathered],
    writes: bool,
    observes: bool = False,
) -> Plan:
    """Combine the parts of a step into a plan.

    Args:
        batches: the time slices.
        gathered: the nodes of each.
        writes: whether this worker pushes the endpoints of its events.
        observes: whether the step observes the transitions of its negatives.
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


@dataclass(frozen=True)
class Written:
    """The distinct nodes that some parts write or observe.

    Attributes:
        nodes_U: their ids.
        rows_U: their indices among the plan's nodes.
        by_part: each part's events, as indices into these nodes; without hops.
    """

    nodes_U: Tensor
    rows_U: Tensor
    by_part: Sequence[Gathered]


def written_of(plan: Plan, numbers: Sequence[int]) -> Written:
    """Collect the nodes that the given parts write: endpoints and observed negatives."""
    read = []
    for part in (plan.parts[number] for number in numbers):
        index_BM = part.gathered.index_BM
        index_BM = index_BM if plan.observes_V is not None else index_BM[:, :0]
        read.append((part.in_plan(part.gathered.index_2B), part.in_plan(index_BM)))
    # Each node once, also if several parts touch it: all writes of a node must be the same bits.
    flat = torch.cat([each.flatten() for pair in read for each in pair])
    rows_U, place = distinct_rows(flat, plan.nodes_V.numel())
    nodes_U = plan.nodes_V.index_select(0, rows_U)
    places = iter(place.split([each.numel() for pair in read for each in pair]))
    by_part = [
        Gathered(nodes_U, next(places), next(places).view(index_BM.shape), [])
        for _, index_BM in read
    ]
    return Written(nodes_U, rows_U, by_part)


def _mask(nodes_V: Tensor, places: Sequence[Tensor]) -> Tensor:
    mask_V = torch.zeros_like(nodes_V, dtype=torch.bool)
    for place in places:
        mask_V.index_fill_(0, place, True)
    return mask_V
