"""Another future for a stream: what may not matter to anything that is scored before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from pres_dist.events.stream import EventStream


def with_other_future(
    stream: EventStream, first: int, borders: Iterable[int] = (), seed: int = 0
) -> EventStream:
    """The stream with its events from `first` on scrambled: ends, times, features and labels.

    In each part, sources and destinations are dealt out anew, and features and labels take
    other values. Gaps between times come in reverse order, and those of parts that are
    scrambled as a whole grow. What is a constant of a part stays: its number of events, the
    nodes that are sources in it and those that are destinations; and of a part that is
    scrambled from its middle on, the last time.

    Args:
        stream: the events.
        first: first event to change: the first at its own time, so that no tie is parted.
        borders: first events of later parts (validation, test); nothing moves across them.
        seed: of the shuffles.
    """
    random = np.random.default_rng(seed)
    cuts = [first, *sorted(border for border in borders if border > first), stream.num_events]
    columns: dict[str, Any] = {"t": _other_times(stream.t, cuts, first in borders)}
    for name in ("src", "dst", "edge_features", "labels"):
        column = getattr(stream, name)
        if column is not None:
            columns[name] = column = np.array(column)
            for start, stop in pairwise(cuts):
                shuffled = random.permutation(column[start:stop])
                # Features may be constant: a shuffle alone would leave them as they are.
                column[start:stop] = shuffled if name in ("src", "dst") else 1 - 2 * shuffled
    return replace(stream, **columns)


def _other_times(t: np.ndarray, cuts: Sequence[int], from_border: bool) -> np.ndarray:
    gaps = np.diff(t, prepend=t[0])
    for start, stop in pairwise(cuts):
        growth = 3 if from_border or start > cuts[0] else 1
        gaps[start + 1 : stop] = growth * gaps[start + 1 : stop][::-1]
    return t[0] + np.cumsum(gaps)
