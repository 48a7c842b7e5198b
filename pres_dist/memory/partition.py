"""A partition of nodes that keeps those together that often meet.

Linear deterministic greedy placement (LDG: Stanton and Kliot, Streaming graph partitioning
for large distributed graphs, KDD 2012): nodes come in the order of their first event, and
each goes to the part that holds most of its meetings, discounted by how full that part is.
The stream is gone through several times (restreaming: Nishimura and Ugander, KDD 2013), so
that a node is also drawn to partners that first came after it. Nodes are placed some
dozens at a time, which makes it a matter of numpy and not of a loop over events.

Shapes: E events, N nodes, V nodes with events, W parts, C nodes of a chunk, H half-edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SLACK = 0.03
"""Share by which a part may have more nodes than its equal share, while others have fewer."""
PREFIX_EVENTS = 1 << 23
"""Later events are not looked at. About 100 bytes an event are needed to look."""
_PASSES = 10
_CHUNKS, _LARGEST_CHUNK = 128, 64
"""Small streams are placed in this many chunks: the smaller a chunk, the better its choices."""


@dataclass(frozen=True)
class _Meetings:
    """Who met whom how often, by nodes in the order of their first event.

    Attributes:
        nodes_V: their ids.
        start_V1: [V + 1] where each node's partners begin.
        partner_H: numbers of the partners.
        count_H: float64 meetings with each.
    """

    nodes_V: np.ndarray
    start_V1: np.ndarray
    partner_H: np.ndarray
    count_H: np.ndarray


def streaming_partition(src: np.ndarray, dst: np.ndarray, num_nodes: int, world: int) -> np.ndarray:
    """Part of each node: a function of the events alone.

    Nodes without an event are dealt out by a hash of their ids, so as to even out the rest.

    Args:
        src: [E] sources, in time order; the first `PREFIX_EVENTS` count.
        dst: [E] destinations.
        num_nodes: N.
        world: parts, W.

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
    """Part of each node in the order of arrival [V]."""
    num_nodes = meetings.nodes_V.size
    capacity = max(int((1 + SLACK) * num_nodes / world), -(-num_nodes // world))
    # Nodes not yet placed are in a part of their own, which `_met` cuts off.
    part_V = np.full(num_nodes, world, dtype=np.int64)
    sizes_W = np.zeros(world, dtype=np.int64)
    step = min(max(num_nodes // _CHUNKS, 1), _LARGEST_CHUNK)
    for turn in range(_PASSES):
        for first in range(0, num_nodes, step):
            chunk = slice(first, min(first + step, num_nodes))
            if turn:  # it leaves its place before it looks for another
                sizes_W -= np.bincount(part_V[chunk], minlength=world)
            met_CW = _met(meetings, part_V, chunk, world)
            part_V[chunk] = _choose(met_CW, sizes_W, capacity)
            sizes_W += np.bincount(part_V[chunk], minlength=world)
    return part_V


def _met(meetings: _Meetings, part_V: np.ndarray, chunk: slice, world: int) -> np.ndarray:
    """Meetings of the nodes of a chunk with those of each part [C, W]."""
    starts = meetings.start_V1[chunk.start : chunk.stop + 1]
    edges = slice(starts[0], starts[-1])
    row = np.repeat(np.arange(starts.size - 1), np.diff(starts))
    cell = row * (world + 1) + part_V[meetings.partner_H[edges]]
    size = (starts.size - 1) * (world + 1)
    met = np.bincount(cell, meetings.count_H[edges], minlength=size)
    return met.reshape(-1, world + 1)[:, :world]


def _choose(met_CW: np.ndarray, sizes_W: np.ndarray, capacity: int) -> np.ndarray:
    """A part for each node of a chunk; no part gets more than the capacity."""
    part_C = np.full(len(met_CW), -1, dtype=np.int64)
    sizes_W = sizes_W.copy()
    while True:
        score_CW = met_CW * (1 - sizes_W / capacity)
        waiting = np.flatnonzero((part_C < 0) & (score_CW.max(axis=1) > 0))
        if not waiting.size:
            break
        best = score_CW[waiting].argmax(axis=1)
        gain = score_CW[waiting, best]
        # Those who gain most go first; who finds a part full chooses again.
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
    """Parts for `num` more nodes that leave the sizes as even as they can be [num]."""
    # Fill up from the smallest part: the level that the parts reach together.
    sizes = np.sort(sizes_W)
    filled = np.arange(1, sizes.size + 1) * np.append(sizes[1:], sizes[-1] + num) - sizes.cumsum()
    lowest = int(np.searchsorted(filled, num)) + 1
    level = (sizes[:lowest].sum() + num) // lowest
    more_W = np.maximum(level - sizes_W, 0)
    rest = num - int(more_W.sum())
    more_W[np.argsort(sizes_W + more_W, kind="stable")[:rest]] += 1
    # In turn, and not part by part.
    parts = np.repeat(np.arange(sizes_W.size), more_W)
    turn = np.arange(num) - np.repeat(more_W.cumsum() - more_W, more_W)
    return parts[np.lexsort((parts, turn))]


def mixed(ids: np.ndarray) -> np.ndarray:
    """Hash of ids (the finalizer of splitmix64)."""
    x = ids.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
