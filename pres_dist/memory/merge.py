"""Merge several writes of one row into one.

Shapes: X written rows, P distinct rows, G rows written more than once (contested), M
writes of contested rows, Y mails, D memory size, R mailbox slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pres_dist.memory.state import NO_EVENT, NodeState


def merge_rows(rows_X: Tensor, state: NodeState) -> tuple[Tensor, NodeState]:
    """Merge the writes of one step, so that each row is written once.

    All writes of a row have the same memory and time, up to rounding; the first write's are
    used. The mailbox keeps the newest R events of all writes, by event id and not by
    arrival, and counts are summed. A row written once is unchanged. Merging some of the
    writes first gives the same result.

    Args:
        rows_X: row numbers, in the order of the time slices that write them.
        state: the X written rows.

    Returns:
        distinct rows [P], ascending, and their new state.
    """
    rows_P, count_P, order_X = _grouped(rows_X)
    first_P = order_X.index_select(0, count_P.cumsum(0) - count_P)
    merged = {name: column.index_select(0, first_P) for name, column in vars(state).items()}
    if rows_P.numel() == rows_X.numel():
        return rows_P, NodeState(**merged)
    contested_G = (count_P > 1).nonzero().flatten()
    count_G = count_P.index_select(0, contested_G)
    write_M = order_X[(count_P > 1).repeat_interleave(count_P)]
    group_M = torch.arange(count_G.numel(), device=rows_X.device).repeat_interleave(count_G)
    mail_count_G = count_G.new_zeros(count_G.numel())
    mail_count_G.index_add_(0, group_M, state.mail_count_U.index_select(0, write_M))
    merged["mail_count_U"].index_copy_(0, contested_G, mail_count_G)
    event_MR = state.mail_event_UR.index_select(0, write_M)
    num_slots = event_MR.shape[1]
    group_Y = group_M.repeat_interleave(num_slots)
    newest_GR = newest_mail(group_Y, event_MR.flatten(), count_G * num_slots, num_slots)
    full_first_GR = torch.argsort(event_MR.flatten()[newest_GR] == NO_EVENT, dim=1, stable=True)
    newest_GR = newest_GR.gather(1, full_first_GR)
    # Map slots of the contested writes to slots of all writes.
    newest_GR = write_M[newest_GR // num_slots] * num_slots + newest_GR % num_slots
    for name in ("mail_event_UR", "mail_memory_URD"):
        slots = getattr(state, name).flatten(0, 1)
        merged[name].index_copy_(0, contested_G, slots[newest_GR])
    return rows_P, NodeState(**merged)


def newest_mail(group_Y: Tensor, event_Y: Tensor, count_G: Tensor, num_slots: int) -> Tensor:
    """Select the newest R mails of each mailbox, oldest first; empty slots count as oldest.

    Args:
        group_Y: mailbox of each mail, 0 to G - 1.
        event_Y: event ids, NO_EVENT for empty slots.
        count_G: number of mails of each mailbox, at least R.
        num_slots: R.

    Returns:
        indices into the Y mails [G, R].
    """
    by_event = torch.argsort(event_Y, stable=True)
    by_group = torch.argsort(group_Y.index_select(0, by_event), stable=True)
    by_group = by_event.index_select(0, by_group)
    end_G1 = count_G.cumsum(0)[:, None]
    return by_group[end_G1 - num_slots + torch.arange(num_slots, device=event_Y.device)]


def joined_rows(written: Sequence[tuple[Tensor, NodeState]]) -> tuple[Tensor, NodeState]:
    """Concatenate the rows of several writes."""
    if len(written) == 1:
        return written[0]
    columns = {
        name: torch.cat([getattr(state, name) for _, state in written])
        for name in vars(written[0][1])
    }
    return torch.cat([nodes for nodes, _ in written]), NodeState(**columns)


def first_of_each(rows_X: Tensor, *columns: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return distinct rows [P], ascending, and the columns [P, ...] at their first occurrence."""
    rows_P, count_P, order_X = _grouped(rows_X)
    first_P = order_X.index_select(0, count_P.cumsum(0) - count_P)
    return rows_P, [column.index_select(0, first_P) for column in columns]


def _grouped(rows_X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return distinct rows [P], ascending, their counts [P], and the sorting order [X]."""
    sorted_X, order_X = torch.sort(rows_X, stable=True)
    rows_P, count_P = torch.unique_consecutive(sorted_X, return_counts=True)
    return rows_P, count_P, order_X
