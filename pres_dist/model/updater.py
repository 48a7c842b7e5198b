"""Apply mail: aggregation of a node's messages, and the recurrent memory updater.

Shapes: U nodes, R mailbox slots, D memory size, d_e edge features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pres_dist.config.model import ModelConfig
from pres_dist.memory.state import NO_EVENT, NodeState, elapsed_since
from pres_dist.model.message import MessageFunction
from pres_dist.model.recurrent import OwnWeights, from_rest, next_memory, own_weights
from pres_dist.model.shapes import shapes_are_fixed


@dataclass(frozen=True)
class MailContext:
    """Parts of messages that the compact mail omits, looked up by event id.

    Attributes:
        t_UR: int64 times of the mailbox's events; arbitrary in empty slots.
        edge_features_URd: float32 edge features, or None for a stream without any.
        own_UR: bool, whether the node was an endpoint of the event; None without FIFO
            mailboxes, since other mailboxes hold only the node's own events.
        now: int64 scalar, time of the first event of the temporal batch; None without FIFO
            mailboxes.
    """

    t_UR: Tensor
    edge_features_URd: Tensor | None
    own_UR: Tensor | None = None
    now: Tensor | None = None


@dataclass(frozen=True)
class MeasuredMemory:
    """Memory after applying the mail.

    Attributes:
        memory_UD: float32, with gradient; unchanged for nodes without mail.
        last_update_U: int64 time of the newest applied event.
    """

    memory_UD: Tensor
    last_update_U: Tensor


class MemoryUpdater(nn.Module):
    """Applies the mailbox of each node to its memory (TGN, sections 3.1 and 3.2).

    `last` uses the newest message; `mean` averages the messages of the mailbox;
    `sequential` applies them one by one, oldest first, each to the memory after the
    previous one.

    Args:
        config: aggregator and recurrent cell.
        message_function: builds messages.
        memory_dim: D.
    """

    def __init__(
        self, config: ModelConfig, message_function: MessageFunction, memory_dim: int
    ) -> None:
        super().__init__()
        self.message_function = message_function
        self.aggregator = config.aggregator
        cell = nn.GRUCell if config.updater == "gru" else nn.RNNCell
        self.cell = cell(message_function.out_dim, memory_dim)

    def forward(self, state: NodeState, context: MailContext) -> MeasuredMemory:
        """Return the memory of the nodes after applying their mail."""
        if state.mail_event_UR.shape[1] == 1:  # all three agree; this is cheapest
            return self._last(state, context)
        if self.aggregator == "sequential":
            if state.memory_UD.device.type != "cpu" or shapes_are_fixed():
                return self._sequential_masked(state, context)
            return self._sequential(state, context)
        if self.aggregator == "mean":
            return self._mean(state, context)
        return self._last(state, context)

    def _last(self, state: NodeState, context: MailContext) -> MeasuredMemory:
        full_UR = state.mail_event_UR != NO_EVENT
        slot_U = (full_UR.sum(1) - 1).clamp(min=0)
        t_U, features = _slot(context.t_UR, slot_U), context.edge_features_URd
        given = self._given(
            _slot(state.mail_memory_URD, slot_U),
            None if features is None else _slot(features, slot_U),
            elapsed_since(state.last_update_U, t_U),
        )
        updated_UD = self._next(state.memory_UD, given, self._own_weights())
        return self._where_full(
            full_UR.any(1), updated_UD, t_U, state.memory_UD, state.last_update_U
        )

    def _sequential(self, state: NodeState, context: MailContext) -> MeasuredMemory:
        """Apply messages slot by slot, only to nodes with a message there: few nodes have many."""
        full_UR = state.mail_event_UR != NO_EVENT
        before_UR = torch.cat([state.last_update_U[:, None], context.t_UR[:, :-1]], dim=1)
        features = context.edge_features_URd
        given_M = self._given(
            state.mail_memory_URD[full_UR],
            None if features is None else features[full_UR],
            elapsed_since(before_UR[full_UR], context.t_UR[full_UR]),
        )
        place_UR = full_UR.flatten().cumsum(0).view(full_UR.shape) - 1
        measured = MeasuredMemory(state.memory_UD, state.last_update_U)
        own = self._own_weights()
        for slot in range(full_UR.shape[1]):
            rows = full_UR[:, slot].nonzero().flatten()
            given = given_M.index_select(0, place_UR[rows, slot])
            measured = self._applied(measured, rows, given, own, context.t_UR[rows, slot])
        return measured

    def _sequential_masked(self, state: NodeState, context: MailContext) -> MeasuredMemory:
        """Apply messages slot by slot to all nodes, and keep the results of full slots."""
        full_UR = state.mail_event_UR != NO_EVENT
        before_UR = torch.cat([state.last_update_U[:, None], context.t_UR[:, :-1]], dim=1)
        features = context.edge_features_URd
        given_URx = self._given(
            state.mail_memory_URD.flatten(0, 1),
            None if features is None else features.flatten(0, 1),
            elapsed_since(before_UR, context.t_UR).flatten(),
        ).unflatten(0, full_UR.shape)
        memory_UD, own = state.memory_UD, self._own_weights()
        for full_U, given_Ux in zip(full_UR.unbind(1), given_URx.unbind(1), strict=True):
            updated_UD = self._next(memory_UD, given_Ux, own).to(memory_UD.dtype)
            memory_UD = torch.where(full_U[:, None], updated_UD, memory_UD)
        # Messages are in the order of time.
        t_UR = torch.where(full_UR, context.t_UR, state.last_update_U[:, None])
        return MeasuredMemory(memory_UD, t_UR.amax(1))

    def _applied(
        self,
        measured: MeasuredMemory,
        rows_M: Tensor,
        given: Tensor,
        own: OwnWeights | None,
        t_M: Tensor,
    ) -> MeasuredMemory:
        if not torch.compiler.is_compiling() and not rows_M.numel():
            return measured
        own_MD = measured.memory_UD.index_select(0, rows_M)
        # Under autocast the cell returns bfloat16.
        updated_MD = self._next(own_MD, given, own).to(own_MD.dtype)
        return MeasuredMemory(
            measured.memory_UD.index_copy(0, rows_M, updated_MD),
            measured.last_update_U.index_copy(0, rows_M, t_M),
        )

    def _given(self, other: Tensor, edge_features: Tensor | None, elapsed: Tensor) -> Tensor:
        """Precompute the part of a message that does not depend on the node's own memory."""
        rest = self.message_function.rest(other, edge_features, elapsed)
        return rest if self.message_function.mlp is not None else from_rest(self.cell, rest)

    def _own_weights(self) -> OwnWeights | None:
        """Merge the cell's weights for the own memory; None if a message is not linear in it."""
        return None if self.message_function.mlp is not None else own_weights(self.cell)

    def _next(self, own_XD: Tensor, given: Tensor, own: OwnWeights | None) -> Tensor:
        """Return the memory after a message that `_given` has precomputed."""
        if own is None:
            return self.cell(self.message_function(own_XD, given), own_XD)
        return next_memory(self.cell, own_XD, given, own)

    def _mean(self, state: NodeState, context: MailContext) -> MeasuredMemory:
        full_UR = state.mail_event_UR != NO_EVENT
        own_URD = state.memory_UD[:, None].expand_as(state.mail_memory_URD)
        last_UR = state.last_update_U[:, None].expand_as(context.t_UR)
        elapsed_UR = elapsed_since(last_UR, context.t_UR)
        rest = self.message_function.rest(
            state.mail_memory_URD, context.edge_features_URd, elapsed_UR
        )
        messages_URM = self.message_function(own_URD, rest)
        weight_UR = full_UR / full_UR.sum(1, keepdim=True).clamp(min=1)
        message_UM = (messages_URM * weight_UR[:, :, None]).sum(1)
        newest_U = _slot(context.t_UR, (full_UR.sum(1) - 1).clamp(min=0))
        updated_UD = self.cell(message_UM, state.memory_UD)
        return self._where_full(
            full_UR.any(1), updated_UD, newest_U, state.memory_UD, state.last_update_U
        )

    @staticmethod
    def _where_full(
        full_U: Tensor, updated_UD: Tensor, t_U: Tensor, memory_UD: Tensor, last_update_U: Tensor
    ) -> MeasuredMemory:
        return MeasuredMemory(
            torch.where(full_U[:, None], updated_UD, memory_UD),
            torch.where(full_U, t_U, last_update_U),
        )


def _slot(rows: Tensor, slot_U: Tensor) -> Tensor:
    """Select the chosen slot of each node: [U, R, ...] -> [U, ...]."""
    if rows.shape[1] == 1:
        return rows[:, 0]
    return rows[torch.arange(rows.shape[0], device=rows.device), slot_U]
