"""Single-process memory store, the reference implementation of `MemoryStore`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pres_dist.errors import CheckpointError
from pres_dist.memory.merge import joined_rows, merge_rows, roll
from pres_dist.memory.state import NEVER, NO_EVENT, NodeState, Pulled, Tables, elapsed_since
from pres_dist.pres.statistics import NEGATIVE, POSITIVE, TransitionStatistics

_MAIL = ("mail_memory_URD", "mail_event_UR")
"""Columns that a push does not write if mailboxes are FIFO."""


@dataclass(frozen=True)
class _Push:
    """A push: the version that it created, its rows, and the mail of its batch."""

    version: int
    nodes_U: Tensor
    state: NodeState


class LocalStore:
    """Node state as dense tensors in this process. See `MemoryStore` for the methods.

    Args:
        num_nodes: number of nodes.
        dim: memory size D.
        num_slots: mailbox slots R.
        statistics: transition statistics to update with the memory; None for none.
        device: device of the tensors.
        rolling: whether mailboxes are FIFO.
        spare: True to keep one more row, which is never saved: the node `num_nodes`, with which a
            step of fixed shapes (`step/fixed.py`) fills up the nodes that it reads and writes.
    """

    def __init__(
        self,
        num_nodes: int,
        dim: int,
        num_slots: int,
        statistics: TransitionStatistics | None = None,
        device: torch.device | str = "cpu",
        rolling: bool = False,
        spare: bool = False,
    ) -> None:
        self.num_nodes, self.dim, self.num_slots = num_nodes, dim, num_slots
        self.rolling, self.statistics = rolling, statistics
        num_rows = num_nodes + spare
        self._rows = NodeState(
            memory_UD=torch.zeros(num_rows, dim, device=device),
            last_update_U=torch.full((num_rows,), NEVER, device=device),
            mail_memory_URD=torch.zeros(num_rows, num_slots, dim, device=device),
            mail_event_UR=torch.full((num_rows, num_slots), NO_EVENT, device=device),
            mail_count_U=torch.zeros(num_rows, dtype=torch.int64, device=device),
        )
        self.version = 0
        # Pushes that a later push may not have read. Not saved: pulls after a load read it.
        self._recent: list[_Push] = []

    def pull(
        self,
        nodes_U: Tensor,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Pulled:
        known = None if self.statistics is None else self.statistics.rows(nodes_U)
        return Pulled(self._rows.rows(nodes_U), known, self.version)

    def push(self, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None = None) -> None:
        if learn:
            self._observe(nodes_U, POSITIVE, state.memory_UD, state.last_update_U)
        # The mail of pushes up to `seen` was read, and applied, by the pull of these rows.
        self._recent = [] if seen is None else [one for one in self._recent if one.version > seen]
        self.version += 1
        if self.rolling:
            state = replace(state, mail_count_U=torch.zeros_like(state.mail_count_U))
        else:
            own = _Push(self.version, nodes_U, state)
            state = _with_unread(nodes_U, state, self._recent)
            self._recent.append(own)
        columns = state.named()
        for name, table in self._rows.named().items():
            if name not in _MAIL or not self.rolling:
                table.index_copy_(0, nodes_U, columns[name])

    def deliver(self, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
        roll(self._rows, nodes_X, events_X, memory_XD)

    @property
    def observes(self) -> bool:
        return self.statistics is not None and self.statistics.num_components > NEGATIVE

    def observe(self, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor) -> None:
        if self.observes:
            self._observe(nodes_U, NEGATIVE, memory_UD, last_update_U)

    def _observe(
        self, nodes_U: Tensor, component: int, memory_UD: Tensor, last_update_U: Tensor
    ) -> None:
        if self.statistics is None:
            return
        rows = self._rows
        elapsed_U = elapsed_since(rows.last_update_U.index_select(0, nodes_U), last_update_U)
        before_UD = rows.memory_UD.index_select(0, nodes_U)
        applied_U = rows.mail_count_U.index_select(0, nodes_U)
        self.statistics.observe(nodes_U, component, before_UD, memory_UD, elapsed_U, applied_U)

    def put_back(self, nodes_U: Tensor, state: NodeState) -> None:
        """Restore the exact rows that a pull returned, FIFO mailboxes included.

        Statistics do not change. No push computed from other rows may be pending.
        """
        for table, column in zip(self._rows.columns(), state.columns(), strict=True):
            table.index_copy_(0, nodes_U, column)

    def reset(self) -> None:
        for table in self._rows.columns():
            table.zero_()
        self._rows.mail_event_UR.fill_(NO_EVENT)
        self._rows.last_update_U.fill_(NEVER)
        if self.statistics is not None:
            self.statistics.reset()
        self.version, self._recent = 0, []

    def kept_nodes(self) -> Tensor:
        return torch.arange(self.num_nodes)

    def state_dict(self) -> Tables:
        statistics = {} if self.statistics is None else self.statistics.state_dict()
        parts = {"rows": self._rows.named(), "statistics": statistics}
        return {
            part: {name: table[: self.num_nodes] for name, table in tables.items()}
            for part, tables in parts.items()
        }

    def load_state_dict(self, state: Tables) -> None:
        own = self.state_dict()  # which shares memory with the store
        check_tables(own, state, self.num_nodes)
        for part, tables in own.items():
            for name, table in tables.items():
                table.copy_(state[part][name])
        self.version, self._recent = 0, []


def check_tables(own: Tables, saved: Tables, num_rows: int) -> None:
    """Raise CheckpointError unless saved tables match those of `own`, with `num_rows` rows."""

    def shapes(state: Tables) -> dict[str, list[int]]:
        return {
            f"{part}.{name}": list(table.shape)
            for part, tables in state.items()
            for name, table in sorted(tables.items())
        }

    expected = {name: [num_rows, *shape[1:]] for name, shape in shapes(own).items()}
    if expected != (found := shapes(saved)):
        raise CheckpointError(f"the saved memory must have tables of {expected}, got {found}")


def _with_unread(nodes_U: Tensor, state: NodeState, unread: Sequence[_Push]) -> NodeState:
    """Merge the mail of unread pushes into the new rows, before their own mail.

    Mail that the rows were computed from is dropped, even if it is still in the mailboxes:
    it has been applied.
    """
    if not unread or not nodes_U.numel():
        return state
    ascending_U, order_U = nodes_U.sort()
    written = []
    for push in unread:
        place_W = torch.searchsorted(ascending_U, push.nodes_U).clamp(max=nodes_U.numel() - 1)
        both_W = (ascending_U.index_select(0, place_W) == push.nodes_U).nonzero().flatten()
        if both_W.numel():
            rows = order_U.index_select(0, place_W.index_select(0, both_W))
            written.append((rows, push.state.rows(both_W)))
    if not written:
        return state
    written.append((torch.arange(nodes_U.numel(), device=nodes_U.device), state))
    # Sorted, the merged rows are all rows in order, because the last write has each once.
    merged = merge_rows(*joined_rows(written))[1]
    return replace(merged, memory_UD=state.memory_UD, last_update_U=state.last_update_U)
