"""Mailboxes that roll: the last R mails of a node, whoever's events they are of.

Shapes: N nodes, X mails delivered, P distinct receivers among them, R mailbox slots,
Y mails and slots together, F mails that find a place, D memory size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.memory.merge import newest_mail
from pres_dist.memory.state import NodeState


def roll(rows: NodeState, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
    """Put mail into mailboxes, in place; each keeps its newest R by event id.

    What stays does not move: new mail takes the slots of the oldest, by event id and
    slot by slot. So a mailbox depends on what was delivered to it in a batch, not on
    how the batch was cut nor on the order of arrival.

    Args:
        rows: all nodes.
        nodes_X: receivers.
        events_X: event ids, of which a node gets each once.
        memory_XD: what the mails hold.
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
    # As many slots of a receiver are freed as it keeps new mails, and both are in its order.
    new_F = kept_PR[kept_PR >= num_stored] - num_stored
    slot_PR = nodes_P[:, None] * num_slots + torch.arange(num_slots, device=nodes_X.device)
    slot_F = slot_PR[freed_PR]
    rows.mail_event_UR.view(-1).index_copy_(0, slot_F, events_X.index_select(0, new_F))
    rows.mail_memory_URD.flatten(0, 1).index_copy_(0, slot_F, memory_XD.index_select(0, new_F))
    # Up to R, for a worker sends no more than that of what it could.
    counted_P = rows.mail_count_U.index_select(0, nodes_P) + count_P
    rows.mail_count_U.index_copy_(0, nodes_P, counted_P.clamp(max=num_slots))
