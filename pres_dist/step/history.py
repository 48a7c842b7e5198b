"""Inputs of link scores that read the event log: common neighbors, and queries without events.

Shapes: B sources, M candidates of each, Q queries, S state size, K neighbors, L nodes around a
source, n rows, C candidates of all sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.model.history import Past
from pres_dist.model.neighborhood import Hop
from pres_dist.model.rows import Rows, sums_of_few
from pres_dist.sampling.event_log import LogReads, first_in_row


@dataclass(frozen=True)
class Around:
    """Recent neighbors of queries, as rows of a table of states.

    Attributes:
        states: [Q, K] rows of the neighbors' states.
        nodes_QK: int64 ids of the neighbors.
        mask_QK: True for the newest occurrence of each neighbor.
    """

    states: Rows
    nodes_QK: Tensor
    mask_QK: Tensor

    @staticmethod
    def of(states: Rows, nodes_QK: Tensor, mask_QK: Tensor) -> Around:
        """Return the neighbors, with duplicates masked out.

        Args:
            states: states of the neighbors.
            nodes_QK: ids of the neighbors.
            mask_QK: False for empty slots, which come first.
        """
        first_QK = first_in_row(nodes_QK.flip(1)).flip(1)
        return Around(states, nodes_QK, mask_QK & first_QK)

    def at(self, index: Tensor) -> Around:
        """Return the [n, K] neighbors of the [n] queries at `index`."""
        rows = Rows(self.states.table_Xd, self.states.index_QK.index_select(0, index))
        return Around(
            rows, self.nodes_QK.index_select(0, index), self.mask_QK.index_select(0, index)
        )


@dataclass(frozen=True)
class Queries:
    """Embedded nodes, each at its own time, for scoring.

    Attributes:
        nodes_Q, t_Q: int64 nodes and times.
        embedded_QA: their embeddings.
        around: their recent neighbors, if scores read them.
    """

    nodes_Q: Tensor
    t_Q: Tensor
    embedded_QA: Tensor
    around: Around | None = None

    def __len__(self) -> int:
        return self.nodes_Q.numel()

    def at(self, index: Tensor) -> Queries:
        """Return the queries at `index`."""
        around = None if self.around is None else self.around.at(index)
        columns = (self.nodes_Q, self.t_Q, self.embedded_QA)
        nodes, t, embedded = (column.index_select(0, index) for column in columns)
        return Queries(nodes, t, embedded, around)


def joined_queries(parts: Sequence[Queries]) -> Queries:
    """Concatenate the queries of several parts."""
    if len(parts) == 1:
        return parts[0]
    columns = [(part.nodes_Q, part.t_Q, part.embedded_QA) for part in parts]
    arounds = [part.around for part in parts if part.around is not None]
    nodes, t, embedded = (torch.cat(column) for column in zip(*columns, strict=True))
    return Queries(nodes, t, embedded, _joined(arounds) if arounds else None)


def _joined(parts: Sequence[Around]) -> Around:
    tables = [part.states.table_Xd for part in parts]
    firsts = [sum(len(table) for table in tables[:number]) for number in range(len(tables))]
    index = [part.states.index_QK + first for part, first in zip(parts, firsts, strict=True)]
    return Around(
        Rows(torch.cat(tables), torch.cat(index)),
        torch.cat([part.nodes_QK for part in parts]),
        torch.cat([part.mask_QK for part in parts]),
    )


def candidates_of(around: Around, num_events: int, num_negatives: int) -> Around:
    """Return the neighbors of each event's destination and negatives, event by event.

    Args:
        around: neighbors of sources, destinations and negatives, in this order.
        num_events: B.
        num_negatives: M - 1.
    """
    device = around.mask_QK.device
    true_B = torch.arange(num_events, 2 * num_events, device=device)
    last = num_events * (2 + num_negatives)
    negatives_BM = torch.arange(2 * num_events, last, device=device)
    rows = torch.cat([true_B[:, None], negatives_BM.view(num_events, num_negatives)], dim=1)
    return around.at(rows.flatten())


def around_hop(states_XS: Tensor, hop: Hop, nodes_X: Tensor) -> Around:
    """Return the neighbors of a hop's queries.

    Args:
        states_XS: states of the batch's distinct nodes, perhaps followed by others.
        hop: the queries and their neighbors.
        nodes_X: ids of the distinct nodes.
    """
    nodes_QK = nodes_X.index_select(0, hop.index_QK.flatten()).view(hop.index_QK.shape)
    return Around.of(Rows(states_XS, hop.index_QK), nodes_QK, hop.mask_QK)


def past_of(reads: LogReads, candidates: Around | None) -> Past:
    """Return the decoder's event-log input for candidates.

    Args:
        reads: values read from the log.
        candidates: their recent neighbors; None if the decoder reads none.
    """
    if reads.around_BL is None or candidates is None:
        return Past(reads.numbers_BMF)
    common = common_neighbors(reads.around_BL, candidates, reads.dst_BM)
    return Past(reads.numbers_BMF, *common)


def common_neighbors(
    around_BL: Tensor, candidates: Around, dst_BM: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum the states of the nodes around a source that are neighbors of a candidate.

    Args:
        around_BL: sorted nodes around each source, without the source itself.
        candidates: recent neighbors of the B * M candidates.
        dst_BM: the candidates, which do not count as neighbors of themselves.

    Returns:
        [B, M, S] sums, and [B, M] float32 counts of common neighbors.
    """
    num_sources, num_candidates = dst_BM.shape
    num_neighbors = candidates.nodes_QK.shape[1]
    nodes_BX = candidates.nodes_QK.reshape(num_sources, num_candidates * num_neighbors)
    # Rows are sorted: a row has a node if it stands where the node would be inserted. The last
    # place serves for nodes above all others, which differ from what is there.
    place_BX = torch.searchsorted(around_BL, nodes_BX).clamp(max=around_BL.shape[1] - 1)
    found_BX = around_BL.gather(1, place_BX) == nodes_BX
    shared_QK = found_BX.view_as(candidates.nodes_QK) & candidates.mask_QK
    shared_QK &= candidates.nodes_QK != dst_BM.reshape(-1, 1)
    num_BM = shared_QK.sum(1).view(num_sources, num_candidates).float()
    table_XS = candidates.states.table_Xd
    if not table_XS.numel():  # a model without memory, over a stream without node features
        return table_XS.new_zeros(num_sources, num_candidates, table_XS.shape[1]), num_BM
    summed_QS = sums_of_few(shared_QK, candidates.states)
    return summed_QS.view(num_sources, num_candidates, table_XS.shape[1]), num_BM
