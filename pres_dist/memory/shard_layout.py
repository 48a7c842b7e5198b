"""Kinds of messages and layout of a memory shard's rows, identical at both ends of a link."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from pres_dist.memory.local import LocalStore
from pres_dist.memory.state import Tables
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.statistics import TransitionStatistics


class Kind(IntEnum):
    """Kind of a message to a shard: a write, a read (`PULL`, `DUMP`), or the worker's leave."""

    OBSERVE = 1
    PUSH = 2
    RESET = 3
    LOAD = 4
    """Fill tables."""
    PULL = 5
    DUMP = 6
    """Read tables."""
    LEAVE = 7
    DELIVER = 8


@dataclass(frozen=True)
class ShardLayout:
    """Sizes of a shard's rows.

    Attributes:
        dim: memory size D.
        num_slots: mailbox slots R.
        num_components: mixture components of the transition statistics; 0 for no statistics.
        clock: length of a transition; required with statistics.
        device: device of the rows.
        of_states: whether statistics are over states instead of rates.
        rolling: whether mailboxes are FIFO.
    """

    dim: int
    num_slots: int
    num_components: int = 0
    clock: TransitionClock | None = None
    device: torch.device | str = "cpu"
    of_states: bool = False
    rolling: bool = False

    def make(self, num_rows: int, spare: bool = False) -> LocalStore:
        """Create a shard of `num_rows` empty rows; `spare` as in `LocalStore`."""
        statistics = None
        if self.num_components:
            assert self.clock is not None
            statistics = TransitionStatistics(
                num_rows + spare,
                self.dim,
                self.num_components,
                self.clock,
                self.device,
                self.of_states,
            )
        sizes = num_rows, self.dim, self.num_slots
        return LocalStore(*sizes, statistics, self.device, self.rolling, spare)

    def num_bytes(self, num_rows: int) -> int:
        """Return the bytes of host memory for a shard of `num_rows` rows."""
        row = table_columns(self.make(1).state_dict())
        return num_rows * (8 + sum(column.numel() * column.element_size() for column in row))


class MessageColumns:
    """Types and row shapes of the columns in messages, as empty columns in host memory.

    Attributes:
        pulled: columns of the answer to a pull.
        tables: columns of the answer to a dump.
        written: columns of each kind of write.
    """

    def __init__(self, layout: ShardLayout) -> None:
        empty = replace(layout, device="cpu").make(0)
        nobody = torch.empty(0, dtype=torch.int64)
        self.pulled = empty.pull(nobody).columns()
        self.tables = table_columns(empty.state_dict())
        state = empty.pull(nobody).state
        # FIFO mailboxes are filled by deliveries, so that the rows of a push have no slots.
        slots = 0 if layout.rolling else layout.num_slots
        pushed = replace(layout, device="cpu", num_slots=slots).make(0).pull(nobody).state
        self.written: dict[int, list[Tensor]] = {
            Kind.PUSH: pushed.columns(),
            Kind.DELIVER: [nobody, state.memory_UD],
            Kind.OBSERVE: [state.memory_UD, state.last_update_U],
            Kind.LOAD: self.tables,
            Kind.RESET: [],
        }


def table_columns(state: Tables) -> list[Tensor]:
    """Return all columns of a `LocalStore` state, in checkpoint order."""
    return [table for part in ("rows", "statistics") for table in state[part].values()]
