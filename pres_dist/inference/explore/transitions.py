"""Statistics of the memory transitions of some nodes, recorded during a sweep over a stream.

Shapes: n recorded nodes, N nodes of the stream, P parts of the sweep, U nodes of a request, m
transitions, D memory size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.memory.merge import first_of_each
from pres_dist.memory.state import NEVER
from pres_dist.model.tgn import UpdatedMemory
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.forward import Forward

MEASURES = ("drift", "cosine", "prediction", "persistence")
"""Measures of a transition from s(t1) to s(t2): the norm of s(t2) - s(t1); the cosine of s(t1)
and s(t2); and the mean squared distance to the measured state from PRES's prediction, and from
s(t1) itself."""
_OF_PREDICTION = torch.tensor([False, False, True, True])


@dataclass(frozen=True)
class Point:
    """Aggregated transitions of a node within a part of the sweep.

    Attributes:
        t: int64 time of the newest event of the last transition.
        num: number of transitions.
        num_predicted: number of transitions that PRES had a prediction for.
        means: means of `MEASURES`; None for a measure without transitions.
    """

    t: int
    num: int
    num_predicted: int
    means: Sequence[float | None]


class TransitionLog:
    """Sums over the transitions of some nodes, by equal parts of a sweep.

    The log has n x (P + 1) rows, whatever the length of the stream. The last part holds the
    transitions of mail that is left after the sweep. A node has at most one transition per
    temporal batch: if there are more parts than batches, a point is a single transition.

    Args:
        nodes_n: distinct nodes.
        num_nodes: N.
        events: events of the sweep.
        num_parts: P.
    """

    def __init__(self, nodes_n: Tensor, num_nodes: int, events: range, num_parts: int) -> None:
        device = nodes_n.device
        self._row_N = torch.full((num_nodes,), -1, device=device)
        self._row_N[nodes_n] = torch.arange(nodes_n.numel(), device=device)
        self._events, self._num_parts = events, num_parts
        shape = (nodes_n.numel(), num_parts + 1)
        self._num_nP = torch.zeros(shape, dtype=torch.int64, device=device)
        self._predicted_nP = torch.zeros_like(self._num_nP)
        self._t_nP = torch.full(shape, NEVER, device=device)
        self._sum_nP4 = torch.zeros(*shape, len(MEASURES), dtype=torch.float64, device=device)

    @property
    def exact(self) -> bool:
        """True if every point is a single transition."""
        return not bool((self._num_nP > 1).any())

    def watch(self, batch: TemporalBatch, forwards: Sequence[Forward]) -> None:
        """Record the transitions of the endpoints of a temporal batch."""
        columns = []
        for forward in forwards:
            rows = torch.unique(forward.gathered.index_2B)
            assert isinstance(forward.updated, UpdatedMemory)
            of_nodes = (forward.gathered.nodes_U, *_measured(forward.updated))
            columns.append([column.index_select(0, rows) for column in of_nodes])
        nodes, *rest = (torch.cat(column) for column in zip(*columns, strict=True))
        # All slices of a batch compute the same update of a node: count it once.
        nodes, (moved, predicted, t, measures) = first_of_each(nodes, *rest)
        place = int(batch.events_B[0]) - self._events.start
        part = place * self._num_parts // max(len(self._events), 1)
        self._add(part, nodes, moved, predicted, t, measures)

    def end(self, nodes_U: Tensor, updated: UpdatedMemory) -> None:
        """Record the transitions of nodes by the mail that is left at the end of the sweep."""
        self._add(self._num_parts, nodes_U, *_measured(updated))

    def points(self, row: int) -> list[Point]:
        """Return the parts that have a transition of a node, in the order of time."""
        parts = self._num_nP[row].nonzero().flatten()
        columns = (
            self._t_nP[row, parts].tolist(),
            self._num_nP[row, parts].tolist(),
            self._predicted_nP[row, parts].tolist(),
            self._sum_nP4[row, parts].tolist(),
        )
        return [
            Point(t, num, predicted, _means(sums, num, predicted))
            for t, num, predicted, sums in zip(*columns, strict=True)
        ]

    def whole(self, row: int) -> Point:
        """Return all transitions of a node as one point; `num` is 0 if it has none."""
        num, predicted = int(self._num_nP[row].sum()), int(self._predicted_nP[row].sum())
        sums = self._sum_nP4[row].sum(0).tolist()
        return Point(int(self._t_nP[row].max()), num, predicted, _means(sums, num, predicted))

    def _add(
        self,
        part: int,
        nodes_U: Tensor,
        moved_U: Tensor,
        predicted_U: Tensor,
        t_U: Tensor,
        measures_U4: Tensor,
    ) -> None:
        row_U = self._row_N.index_select(0, nodes_U)
        kept_m = ((row_U >= 0) & moved_U).nonzero().flatten()
        row_m, predicted_m = row_U[kept_m], predicted_U[kept_m]
        measures_m4 = measures_U4[kept_m].double()
        counts_m4 = predicted_m[:, None] | ~_OF_PREDICTION.to(row_m.device)
        self._num_nP[row_m, part] += 1
        self._predicted_nP[row_m, part] += predicted_m.long()
        self._t_nP[row_m, part] = torch.maximum(self._t_nP[row_m, part], t_U[kept_m])
        self._sum_nP4[row_m, part] += torch.where(counts_m4, measures_m4, 0.0)


def _measured(updated: UpdatedMemory) -> tuple[Tensor, ...]:
    """Return per node: moved, predicted, time of the newest event, and `MEASURES` [U, 4]."""
    before_UD, after_UD = updated.previous_UD, updated.memory_UD
    measured_UD, corrected = updated.measured_UD, updated.corrected
    guessed_UD = before_UD if corrected is None else corrected.predicted_UD
    predicted_U = torch.zeros_like(updated.updated_U) if corrected is None else corrected.known_U
    measures = (
        (after_UD - before_UD).norm(dim=1),
        F.cosine_similarity(before_UD, after_UD, dim=1),
        (guessed_UD - measured_UD).square().mean(1),
        (before_UD - measured_UD).square().mean(1),
    )
    return updated.updated_U, predicted_U, updated.last_update_U, torch.stack(measures, dim=1)


def _means(sums: Sequence[float], num: int, predicted: int) -> list[float | None]:
    counts = [predicted if of_prediction else num for of_prediction in _OF_PREDICTION.tolist()]
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]
