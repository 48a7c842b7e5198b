"""Several writes of one row made into one.

Shapes: X rows that are written, P distinct ones among them, G contested ones, D memory
size, R mailbox slots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.memory.state import NO_EVENT, NodeState


def merge_rows(rows_X: Tensor, state: NodeState) -> tuple[Tensor, NodeState]:
    """What several writes of one step make of each row.

    Memory and time of a row are the same from all who write it, up to rounding; those
    of the first are taken. Its mailbox holds the newest R events of all written, by
    event id and not by arrival, and counts add up. A row that is written once stays as
    it is. Merging a part of the writes first changes nothing in the result.

    Args:
        rows_X: numbers of the rows, in the order of the time slices that write them.
        state: what is written, X rows.

    Returns:
        distinct rows [P], and their new state.
    """
    rows_P, first_P, number_X, count_P = distinct(rows_X)
    merged = {name: column.index_select(0, first_P) for name, column in vars(state).items()}
    merged["mail_count_U"].zero_().index_add_(0, number_X, state.mail_count_U)
    contested_G = (count_P > 1).nonzero().flatten()
    newest_GR = _newest_slots(number_X, count_P, state.mail_event_UR).index_select(0, contested_G)
    for name in ("mail_event_UR", "mail_memory_URD"):
        slots = getattr(state, name).flatten(0, 1)
        merged[name].index_copy_(0, contested_G, slots[newest_GR])
    return rows_P, NodeState(**merged)


def _newest_slots(number_X: Tensor, count_P: Tensor, event_XR: Tensor) -> Tensor:
    """The newest R of all slots pushed for each row, oldest first, empty ones last.

    Returns:
        indices into the X * R slots [P, R].
    """
    num_slots = event_XR.shape[1]
    event = event_XR.flatten()
    # Empty slots have the lowest event id, and every row has R slots at least.
    by_event = torch.argsort(event, stable=True)
    number = number_X.repeat_interleave(num_slots).index_select(0, by_event)
    by_row = by_event.index_select(0, torch.argsort(number, stable=True))
    end_P1 = (count_P.cumsum(0) * num_slots)[:, None]
    newest_PR = by_row[end_P1 - num_slots + torch.arange(num_slots, device=event.device)]
    full_first_PR = torch.argsort(event[newest_PR] == NO_EVENT, dim=1, stable=True)
    return newest_PR.gather(1, full_first_PR)


def distinct(rows_X: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distinct rows [P], the first place of each [P], each place's number [X], places a row [P]."""
    rows_P, number_X, count_P = torch.unique(rows_X, return_inverse=True, return_counts=True)
    first_P = torch.argsort(number_X, stable=True)[count_P.cumsum(0) - count_P]
    return rows_P, first_P, number_X, count_P
