"""Merge several writes of one row into one, and mail into FIFO mailboxes.

Shapes: X written rows or delivered mails, P distinct rows among them, G rows written more
than once (contested), M writes of contested rows, Y mails, F mails stored, D memory size,
R mailbox slots.
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
    # The sort is stable, so that the first write of a row is that of the earliest slice: the
    # result does not depend on which write arrived first.
    merged = state.rows(order_X.index_select(0, count_P.cumsum(0) - count_P))
    if rows_P.numel() == rows_X.numel():
        return rows_P, merged
    is_contested_P = count_P > 1
    contested_G = is_contested_P.nonzero().flatten()
    count_G = count_P.index_select(0, contested_G)
    # With its size, so that a repeat does not synchronize with a GPU.
    row_X = torch.repeat_interleave(count_P, output_size=rows_X.numel())
    place_M = is_contested_P.index_select(0, row_X).nonzero().flatten()
    write_M = order_X.index_select(0, place_M)
    group_M = (is_contested_P.cumsum(0) - 1).index_select(0, row_X.index_select(0, place_M))
    mail_count_G = count_G.new_zeros(count_G.numel())
    mail_count_G.index_add_(0, group_M, state.mail_count_U.index_select(0, write_M))
    merged.mail_count_U.index_copy_(0, contested_G, mail_count_G)
    event_MR = state.mail_event_UR.index_select(0, write_M)
    num_slots = event_MR.shape[1]
    group_Y = group_M.repeat_interleave(num_slots)
    newest_GR = newest_mail(group_Y, event_MR.flatten(), count_G * num_slots, num_slots)
    # Empty slots count as oldest and come first, but mailboxes have them last.
    full_first_GR = torch.argsort(event_MR.flatten()[newest_GR] == NO_EVENT, dim=1, stable=True)
    newest_GR = newest_GR.gather(1, full_first_GR)
    # Map slots of the contested writes to slots of all writes.
    newest_GR = write_M[newest_GR // num_slots] * num_slots + newest_GR % num_slots
    for slots_XR, kept_PR in (
        (state.mail_event_UR, merged.mail_event_UR),
        (state.mail_memory_URD, merged.mail_memory_URD),
    ):
        kept_PR.index_copy_(0, contested_G, slots_XR.flatten(0, 1)[newest_GR])
    return rows_P, merged


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
    # Sorted by event and then, with a stable sort, by mailbox: the newest R mails of a mailbox
    # are the last R of its range.
    by_event = torch.argsort(event_Y, stable=True)
    by_group = torch.argsort(group_Y.index_select(0, by_event), stable=True)
    by_group = by_event.index_select(0, by_group)
    end_G1 = count_G.cumsum(0)[:, None]
    return by_group[end_G1 - num_slots + torch.arange(num_slots, device=event_Y.device)]


def joined_rows(written: Sequence[tuple[Tensor, NodeState]]) -> tuple[Tensor, NodeState]:
    """Concatenate the rows of several writes."""
    if len(written) == 1:
        return written[0]
    columns = zip(*(state.columns() for _, state in written), strict=True)
    state = NodeState.from_columns(torch.cat(column) for column in columns)
    return torch.cat([nodes for nodes, _ in written]), state


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


def roll(rows: NodeState, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
    """Put mail into mailboxes, in place; each keeps its newest R mails by event id.

    Kept mail does not move: new mail, in order of event ids, takes the slots of the oldest
    mail. So a mailbox depends on the mail delivered in a batch, but not on how the batch was
    sliced or on the order of arrival.

    Args:
        rows: state of all nodes.
        nodes_X: receivers.
        events_X: event ids; a node receives each event once.
        memory_XD: contents of the mails.
    """
    num_slots = rows.mail_event_UR.shape[1]
    nodes_P, receiver_X, count_P = torch.unique(nodes_X, return_inverse=True, return_counts=True)
    receiver_PR = torch.arange(nodes_P.numel(), device=nodes_X.device)[:, None].expand(
        -1, num_slots
    )
    stored_PR = rows.mail_event_UR.index_select(0, nodes_P)
    event_Y = torch.cat([stored_PR.flatten(), events_X])
    receiver_Y = torch.cat([receiver_PR.flatten(), receiver_X])
    kept_PR = newest_mail(receiver_Y, event_Y, count_P + num_slots, num_slots)
    num_stored = stored_PR.numel()
    freed_PR = torch.ones_like(stored_PR, dtype=torch.bool)
    freed_PR.view(-1)[kept_PR[kept_PR < num_stored]] = False
    # A receiver frees as many slots as it keeps new mails; both are sorted by receiver.
    new_F = kept_PR[kept_PR >= num_stored] - num_stored
    slot_PR = nodes_P[:, None] * num_slots + torch.arange(num_slots, device=nodes_X.device)
    slot_F = slot_PR[freed_PR]
    rows.mail_event_UR.view(-1).index_copy_(0, slot_F, events_X.index_select(0, new_F))
    rows.mail_memory_URD.flatten(0, 1).index_copy_(0, slot_F, memory_XD.index_select(0, new_F))
    # At most R, since a worker sends a node at most R mails.
    counted_P = rows.mail_count_U.index_select(0, nodes_P) + count_P
    rows.mail_count_U.index_copy_(0, nodes_P, counted_P.clamp(max=num_slots))
