"""FIFO mailboxes: the last R mails of a node, from its own and its neighbors' events.

Shapes: N nodes, X mails delivered, P distinct receivers among them, R mailbox slots,
Y mails and slots together, F mails stored, D memory size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.memory.merge import newest_mail
from pres_dist.memory.state import NodeState


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
