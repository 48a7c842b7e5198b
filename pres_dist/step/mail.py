"""The mail that a temporal batch stores for later batches.

Shapes: B events, P distinct endpoints, R mailbox slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.memory.state import NO_EVENT


@dataclass(frozen=True)
class BatchMail:
    """The last R events of each endpoint within a batch.

    Attributes:
        event_PR: event ids, oldest first, full slots before empty ones (NO_EVENT).
        other_PR: value of `index_2B` for the other endpoint; 0 in empty slots.
        count_P: events of each endpoint in the batch; a self-loop counts once.
        pending_2B: number of earlier events in the batch for each endpoint of each event,
            sources first: events that its memory does not include yet.
    """

    event_PR: Tensor
    other_PR: Tensor
    count_P: Tensor
    pending_2B: Tensor


def collect_mail(
    endpoint_2B: Tensor, index_2B: Tensor, events_B: Tensor, num_endpoints: int, num_slots: int
) -> BatchMail:
    """Sort a batch's events by endpoint and keep the last R of each.

    Args:
        endpoint_2B: number of each endpoint, 0 to P - 1, sources first.
        index_2B: values to store as the other endpoint of a message.
        events_B: event ids, ascending.
        num_endpoints: P.
        num_slots: R.
    """
    num_events = events_B.numel()
    src_B, dst_B = endpoint_2B.view(2, num_events)
    # The second endpoint of a self-loop goes to an extra row, which is dropped below.
    dst_B = torch.where(src_B == dst_B, num_endpoints, dst_B)
    owner_2B = torch.stack([src_B, dst_B], dim=1).flatten()
    other_2B = index_2B.view(2, num_events).flip(0).t().flatten()
    event_2B = events_B.repeat_interleave(2)

    order_2B = torch.argsort(owner_2B, stable=True)
    # Not `bincount`, which synchronizes with the GPU to find the maximum.
    count_P = owner_2B.new_zeros(num_endpoints + 1)
    count_P.index_add_(0, owner_2B, torch.ones_like(owner_2B))
    first_P = count_P.cumsum(0) - count_P
    sorted_owner_2B = owner_2B[order_2B]
    place_2B = torch.arange(2 * num_events, device=events_B.device) - first_P[sorted_owner_2B]
    num_2B = count_P[sorted_owner_2B]
    slot_2B = place_2B - (num_2B - num_slots).clamp(min=0)
    # Events too old to be kept go to an extra slot, which is dropped below.
    slot_2B = torch.where(slot_2B < 0, num_slots, slot_2B)

    shape = (num_endpoints + 1, num_slots + 1)
    event_PR = torch.full(shape, NO_EVENT, device=events_B.device)
    other_PR = torch.zeros(shape, dtype=torch.int64, device=events_B.device)
    event_PR[sorted_owner_2B, slot_2B] = event_2B[order_2B]
    other_PR[sorted_owner_2B, slot_2B] = other_2B[order_2B]
    pending_2B = torch.empty_like(place_2B)
    pending_2B[order_2B] = place_2B
    pending_B2 = pending_2B.view(num_events, 2)
    pending_B2 = torch.where(
        (src_B == endpoint_2B[num_events:])[:, None], pending_B2[:, :1], pending_B2
    )
    return BatchMail(
        event_PR[:num_endpoints, :num_slots],
        other_PR[:num_endpoints, :num_slots],
        count_P[:num_endpoints],
        pending_B2.t().flatten(),
    )


def pending_events(src_B: Tensor, dst_B: Tensor) -> Tensor:
    """Return the [2B] numbers of earlier events in the batch at each endpoint, sources first.

    Equals `BatchMail.pending_2B`, without collecting mail. Ids must not be negative.
    """
    loops_B = src_B == dst_B
    # The second endpoint of a self-loop is not counted.
    owner_2B = torch.stack([src_B, torch.where(loops_B, -1, dst_B)], dim=1).flatten()
    sorted_2B, order_2B = torch.sort(owner_2B, stable=True)
    place_2B = torch.arange(sorted_2B.numel(), device=src_B.device)
    begins_2B = torch.ones_like(sorted_2B, dtype=torch.bool)
    begins_2B[1:] = sorted_2B[1:] != sorted_2B[:-1]
    first_2B = torch.where(begins_2B, place_2B, 0).cummax(0).values
    pending_2B = torch.empty_like(place_2B)
    pending_2B[order_2B] = place_2B - first_2B
    pending_B2 = pending_2B.view(-1, 2)
    return torch.where(loops_B[:, None], pending_B2[:, :1], pending_B2).t().flatten()
