"""Embedding modules, which embed a node at a given time (TGN, section 3.3).

Shapes: Q queries of P distinct nodes, K neighbors, U distinct nodes, D memory size, A
embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pres_dist.config.model import ModelConfig
from pres_dist.memory.state import elapsed_since
from pres_dist.model.attention import TemporalAttention, at_queries
from pres_dist.model.neighborhood import Hop, NodeInputs, distinct_rows, neighbor_parts
from pres_dist.model.rows import Rows
from pres_dist.model.shapes import shapes_are_fixed
from pres_dist.model.time_encoding import TimeEncoding


class AttentionLayer(nn.Module):
    """Temporal attention, merged with the query's own state by a two-layer perceptron."""

    def __init__(self, config: ModelConfig, state_dim: int, edge_dim: int) -> None:
        super().__init__()
        out_dim = config.embedding_dim
        self.dropout = config.dropout
        self.attention = TemporalAttention(
            state_dim, edge_dim, config.time_dim, out_dim, config.num_heads
        )
        self.merge_in = nn.Linear(out_dim + state_dim, out_dim)
        self.merge_out = nn.Linear(out_dim, out_dim)

    def forward(
        self,
        own_PS: Tensor,
        place_Q: Tensor | None,
        states: Rows,
        hop: Hop,
        time: TimeEncoding,
    ) -> Tensor:
        """Return [Q, A] embeddings of the hop's queries."""
        attended_QA = self.attention(
            own_PS,
            time.now(),
            states,
            hop.edges,
            time.rows(hop.t_Q[:, None] - hop.t_QK),
            hop.mask_QK,
            place_Q,
        )
        attended_QA = F.dropout(attended_QA, self.dropout, self.training)
        return self.merge_out(torch.relu(self._merged(attended_QA, own_PS, place_Q)))

    def _merged(self, attended_QA: Tensor, own_PS: Tensor, place_Q: Tensor | None) -> Tensor:
        """Apply `merge_in` to [attended | own state], projecting own states once per node."""
        dims = [attended_QA.shape[1], own_PS.shape[1]]
        attended_AA, own_AS = self.merge_in.weight.split(dims, dim=1)
        own_QA = at_queries(F.linear(own_PS, own_AS, self.merge_in.bias), place_Q)
        return torch.addmm(own_QA, attended_QA, attended_AA.t())


class SumLayer(nn.Module):
    """Sum over projected neighbors, then merged with the query (TGN's graph sum).

    The projection is linear, so neighbors are summed first and projected once.
    """

    def __init__(self, config: ModelConfig, state_dim: int, edge_dim: int) -> None:
        super().__init__()
        out_dim, time_dim = config.embedding_dim, config.time_dim
        self.dropout = config.dropout
        self.project = nn.Linear(state_dim + edge_dim + time_dim, out_dim, bias=False)
        self.merge = nn.Linear(out_dim + state_dim + time_dim, out_dim)

    def forward(
        self,
        own_PS: Tensor,
        place_Q: Tensor | None,
        states: Rows,
        hop: Hop,
        time: TimeEncoding,
    ) -> Tensor:
        """Return [Q, A] embeddings of the hop's queries."""
        own_QS = at_queries(own_PS, place_Q)
        parts = neighbor_parts(states, hop, time)
        weight_Q1K = hop.mask_QK[:, None].to(own_QS.dtype)
        sums_Qx = torch.cat([torch.bmm(weight_Q1K, part)[:, 0] for part in parts], dim=1)
        summed_QA = torch.relu(self.project(sums_Qx))
        summed_QA = F.dropout(summed_QA, self.dropout, self.training)
        now_QT = time.now().expand(own_QS.shape[0], -1)
        return self.merge(torch.cat([summed_QA, own_QS, now_QT], dim=1))


def _layer(config: ModelConfig) -> Callable[[ModelConfig, int, int], nn.Module]:
    """Return the layer class that the configuration names."""
    if config.embedding == "attention":
        return AttentionLayer
    if config.embedding == "sum":
        return SumLayer
    from pres_dist.model.dgl_layer import DglLayer  # the only model that needs DGL

    return DglLayer


class GraphEmbedding(nn.Module):
    """One or two hops of attention, sum or a DGL convolution over temporal neighbors.

    The innermost layer reads memory. The outer layer reads the inner layer's embeddings of
    the queries and of their neighbors, each at the time of its event.
    """

    def __init__(self, config: ModelConfig, memory_dim: int, edge_dim: int) -> None:
        super().__init__()
        layer = _layer(config)
        dims = [memory_dim] + [config.embedding_dim] * (config.num_layers - 1)
        self.layers = nn.ModuleList(layer(config, dim, edge_dim) for dim in dims)

    def forward(
        self, states_UD: Tensor, nodes: NodeInputs, hops: Sequence[Hop], time: TimeEncoding
    ) -> Tensor:
        """Return [Q, A] embeddings of the queries of the first hop.

        Args:
            states_UD: memory plus node features.
            nodes: unused.
            hops: hops, outermost first; a later hop's queries are the previous hop's queries
                followed by its neighbors.
            time: phi.
        """
        innermost = hops[-1]
        own_rows, place_Q = _distinct(innermost.index_Q, states_UD.shape[0])
        neighbors = Rows(states_UD, innermost.index_QK)
        own = states_UD.index_select(0, own_rows)
        embedded = self.layers[0](own, place_Q, neighbors, innermost, time)
        for layer, hop in zip(self.layers[1:], reversed(hops[:-1]), strict=True):
            num_queries, num_neighbors = hop.index_QK.shape
            own, around = embedded.split([num_queries, num_queries * num_neighbors])
            around = around.view(num_queries, num_neighbors, own.shape[1])
            embedded = layer(own, None, Rows.of(around), hop, time)
        return embedded


class MemoryEmbedding(nn.Module):
    """The memory itself, or drifted in time (JODIE's projection: (1 + w dt) * s).

    The time since the last update enters as log(1 + units), so that a node that was
    inactive for years stays in range.
    """

    def __init__(self, config: ModelConfig, memory_dim: int, edge_dim: int) -> None:
        super().__init__()
        self.drift = nn.Linear(1, memory_dim) if config.embedding == "time" else None
        same = memory_dim == config.embedding_dim
        self.project = nn.Identity() if same else nn.Linear(memory_dim, config.embedding_dim)

    def forward(
        self, states_UD: Tensor, nodes: NodeInputs, hops: Sequence[Hop], time: TimeEncoding
    ) -> Tensor:
        """Return [Q, A] embeddings of the queries of the first hop."""
        index_Q = hops[0].index_Q
        states_QD = states_UD.index_select(0, index_Q)
        if self.drift is not None:
            silent_Q = elapsed_since(nodes.last_update_U.index_select(0, index_Q), hops[0].t_Q)
            units_Q = torch.log1p(silent_Q.to(torch.float32) / time.time_unit)
            states_QD = states_QD * (1 + self.drift(units_Q[:, None]))
        return self.project(states_QD)


def build_embedding(config: ModelConfig, state_dim: int, edge_dim: int) -> nn.Module:
    """Build the embedding module that the configuration names."""
    if config.embeds_neighbors:
        return GraphEmbedding(config, state_dim, edge_dim)
    return MemoryEmbedding(config, state_dim, edge_dim)


def build_message_embedding(config: ModelConfig, state_dim: int, edge_dim: int) -> nn.Module | None:
    """Build the message embedding of a model whose scores use no attention (DyRep), or None.

    No gradient flows through stored mail, so the weights keep their random initialization,
    and dropout would only add noise. The authors' TGN also cuts the gradient of stored
    messages after every batch.
    """
    if not num_message_hops(config):
        return None
    own = config.model_copy(update={"embedding": "attention", "dropout": 0.0})
    return GraphEmbedding(own, state_dim, edge_dim).requires_grad_(False)


def num_hops(config: ModelConfig) -> int:
    """Return the number of hops of neighbors that the embedding reads."""
    return config.num_layers if config.embeds_neighbors else 0


def num_message_hops(config: ModelConfig) -> int:
    """Return the hops of separate message embeddings; 0 if there are none."""
    own = config.message_endpoint == "embedding" and not num_hops(config)
    return config.num_layers if own else 0


def _distinct(index_Q: Tensor, num_rows: int) -> tuple[Tensor, Tensor | None]:
    """Return the distinct rows and each query's index into them; None if all are distinct.

    On a GPU all queries count as distinct, since counting them would synchronize.
    """
    if index_Q.device.type != "cpu" or shapes_are_fixed():
        return index_Q, None
    rows_P, place_Q = distinct_rows(index_Q, num_rows)
    return (index_Q, None) if rows_P.numel() == index_Q.numel() else (rows_P, place_Q)
