"""Small streams with everything that can go wrong in them, and histories by brute force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

from pres_dist.events.chunk import MAX_ID
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling.adjacency import TemporalAdjacency

INT64_MAX = (1 << 63) - 1
EPOCH_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Case:
    """A stream, the events that its histories may contain, and nodes worth asking for."""

    stream: EventStream
    keep: np.ndarray | None
    pool: list[int]

    @property
    def tables(self) -> EventTables:
        return EventTables(self.stream)

    def adjacency(self) -> TemporalAdjacency:
        return TemporalAdjacency(self.stream, self.tables, self.keep)


@st.composite
def cases(draw: st.DrawFn, max_events: int = 30) -> Case:
    """Ties, self-loops, repeated pairs, nodes without history, masks, huge ids and times."""
    num_events = draw(st.sampled_from([1, 2, max_events // 2, max_events]))
    num_nodes, pool = draw(st.sampled_from(_id_ranges(num_events)))
    nodes = st.lists(st.sampled_from(pool[1:]), min_size=num_events, max_size=num_events)
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 7]), min_size=num_events, max_size=num_events))
    origin, unit = draw(st.sampled_from([(0, 1), (EPOCH_MS, 86_400_000), (-10, 1)]))
    stream = EventStream.from_arrays(
        draw(nodes), draw(nodes), origin + unit * np.cumsum(gaps), num_nodes=num_nodes
    )
    masks = st.lists(st.booleans(), min_size=num_events, max_size=num_events).filter(any)
    keep = draw(st.none() | masks)
    return Case(stream, None if keep is None else np.array(keep), pool)


def _id_ranges(num_events: int) -> list[tuple[int, list[int]]]:
    """Number of nodes and ids to draw from, around the bound of the composite key.

    The first id of each pool has no event (but where the stream has only one).
    """
    largest = INT64_MAX // num_events
    return [
        (6, [5, 0, 1, 2, 3, 4]),
        (largest, [largest - 2, 0, 1, largest - 1]),
        (largest + 1, [largest - 1, 0, 1, min(largest, MAX_ID)]),
        (INT64_MAX, [1, 0, 1 << 61, 1 << 62, 3 << 61, MAX_ID]),
    ]


def history(case: Case, node: int, before: int, since: int = 0) -> list[int]:
    """Ids of the node's events in [since, before), one by one."""
    src, dst = case.stream.src, case.stream.dst
    return [
        event
        for event in range(since, before)
        if node in (src[event], dst[event]) and (case.keep is None or case.keep[event])
    ]


def first_at(stream: EventStream, t: int) -> int:
    """Number of events strictly before a time."""
    return sum(1 for other in stream.t.tolist() if other < t)


def partner(stream: EventStream, node: int, event: int) -> int:
    """The endpoint of an event that is not the node; the node itself for a self-loop."""
    src, dst = int(stream.src[event]), int(stream.dst[event])
    assert node in (src, dst)
    return dst if src == node else src


def query_times(stream: EventStream) -> list[int]:
    """Times of events, just beside them, and outside of the stream."""
    times = set(stream.t.tolist())
    return sorted({t + shift for t in times for shift in (-1, 0, 1)})


def ids(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)
