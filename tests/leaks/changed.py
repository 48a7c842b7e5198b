"""Streams that differ from the small one in what may not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pres_dist.config.run import RunConfig
from pres_dist.events.split import chronological_split
from pres_dist.events.stream import EventStream
from tests.leaks.scramble import with_other_future
from tests.leaks.variants import NUM_EVENTS, TIES, TRAIN_END, VALIDATION_END

BORDERS = (TRAIN_END, VALIDATION_END)


def starts_near(stream: EventStream, *events: int) -> list[int]:
    """The first event at the time of each of some events."""
    return [int(np.searchsorted(stream.t, stream.t[event])) for event in events]


def ties(stream: EventStream, config: RunConfig) -> list[tuple[int, int]]:
    """First event and end of a run of equal times in each part that may be shuffled.

    Where nodes are held out, a shuffle would change who is trained on.
    """
    t = stream.t[list(TIES[config.data.held_out_share > 0 :])]
    starts, stops = (np.searchsorted(stream.t, t, side) for side in ("left", "right"))
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def with_other_values(stream: EventStream, first: int) -> EventStream:
    """Features and labels from an event on take other values; nodes and times stay."""
    other = with_other_future(stream, first, BORDERS)
    return replace(stream, edge_features=other.edge_features, labels=other.labels)


def with_other_features(stream: EventStream, events: slice | np.ndarray) -> EventStream:
    assert stream.edge_features is not None
    features = stream.edge_features.copy()
    features[events] = 1 - 2 * features[events]
    return replace(stream, edge_features=features)


def with_other_company(stream: EventStream, first: int, event: int) -> EventStream:
    """Other events at an event's time and later, but for itself; times stay."""
    other = with_other_future(stream, first, BORDERS)
    stop = min(border for border in (*BORDERS, NUM_EVENTS) if border > event)
    for name in ("src", "dst"):
        column, true = getattr(other, name), getattr(stream, name)[event]
        # The event changes places with one that now has its node, so that no node is lost.
        place = first + int(np.flatnonzero(column[first:stop] == true)[0])
        column[place], column[event] = column[event], true
    return replace(other, t=stream.t)


def with_other_partners(stream: EventStream, events: np.ndarray, held_out: set[int]) -> EventStream:
    """Some events of held-out nodes lead elsewhere."""
    src, dst = stream.src.copy(), stream.dst.copy()
    for event in events.tolist():
        for column in (src, dst):
            if int(column[event]) not in held_out:
                column[event] = (column[event] + 5) % stream.num_nodes
    return replace(stream, src=src, dst=dst)


def held_out(stream: EventStream, config: RunConfig) -> np.ndarray:
    data = config.data
    split = chronological_split(
        stream, data.train_share, data.validation_share, data.held_out_share, data.split_seed
    )
    return np.empty(0, dtype=np.int64) if split.held_out is None else split.held_out


def kept_events(stream: EventStream, config: RunConfig) -> np.ndarray:
    """Training events that touch no held-out node."""
    ends = np.stack([stream.src[:TRAIN_END], stream.dst[:TRAIN_END]])
    return np.flatnonzero(~np.isin(ends, held_out(stream, config)).any(0))
