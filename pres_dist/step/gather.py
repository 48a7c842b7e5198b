"""Mini-batches: the distinct nodes that a temporal batch reads, and indices into them.

Shapes: B events, M negatives an event, Q = B * (2 + M) queries, K neighbors,
U distinct nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.events.tables import EventTables
from pres_dist.model.neighborhood import Hop
from pres_dist.model.rows import Rows
from pres_dist.model.shapes import Room, distinct_within, shapes_are_fixed
from pres_dist.sampling.counter_rng import Key
from pres_dist.sampling.event_log import LogReads
from pres_dist.sampling.neighbors import Neighbors, NeighborSampler
from pres_dist.step.batches import TemporalBatch


@dataclass(frozen=True)
class Gathered:
    """The distinct nodes of a batch, and indices into them.

    Attributes:
        nodes_U: sorted ids; with a `Room`, followed by padding.
        index_2B: rows of the sources, then of the destinations.
        index_BM: rows of the negatives; M is 0 if nothing is scored.
        hops: hops that the embedding reads, outermost first; empty if nothing is embedded.
        message_hops: hops for the message embeddings of the 2B endpoints, if these differ from
            their embeddings for scores.
        reads: event-log inputs of each event's destination and negatives, for a decoder that
            reads the log.
        num_nodes: int64 scalar, number of distinct nodes, which may exceed the room; None without
            a room.
    """

    nodes_U: Tensor
    index_2B: Tensor
    index_BM: Tensor
    hops: Sequence[Hop]
    message_hops: Sequence[Hop] = ()
    reads: LogReads | None = None
    num_nodes: Tensor | None = None


def gather_endpoints(batch: TemporalBatch) -> Gathered:
    """Index only the nodes that the batch writes: enough for a replay if mail holds memory."""
    nodes_U, index_2B = torch.unique(torch.cat([batch.src_B, batch.dst_B]), return_inverse=True)
    return Gathered(nodes_U, index_2B, index_2B.new_empty(batch.src_B.numel(), 0), [])


def gather(
    batch: TemporalBatch,
    negatives_BM: Tensor,
    sampler: NeighborSampler,
    tables: EventTables,
    num_hops: int,
    epoch: Key,
    num_message_hops: int = 0,
    room: Room | None = None,
) -> Gathered:
    """Sample the hops of sources, destinations and negatives and index their nodes.

    Every query has its event's time. Neighbors of a neighbor are sampled at the time of
    the event that connects it. Message hops cover only sources and destinations. With a
    room, the number of distinct nodes is fixed.
    """
    num_events, num_negatives = negatives_BM.shape
    roots_Q = torch.cat([batch.src_B, batch.dst_B, negatives_BM.flatten()])
    t_Q = torch.cat([batch.t_B, batch.t_B, batch.t_B.repeat_interleave(num_negatives)])
    ends = slice(2 * num_events)
    sampled = _sample_hops(roots_Q, t_Q, sampler, tables, num_hops, epoch)
    for_messages = _sample_hops(roots_Q[ends], t_Q[ends], sampler, tables, num_message_hops, epoch)
    nodes_U, index_Q, index_hops, num_nodes = _distinct(roots_Q, sampled + for_messages, room)
    hops = _index_hops(index_Q, t_Q, sampled, index_hops[:num_hops], tables)
    message_hops: Sequence[Hop] = ()
    if for_messages:
        message_hops = _index_hops(
            index_Q[ends], t_Q[ends], for_messages, index_hops[num_hops:], tables
        )
    index_BM = index_Q[2 * num_events :].view(num_events, num_negatives)
    return Gathered(nodes_U, index_Q[ends], index_BM, hops, message_hops, num_nodes=num_nodes)


def gather_queries(
    nodes_Q: Tensor, t_Q: Tensor, sampler: NeighborSampler, tables: EventTables, num_hops: int
) -> Gathered:
    """Sample the hops of nodes, each at its own time: queries without events."""
    sampled = _sample_hops(nodes_Q, t_Q, sampler, tables, num_hops, epoch=0)
    nodes_U, index_Q, index_hops, _ = _distinct(nodes_Q, sampled)
    nothing = index_Q.new_empty(0)
    hops = _index_hops(index_Q, t_Q, sampled, index_hops, tables)
    return Gathered(nodes_U, nothing, nothing.view(0, 0), hops)


def _distinct(
    roots_Q: Tensor, sampled: list[tuple[Tensor, Neighbors]], room: Room | None = None
) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
    """Return the distinct nodes of queries and hops, the indices of each, and their number."""
    # One `unique` over everything: each call sorts, and waits for a GPU to learn the size.
    around = [neighbors.nodes_QK.flatten() for _, neighbors in sampled]
    flat, num_nodes = torch.cat([roots_Q, *around]), None
    if room is None:
        nodes_U, index = torch.unique(flat, return_inverse=True)
    else:
        nodes_U, index, num_nodes = distinct_within(flat, room)
    index_Q, *index_hops = index.split([roots_Q.numel(), *(part.numel() for part in around)])
    return nodes_U, index_Q, index_hops, num_nodes


def _sample_hops(
    nodes_Q: Tensor,
    t_Q: Tensor,
    sampler: NeighborSampler,
    tables: EventTables,
    num_hops: int,
    epoch: Key,
) -> list[tuple[Tensor, Neighbors]]:
    """Return the query times and the sampled neighbors of each hop."""
    sampled: list[tuple[Tensor, Neighbors]] = []
    for _ in range(num_hops):
        if sampled:
            last = sampled[-1][1]
            nodes_Q = torch.cat([nodes_Q, last.nodes_QK.flatten()])
            # An empty slot has the time of event 0, before which no node has a history.
            t_Q = torch.cat([t_Q, tables.times(last.events_QK).flatten()])
        before_Q = sampler.adjacency.first_event_at(t_Q)
        sampled.append((t_Q, sampler.sample(nodes_Q, before_Q, epoch)))
    return sampled


def _index_hops(
    index_Q: Tensor,
    t_Q: Tensor,
    sampled: list[tuple[Tensor, Neighbors]],
    index_hops: Sequence[Tensor],
    tables: EventTables,
) -> list[Hop]:
    if not sampled:
        nothing_QK = index_Q.new_empty(index_Q.numel(), 0)
        return [Hop(index_Q, t_Q, nothing_QK, nothing_QK, None, nothing_QK.bool())]
    hops: list[Hop] = []
    for (t_hop_Q, neighbors), index_flat in zip(sampled, index_hops, strict=True):
        if hops:
            index_Q = torch.cat([index_Q, hops[-1].index_QK.flatten()])
        events_QK = neighbors.events_QK
        index_QK = index_flat.view(events_QK.shape)
        t_QK = tables.times(events_QK)
        edges = _edge_rows(events_QK, tables)
        hops.append(Hop(index_Q, t_hop_Q, index_QK, t_QK, edges, neighbors.mask_QK))
    return hops


def _edge_rows(events_QK: Tensor, tables: EventTables) -> Rows | None:
    """Look up features once per distinct event: queries share many neighbor events.

    On a GPU they are looked up for each neighbor, since counting events would synchronize.
    """
    if not tables.edge_dim:
        return None
    if events_QK.device.type != "cpu" or shapes_are_fixed():
        features_QKd = tables.edge_features(events_QK)
        assert features_QKd is not None
        return Rows.of(features_QKd)
    events_X, place_QK = torch.unique(events_QK, return_inverse=True)
    features_Xd = tables.edge_features(events_X)
    assert features_Xd is not None
    return Rows(features_Xd, place_QK)
