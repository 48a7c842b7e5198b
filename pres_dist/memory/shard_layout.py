"""What the rows of a memory shard are made of: the same at both ends of a link.

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
        num_components: of the transition statistics; 0 keeps none.
        clock: length of a transition; needed with statistics.
        device: where the rows live.
        of_states: whether statistics are of states and not of rates.
        rolling: whether mailboxes roll.
    """

    dim: int
    num_slots: int
    num_components: int = 0
    clock: TransitionClock | None = None
    device: torch.device | str = "cpu"
    of_states: bool = False
    rolling: bool = False

    def make(self, num_rows: int) -> LocalStore:
        """A shard of so many rows, all empty."""
        statistics = None
        if self.num_components:
            assert self.clock is not None
            statistics = TransitionStatistics(
                num_rows, self.dim, self.num_components, self.clock, self.device, self.of_states
            )
        return LocalStore(num_rows, self.dim, self.num_slots, statistics, self.device, self.rolling)

    def num_bytes(self, num_rows: int) -> int:
        """Host memory that a shard of so many rows takes."""
        empty = [column[:1] for column in table_columns(self.make(1).state_dict())]
        return num_rows * (8 + sum(column.numel() * column.element_size() for column in empty))


def pulled_columns(pulled: Pulled) -> list[Tensor]:
    """All columns of what a store hands out."""
    columns, known = [*vars(pulled.state).values()], pulled.transitions
    if known is not None:
        columns += [known.num_observed_U, known.rate_UD]
        columns += [] if known.mixture is None else [*vars(known.mixture).values()]
    return columns


def pulled_of(columns: Sequence[Tensor], version: int) -> Pulled:
    """What `pulled_columns` took apart."""
    num_columns = len(NodeState.__dataclass_fields__)
    state, known = NodeState(*columns[:num_columns]), columns[num_columns:]
    if not known:
        return Pulled(state, None, version)
    num_U, rate_UD, *mixture = known
    rows = TransitionRows(num_U, rate_UD, Mixture(*mixture) if mixture else None)
    return Pulled(state, rows, version)


def table_columns(state: Mapping[str, Any]) -> list[Tensor]:
    """All columns of the state of a `LocalStore`, as a checkpoint holds them."""
    return [table for part in ("rows", "statistics") for table in state[part].values()]


def like_rows(columns: Sequence[Tensor]) -> list[Tensor]:
    """Columns without rows, of the same types and row shapes."""
    return [
        column.new_empty(0, *column.shape[1:], device=torch.device("cpu")) for column in columns
    ]
