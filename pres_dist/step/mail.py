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
from pres_dist.sampling.adjacency import TemporalAdjacency
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
    (src_B, dst_B), (of_src_B, of_dst_B) = endpoint_2B.view(2, -1), index_2B.view(2, -1)
    owner_B2, device = torch.stack([src_B, dst_B], dim=1), events_B.device
    other_B2 = torch.stack([of_dst_B, of_src_B], dim=1)
    # The second endpoint of a self-loop, and padding, get a number that no endpoint has.
    owner_B2[:, 1].masked_fill_(src_B == dst_B, num_endpoints)
    if valid_B is not None:
        owner_B2.masked_fill_(~valid_B[:, None], num_endpoints)
    # A stable sort by endpoint keeps each endpoint's events in the order of time.
    sorted_2B, order_2B = owner_B2.flatten().sort(stable=True)
    bounds = torch.searchsorted(sorted_2B, torch.arange(num_endpoints + 1, device=device))
    first_P, end_P = bounds[:-1], bounds[1:]
    start_P = torch.maximum(first_P, end_P - num_slots)
    place_PR = start_P[:, None] + torch.arange(num_slots, device=device)
    empty_PR = place_PR >= end_P[:, None]
    kept_PR = order_2B[place_PR.masked_fill_(empty_PR, 0)]
    event_PR = events_B[kept_PR // 2].masked_fill_(empty_PR, NO_EVENT)
    other_PR = other_B2.flatten()[kept_PR].masked_fill_(empty_PR, 0)
    return BatchMail(event_PR, other_PR, end_P - first_P)


def pending_events(batch: TemporalBatch, adjacency: TemporalAdjacency) -> Tensor:
    """Return the [2B] numbers of earlier events in the batch at each endpoint, sources first.

    The memory of the endpoint does not include these events yet. The adjacency must include all
    events of the batch.
    """
    ends_2B, first = torch.stack([batch.src_B, batch.dst_B]), batch.events_B[:1]
    before_2B = adjacency.end(ends_2B, batch.events_B) - adjacency.end(ends_2B, first)
    return before_2B.flatten()


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
