"""DGL convolutions as embedding layers, over sampled neighbors as message-flow blocks.

A block is bipartite, with one source node per neighbor and an edge from it to the query.
The source node's features include those of the event: x_k = [state | edge features |
phi(age)]. So any convolution that accepts features of both ends as a pair can be used.

Shapes: Q queries, K neighbors, X neighbors of all queries, S state size, A embedding size.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pres_dist.config.model import ModelConfig
from pres_dist.errors import ConfigError, first_line
from pres_dist.events.graph_libraries import load_dgl
from pres_dist.model.attention import at_queries
from pres_dist.model.neighborhood import Hop, neighbor_parts
from pres_dist.model.rows import Rows
from pres_dist.model.time_encoding import TimeEncoding

PREFIX = "dgl.nn."


class DglLayer(nn.Module):
    """A DGL convolution, merged with the query's own state by a two-layer perceptron.

    Args:
        config: `embedding` names the convolution; `embedding_dim`, and `num_heads` if it has
            heads, give its size.
        state_dim: S, for both queries and neighbors.
        edge_dim: number of edge features, 0 for none.

    Raises:
        ConfigError: DGL is not installed, has no such convolution, or the convolution is not
            usable here.
    """

    def __init__(self, config: ModelConfig, state_dim: int, edge_dim: int) -> None:
        super().__init__()
        out_dim = config.embedding_dim
        sizes = (state_dim + edge_dim + config.time_dim, state_dim + config.time_dim)
        self.dropout = config.dropout
        self.convolution = make_convolution(config.embedding, sizes, out_dim, config.num_heads)
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
        own_QS = at_queries(own_PS, place_Q)
        parts = neighbor_parts(states, hop, time)
        neighbors_Xx = torch.cat([part[hop.mask_QK] for part in parts], dim=1)
        now_QT = time.now().expand(own_QS.shape[0], -1)
        queries_Qx = torch.cat([own_QS, now_QT], dim=1)
        block = message_flow_block(hop.mask_QK)
        convolved_QA = self.convolution(block, (neighbors_Xx, queries_Qx)).flatten(1)
        convolved_QA = F.dropout(convolved_QA, self.dropout, self.training)
        merged_QA: Tensor = self.merge_in(torch.cat([convolved_QA, own_QS], dim=1))
        embedded_QA: Tensor = self.merge_out(torch.relu(merged_QA))
        return embedded_QA


def message_flow_block(mask_QK: Tensor) -> Any:
    """Create the DGL block of sampled neighbors: X source nodes, row by row, and Q queries.

    Args:
        mask_QK: False for empty slots, which have no source node.
    """
    query_X = mask_QK.nonzero()[:, 0]
    neighbor_X = torch.arange(query_X.numel(), device=mask_QK.device)
    return load_dgl().create_block(
        (neighbor_X, query_X), num_src_nodes=query_X.numel(), num_dst_nodes=mask_QK.shape[0]
    )


def make_convolution(name: str, sizes: tuple[int, int], out_dim: int, num_heads: int) -> nn.Module:
    """Create a DGL convolution and test it on a small block.

    Args:
        name: name in DGL, such as `dgl.nn.GATv2Conv`.
        sizes: feature sizes of a neighbor and of a query.
        out_dim: A.
        num_heads: number of heads, of size A / heads each, if the convolution has heads.

    Raises:
        ConfigError: it does not exist, or does not return A numbers per query.
    """
    kind = getattr(load_dgl().nn, name.removeprefix(PREFIX), None)
    if kind is None:
        raise ConfigError(f"model.embedding: DGL has no {name}")
    takes = inspect.signature(kind).parameters
    values = {
        "in_feats": sizes,
        "out_feats": out_dim // num_heads if "num_heads" in takes else out_dim,
        "num_heads": num_heads,
        "aggregator_type": "mean",
        "allow_zero_in_degree": True,
    }
    try:
        module: nn.Module = kind(**{key: values[key] for key in values if key in takes})
        neighbors, queries = (torch.zeros(2, size) for size in sizes)
        block = message_flow_block(torch.ones(2, 1, dtype=torch.bool))
        with torch.no_grad():
            result = module(block, (neighbors, queries)).flatten(1)
    except Exception as error:  # convolutions raise many kinds of errors on unsupported arguments
        raise ConfigError(
            f"model.embedding must be a convolution that takes features of neighbors and queries "
            f"as a pair, such as dgl.nn.GATv2Conv, got {name}: {first_line(error)}"
        ) from None
    if result.shape != (2, out_dim):
        raise ConfigError(
            f"model.embedding: {name} gives {result.shape[1]} numbers a query, not "
            f"model.embedding_dim {out_dim}"
        )
    return module
