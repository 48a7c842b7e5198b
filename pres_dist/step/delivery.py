"""Mail delivery to FIFO mailboxes (APAN's mail propagation).

Wang et al., APAN: Asynchronous Propagation Attention Network for Real-time Temporal
Graph Embedding, SIGMOD 2021 (mail propagator): the mail of an event goes to both
endpoints and to their most recent neighbors, hop by hop. Mail is sent
once the event has been computed, so that scoring never waits for neighbor reads.

Shapes: B events, C receivers of one, Y mails, X mails sent, K neighbors, R
mailbox slots, D memory size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import TemporalBatch


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


def both_ends(memory_UD: Tensor, index_2B: Tensor) -> Tensor:
    """Return [B, D] sums of the memories of both endpoints, indexed as in `Gathered`."""
    memory_2BD = memory_UD.index_select(0, index_2B).view(2, -1, memory_UD.shape[1])
    return memory_2BD.sum(0)


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
