"""The mail that a temporal batch stores for later batches.

A mailbox holds the messages of the last batch that touched its node (`collect_mail`), or is a FIFO
queue to which each event sends mail (`plan_deliveries`): Wang et al., APAN: Asynchronous
Propagation Attention Network for Real-time Temporal Graph Embedding, SIGMOD 2021 (mail propagator).

Shapes: B events, P distinct endpoints, R mailbox slots, C receivers of one event, Y mails, X mails
sent, K neighbors, D memory size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.memory.state import NO_EVENT
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import TemporalBatch


@dataclass(frozen=True)
class BatchMail:
    """The last R events of each endpoint within a batch.

    Attributes:
        event_PR: event ids, oldest first, full slots before empty ones (NO_EVENT).
        other_PR: value of `index_2B` for the other endpoint; 0 in empty slots.
        count_P: events of each endpoint in the batch; a self-loop counts once.
    """

    event_PR: Tensor
    other_PR: Tensor
    count_P: Tensor


def collect_mail(
    endpoint_2B: Tensor,
    index_2B: Tensor,
    events_B: Tensor,
    num_endpoints: int,
    num_slots: int,
    valid_B: Tensor | None = None,
) -> BatchMail:
    """Sort a batch's events by endpoint and keep the last R of each.

    Args:
        endpoint_2B: number of each endpoint, 0 to P - 1, sources first.
        index_2B: values to store as the other endpoint of a message.
        events_B: event ids, ascending.
        num_endpoints: P.
        num_slots: R.
        valid_B: False for padding, which is not an event; None if there is none.
    """
    num_events = events_B.numel()
    src_B, dst_B = endpoint_2B.view(2, num_events)
    # Padding and the second endpoint of a self-loop go to an extra row, which is dropped below.
    if valid_B is not None:
        src_B, dst_B = (torch.where(valid_B, end_B, num_endpoints) for end_B in (src_B, dst_B))
    dst_B = torch.where(src_B == dst_B, num_endpoints, dst_B)
    owner_2B = torch.stack([src_B, dst_B], dim=1).flatten()
    other_2B = index_2B.view(2, num_events).flip(0).t().flatten()
    event_2B = events_B.repeat_interleave(2)

    # A stable sort by endpoint keeps each endpoint's events in the order of time: the place
    # within the endpoint's run is the number of its events before.
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
    kept = (slice(num_endpoints), slice(num_slots))
    return BatchMail(event_PR[kept], other_PR[kept], count_P[:num_endpoints])


def pending_events(src_B: Tensor, dst_B: Tensor) -> Tensor:
    """Return the [2B] numbers of earlier events in the batch at each endpoint, sources first.

    The memory of the endpoint does not include these events yet. Ids must not be negative.
    """
    loops_B = src_B == dst_B
    # The second endpoint of a self-loop is not counted: it gets an id that no node has.
    owner_2B = torch.stack([src_B, torch.where(loops_B, -1, dst_B)], dim=1).flatten()
    sorted_2B, order_2B = torch.sort(owner_2B, stable=True)
    place_2B = torch.arange(sorted_2B.numel(), device=src_B.device)
    first_2B = torch.searchsorted(sorted_2B, sorted_2B)  # of the run of equal ids
    pending_2B = torch.empty_like(place_2B)
    pending_2B[order_2B] = place_2B - first_2B
    pending_B2 = pending_2B.view(-1, 2)
    return torch.where(loops_B[:, None], pending_B2[:, :1], pending_B2).t().flatten()


@dataclass(frozen=True)
class Deliveries:
    """The mail that a worker sends in a step, computed before any state is read.

    Attributes:
        nodes_X: receivers; a node appears once for each of its mails.
        events_X: event ids.
        place_X: positions of the events among those the worker computes, part by part.
    """

    nodes_X: Tensor
    events_X: Tensor
    place_X: Tensor


def plan_deliveries(
    batch: TemporalBatch, sampler: NeighborSampler, num_hops: int, num_slots: int
) -> Deliveries:
    """Address the mail of events to their endpoints and to the endpoints' earlier neighbors.

    Neighbors are those strictly before the event. A node receives each event once, however
    many paths lead to it. At most the newest R mails are sent to a node.

    Args:
        batch: events, in any order.
        sampler: samples neighbors; all hops see the graph before the event's time.
        num_hops: number of hops beyond the endpoints.
        num_slots: R.
    """
    receivers_BC = _receivers(batch, sampler, num_hops)
    # Sorted by event and then, stably, by node: each node's mails are in the order of events,
    # and a mail that reached a node by several paths is next to its copies.
    order_B = torch.argsort(batch.events_B)
    nodes_Y = receivers_BC.index_select(0, order_B).flatten()
    place_Y = order_B.repeat_interleave(receivers_BC.shape[1])
    nodes_Y, by_node_Y = torch.sort(nodes_Y, stable=True)
    place_Y = place_Y.index_select(0, by_node_Y)
    again_Y = torch.zeros_like(nodes_Y, dtype=torch.bool)
    again_Y[1:] = (nodes_Y[1:] == nodes_Y[:-1]) & (place_Y[1:] == place_Y[:-1])
    nodes_Y, place_Y = nodes_Y[~again_Y], place_Y[~again_Y]
    newest_Y = _from_the_end(nodes_Y) < num_slots
    nodes_X, place_X = nodes_Y[newest_Y], place_Y[newest_Y]
    return Deliveries(nodes_X, batch.events_B.index_select(0, place_X), place_X)


def _receivers(batch: TemporalBatch, sampler: NeighborSampler, num_hops: int) -> Tensor:
    """Return the [B, C] endpoints and neighbors of each event; nodes may repeat."""
    before_B = sampler.adjacency.first_event_at(batch.t_B)
    reached_BC = torch.stack([batch.src_B, batch.dst_B], dim=1)
    hops = [reached_BC]
    for _ in range(num_hops):
        before_Q = before_B.repeat_interleave(reached_BC.shape[1])
        # An empty slot repeats the node itself, which has the mail already.
        nodes_QK = sampler.recent(reached_BC.flatten(), before_Q).nodes_QK
        reached_BC = nodes_QK.view(before_B.numel(), reached_BC.shape[1] * nodes_QK.shape[1])
        hops.append(reached_BC)
    return torch.cat(hops, dim=1)


def _from_the_end(sorted_Y: Tensor) -> Tensor:
    """Return the number of equal values that follow each element of a sorted row."""
    count = torch.unique_consecutive(sorted_Y, return_counts=True)[1]
    end_Y = count.cumsum(0).repeat_interleave(count)
    return end_Y - 1 - torch.arange(sorted_Y.numel(), device=sorted_Y.device)
