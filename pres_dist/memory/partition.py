"""Partition of nodes that places nodes with many common events together.

Linear deterministic greedy placement (LDG: Stanton and Kliot, Streaming graph partitioning
for large distributed graphs, KDD 2012): nodes arrive in the order of their first event, and
each is placed in the part with most of its events, discounted by how full that part is.
Several passes over the stream (restreaming: Nishimura and Ugander, KDD 2013) let a node
also follow partners that arrived after it. Nodes are placed in chunks of a few dozen,
which numpy can vectorize, instead of in a loop over events.

Shapes: E events, N nodes, V nodes with events, W parts, C nodes of a chunk, H half-edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SLACK = 0.03
"""Largest relative excess of a part over an equal share of the nodes."""
PREFIX_EVENTS = 1 << 23
"""Number of events that are read, from the first; each needs about 100 bytes of memory."""
_PASSES = 10
_CHUNKS, _LARGEST_CHUNK = 128, 64
"""Number of chunks for small streams, and largest chunk; smaller chunks place nodes better."""


@dataclass(frozen=True)
class _Meetings:
    """Number of common events of node pairs; nodes are numbered by their first event.

    Attributes:
        nodes_V: ids of the nodes.
        start_V1: [V + 1] start of each node's partners in `partner_H`.
        partner_H: numbers of the partners.
        count_H: float64 number of events with each partner.
    """

    nodes_V: np.ndarray
    start_V1: np.ndarray
    partner_H: np.ndarray
    count_H: np.ndarray


def streaming_partition(src: np.ndarray, dst: np.ndarray, num_nodes: int, world: int) -> np.ndarray:
    """Return the part of each node, a function of the events only.

    Nodes without an event are assigned by a hash of their ids, balancing the part sizes.

    Args:
        src: [E] sources, in time order; only the first `PREFIX_EVENTS` are read.
        dst: [E] destinations.
        num_nodes: N.
        world: number of parts, W.

    Returns:
        [N] int64 part of each node; none has more than 1 + `SLACK` times its share of the
        nodes, rounded up.
    """
    src, dst = src[:PREFIX_EVENTS], dst[:PREFIX_EVENTS]
    owner_N = np.full(num_nodes, -1, dtype=np.int64)
    if len(src):
        meetings = _meetings(src, dst)
        owner_N[meetings.nodes_V] = _place(meetings, world)
    unseen = np.flatnonzero(owner_N < 0)
    unseen = unseen[np.argsort(mixed(unseen), kind="stable")]
    sizes_W = np.bincount(owner_N[owner_N >= 0], minlength=world)
    owner_N[unseen] = _evening_out(sizes_W, unseen.size)
    return owner_N


def _meetings(src: np.ndarray, dst: np.ndarray) -> _Meetings:
    ends = np.stack([src, dst], axis=1).ravel()
    ids, first, number = np.unique(ends, return_index=True, return_inverse=True)
    by_arrival = np.argsort(first)
    arrival = np.empty_like(by_arrival)
    arrival[by_arrival] = np.arange(ids.size)
    one, other = arrival[number].reshape(-1, 2).T
    apart = one != other
    one, other = one[apart], other[apart]
    both = np.concatenate([one * ids.size + other, other * ids.size + one])
    pairs, counts = np.unique(both, return_counts=True)
    start_V1 = np.searchsorted(pairs, np.arange(ids.size + 1) * ids.size)
    return _Meetings(ids[by_arrival], start_V1, pairs % ids.size, counts.astype(np.float64))


def _place(meetings: _Meetings, world: int) -> np.ndarray:
    """Return the [V] part of each node, in order of arrival."""
    num_nodes = meetings.nodes_V.size
    capacity = max(int((1 + SLACK) * num_nodes / world), -(-num_nodes // world))
    # Nodes not yet placed are in an extra part, which `_met` drops.
    part_V = np.full(num_nodes, world, dtype=np.int64)
    sizes_W = np.zeros(world, dtype=np.int64)
    step = min(max(num_nodes // _CHUNKS, 1), _LARGEST_CHUNK)
    for turn in range(_PASSES):
        for first in range(0, num_nodes, step):
            chunk = slice(first, min(first + step, num_nodes))
            if turn:  # remove the chunk from its parts before placing it again
                sizes_W -= np.bincount(part_V[chunk], minlength=world)
            met_CW = _met(meetings, part_V, chunk, world)
            part_V[chunk] = _choose(met_CW, sizes_W, capacity)
            sizes_W += np.bincount(part_V[chunk], minlength=world)
    return part_V


def _met(meetings: _Meetings, part_V: np.ndarray, chunk: slice, world: int) -> np.ndarray:
    """Count the events of a chunk's nodes with nodes of each part [C, W]."""
    starts = meetings.start_V1[chunk.start : chunk.stop + 1]
    edges = slice(starts[0], starts[-1])
    row = np.repeat(np.arange(starts.size - 1), np.diff(starts))
    cell = row * (world + 1) + part_V[meetings.partner_H[edges]]
    size = (starts.size - 1) * (world + 1)
    met = np.bincount(cell, meetings.count_H[edges], minlength=size)
    return met.reshape(-1, world + 1)[:, :world]


def _choose(met_CW: np.ndarray, sizes_W: np.ndarray, capacity: int) -> np.ndarray:
    """Choose a part for each node of a chunk; no part exceeds the capacity."""
    part_C = np.full(len(met_CW), -1, dtype=np.int64)
    sizes_W = sizes_W.copy()
    while True:
        score_CW = met_CW * (1 - sizes_W / capacity)
        waiting = np.flatnonzero((part_C < 0) & (score_CW.max(axis=1) > 0))
        if not waiting.size:
            break
        best = score_CW[waiting].argmax(axis=1)
        gain = score_CW[waiting, best]
        # Nodes with the largest gain go first; a node whose part is full chooses again.
        by_gain = np.lexsort((waiting, -gain, best))
        rank = np.empty(waiting.size, dtype=np.int64)
        starts = np.searchsorted(best[by_gain], np.arange(sizes_W.size))
        rank[by_gain] = np.arange(waiting.size) - starts[best[by_gain]]
        fits = rank < capacity - sizes_W[best]
        part_C[waiting[fits]] = best[fits]
        sizes_W += np.bincount(best[fits], minlength=sizes_W.size)
    alone = np.flatnonzero(part_C < 0)
    part_C[alone] = _evening_out(sizes_W, alone.size)
    return part_C


def _evening_out(sizes_W: np.ndarray, num: int) -> np.ndarray:
    """Return the [num] parts for `num` more nodes that balance the sizes best."""
    # Fill the smallest parts first, up to a common level.
    sizes = np.sort(sizes_W)
    filled = np.arange(1, sizes.size + 1) * np.append(sizes[1:], sizes[-1] + num) - sizes.cumsum()
    lowest = int(np.searchsorted(filled, num)) + 1
    level = (sizes[:lowest].sum() + num) // lowest
    more_W = np.maximum(level - sizes_W, 0)
    rest = num - int(more_W.sum())
    more_W[np.argsort(sizes_W + more_W, kind="stable")[:rest]] += 1
    # Assign round-robin, not part by part.
    parts = np.repeat(np.arange(sizes_W.size), more_W)
    turn = np.arange(num) - np.repeat(more_W.cumsum() - more_W, more_W)
    return parts[np.lexsort((parts, turn))]


def mixed(ids: np.ndarray) -> np.ndarray:
    """Return a hash of ids (the finalizer of splitmix64)."""
    x = ids.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
