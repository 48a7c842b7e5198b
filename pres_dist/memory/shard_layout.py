"""Layout of a memory shard's rows, identical at both ends of a link.

Shapes: U rows of a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pres_dist.memory.local import LocalStore
from pres_dist.memory.state import NodeState, Pulled
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.statistics import TransitionStatistics
from pres_dist.pres.transitions import Mixture, TransitionRows


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

    def make(self, num_rows: int) -> LocalStore:
        """Create a shard of `num_rows` empty rows."""
        statistics = None
        if self.num_components:
            assert self.clock is not None
            statistics = TransitionStatistics(
                num_rows, self.dim, self.num_components, self.clock, self.device, self.of_states
            )
        return LocalStore(num_rows, self.dim, self.num_slots, statistics, self.device, self.rolling)

    def num_bytes(self, num_rows: int) -> int:
        """Return the bytes of host memory for a shard of `num_rows` rows."""
        empty = [column[:1] for column in table_columns(self.make(1).state_dict())]
        return num_rows * (8 + sum(column.numel() * column.element_size() for column in empty))


def pulled_columns(pulled: Pulled) -> list[Tensor]:
    """Return all columns of a `Pulled`, as a list."""
    columns, known = [*vars(pulled.state).values()], pulled.transitions
    if known is not None:
        columns += [known.num_observed_U, known.rate_UD]
        columns += [] if known.mixture is None else [*vars(known.mixture).values()]
    return columns


def pulled_of(columns: Sequence[Tensor], version: int) -> Pulled:
    """Rebuild a `Pulled` from its columns; inverse of `pulled_columns`."""
    num_columns = len(NodeState.__dataclass_fields__)
    state, known = NodeState(*columns[:num_columns]), columns[num_columns:]
    if not known:
        return Pulled(state, None, version)
    num_U, rate_UD, *mixture = known
    rows = TransitionRows(num_U, rate_UD, Mixture(*mixture) if mixture else None)
    return Pulled(state, rows, version)


def table_columns(state: Mapping[str, Any]) -> list[Tensor]:
    """Return all columns of a `LocalStore` state, in checkpoint order."""
    return [table for part in ("rows", "statistics") for table in state[part].values()]


def like_rows(columns: Sequence[Tensor]) -> list[Tensor]:
    """Return empty columns with the same types and row shapes, in host memory."""
    return [
        column.new_empty(0, *column.shape[1:], device=torch.device("cpu")) for column in columns
    ]
