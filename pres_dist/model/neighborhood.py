"""Inputs of query embeddings, as indices into the batch's distinct nodes.

Shapes: Q queries of P distinct nodes, K neighbors, U distinct nodes of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.model.rows import Rows
from pres_dist.model.time_encoding import TimeEncoding


def distinct_rows(index_Q: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Return the distinct indices [P], ascending, and the place of each among them [Q].

    All are below `num_rows`, so that no costly sort is needed.
    """
    read_U = torch.zeros(num_rows, dtype=torch.bool, device=index_Q.device)
    read_U.index_fill_(0, index_Q, True)
    place_U = read_U.cumsum(0) - 1
    return read_U.nonzero().flatten(), place_U.index_select(0, index_Q)


@dataclass(frozen=True)
class Hop:
    """One hop: queries and the neighbors sampled for them.

    Attributes:
        index_Q: row of the query's node among the batch's distinct nodes.
        t_Q: int64 time of the query.
        index_QK: rows of the neighbors.
        t_QK: int64 times of the events with the neighbors.
        edges: features of those events, or None.
        mask_QK: False for empty slots.
    """

    index_Q: Tensor
    t_Q: Tensor
    index_QK: Tensor
    t_QK: Tensor
    edges: Rows | None
    mask_QK: Tensor


@dataclass(frozen=True)
class NodeInputs:
    """Features of the batch's distinct nodes.

    Attributes:
        memory_UD: updated memory, with gradient.
        last_update_U: int64 time of that memory, or NEVER.
        features_Ud: static node features, or None.
    """

    memory_UD: Tensor
    last_update_U: Tensor
    features_Ud: Tensor | None


def neighbor_parts(states: Rows, hop: Hop, time: TimeEncoding) -> list[Tensor]:
    """Return the [Q, K, ...] parts of each neighbor: state, event features, encoded age."""
    edges = [] if hop.edges is None else [hop.edges.dense_QKd]
    return [states.dense_QKd, *edges, time(hop.t_Q[:, None] - hop.t_QK)]
