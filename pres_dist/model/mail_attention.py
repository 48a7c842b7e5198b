"""APAN's memory updater: attention of a node's memory over its mailbox.

Wang et al., APAN: Asynchronous Propagation Attention Network for Real-time Temporal
Graph Embedding, SIGMOD 2021 (encoder). The mailbox holds mail of the node's own
events and of its neighbors' events, so that scoring needs no neighbor reads.

Shapes: U nodes, R mailbox slots, D memory size, T time encoding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pres_dist.config.model import ModelConfig
from pres_dist.memory.state import NEVER, NO_EVENT, NodeState
from pres_dist.model.attention import TemporalAttention
from pres_dist.model.rows import Rows
from pres_dist.model.time_encoding import TimeEncoding
from pres_dist.model.updater import MailContext, MeasuredMemory


class MailAttention(nn.Module):
    """s(t2) = MLP(LayerNorm(s(t1) + attention(s(t1), mails))).

    t2 is the time of the newest mail. A mail's features are [sum of both endpoints'
    memories | edge features | whether the node was an endpoint | phi(age)], with its age
    at the start of the temporal batch. A node whose newest mail is not newer than its
    memory keeps its memory, so each mail updates it only once.

    Args:
        config: number of heads, and dropout.
        memory_dim: D, a multiple of the number of heads.
        edge_dim: number of edge features, 0 for none.
        time_encoding: phi.
    """

    def __init__(
        self, config: ModelConfig, memory_dim: int, edge_dim: int, time_encoding: TimeEncoding
    ) -> None:
        super().__init__()
        self.time_encoding = time_encoding
        self.attention = TemporalAttention(
            memory_dim, edge_dim + 1, time_encoding.dim, memory_dim, config.num_heads
        )
        self.norm = nn.LayerNorm(memory_dim)
        self.hidden = nn.Linear(memory_dim, memory_dim)
        self.out = nn.Linear(memory_dim, memory_dim)
        self.dropout = config.dropout

    def forward(self, state: NodeState, context: MailContext) -> MeasuredMemory:
        """Return the memory of the nodes after applying their mail."""
        assert context.own_UR is not None
        assert context.now is not None
        full_UR = state.mail_event_UR != NO_EVENT
        age_UR = torch.where(full_UR, context.now - context.t_UR, 0)
        edges_URd = context.own_UR[:, :, None].to(state.memory_UD.dtype)
        if context.edge_features_URd is not None:
            edges_URd = torch.cat([context.edge_features_URd, edges_URd], dim=2)
        attended_UD = self.attention(
            state.memory_UD,
            self.time_encoding.now(),
            Rows.of(state.mail_memory_URD),
            Rows.of(edges_URd),
            self.time_encoding.rows(age_UR),
            full_UR,
        )
        attended_UD = F.dropout(attended_UD, self.dropout, self.training)
        moved_UD = self._merged(state.memory_UD + attended_UD)
        newest_U = torch.where(full_UR, context.t_UR, NEVER).amax(1)
        new_U = newest_U > state.last_update_U
        return MeasuredMemory(
            torch.where(new_U[:, None], moved_UD, state.memory_UD),
            torch.where(new_U, newest_U, state.last_update_U),
        )

    def _merged(self, sum_UD: Tensor) -> Tensor:
        moved_UD: Tensor = self.out(torch.relu(self.hidden(self.norm(sum_UD))))
        return moved_UD
