"""A small stream that can be learnt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream

MakeConfig = Callable[..., RunConfig]


def habitual_stream(num_events: int = 1500, features: int = 3, seed: int = 0) -> EventStream:
    """Users who mostly return to one item of their own; about one event in five shares its time."""
    rng = np.random.default_rng(seed)
    src = rng.integers(0, 40, num_events)
    favourite = rng.integers(0, 15, 40)
    random_item = rng.integers(0, 15, num_events)
    dst = 40 + np.where(rng.random(num_events) < 0.8, favourite[src], random_item)
    t = np.cumsum(rng.integers(0, 5, num_events)) + 1_700_000_000_000
    return EventStream.from_arrays(
        src,
        dst,
        t,
        name="habits",
        num_sources=40,
        edge_features=rng.normal(size=(num_events, features)) if features else None,
    )
