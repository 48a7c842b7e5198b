"""Synthetic bipartite streams of any size, for tests and benchmarks of scale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import Field

from pres_dist.config.base import Config, Seed
from pres_dist.events.stream import EventStream
from pres_dist.events.writer import StreamWriter

CHUNK_EVENTS = 1 << 20
RECENT_ITEMS = 8
MEAN_GAP_MS = 1_000.0


class SynthesizeConfig(Config):
    """Generate a synthetic stream of users x items; options and seed determine it fully."""

    out: Path
    """Directory to create."""
    events: int = Field(1_000_000, ge=1, le=10**12)
    """Number of events."""
    users: int = Field(10_000, ge=1, le=10**9)
    """Number of users: nodes 0 to users - 1."""
    items: int = Field(10_000, ge=1, le=10**9)
    """Number of items: the nodes after the users."""
    popularity: float = Field(1.0, ge=0, le=10)
    """Zipf exponent of how busy users and how popular items are; 0 is uniform."""
    repeats: float = Field(0.5, ge=0, le=1)
    """Probability that a user returns to one of its last 8 items."""
    burstiness: float = Field(0.5, ge=0, le=1)
    """0 is a Poisson process; 1 has long gaps and dense bursts. The mean gap stays 1 s."""
    features: int = Field(0, ge=0, le=100_000)
    """Number of edge features, standard normal."""
    seed: Seed = 0
    """Seed of all draws."""
    name: str | None = None
    """Name of the stream; the directory's name when unset."""
    force: bool = False
    """Replace an existing stream."""


def synthesize(
    config: SynthesizeConfig, progress: Callable[[int, int], None] | None = None
) -> EventStream:
    """Generate the stream chunk by chunk; memory depends on users and items only.

    ``progress`` is called with the number of events so far and in total. Raises ``DataError``.
    """
    with StreamWriter(
        config.out,
        name=config.name,
        edge_dim=config.features,
        num_nodes=config.users + config.items,
        num_sources=config.users,
        metadata={
            "source": "pres-dist data synthesize",
            "time_unit": "ms",
            "options": config.model_dump(exclude={"out", "name", "force"}),
        },
        force=config.force,
    ) as writer:
        generator = _Generator(config)
        while writer.num_events < config.events:
            writer.append(*generator.chunk(min(CHUNK_EVENTS, config.events - writer.num_events)))
            if progress is not None:
                progress(writer.num_events, config.events)
    return EventStream.open(config.out)


class _Generator:
    """Generator of consecutive events; stores the current time and each user's last items."""

    def __init__(self, config: SynthesizeConfig) -> None:
        self._config = config
        self._random = np.random.default_rng(config.seed)
        self._users = _Zipf(config.users, config.popularity, self._random)
        self._items = _Zipf(config.items, config.popularity, self._random)
        # Last items of each user, the latest first; -1 if there is none yet.
        self._recent = np.full((config.users, RECENT_ITEMS), -1, dtype=np.int64)
        self._now = 0

    def chunk(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Return src, dst, t [size] and features [size, d_e] of the next events."""
        users = self._users.draw(size)
        items = self._returning(users, self._items.draw(size))
        features = None
        if self._config.features:
            shape = (size, self._config.features)
            features = self._random.standard_normal(shape, dtype=np.float32)
        # Exponential gaps, stretched by a log-normal factor of mean 1.
        sigma = 3 * self._config.burstiness
        stretch = np.exp(sigma * self._random.standard_normal(size) - sigma**2 / 2)
        gaps = self._random.exponential(MEAN_GAP_MS, size) * stretch
        times = self._now + np.cumsum(gaps.astype(np.int64))
        self._now = int(times[-1])
        return users, items + self._config.users, times, features

    def _returning(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Replace each returning user's item by the item of one of their last events.

        Each event of a user points ``back`` to one of the user's last 8 events. A
        pointer inside the chunk may lead to another returning event, so pointers are
        followed to their end. A pointer that leaves the chunk is looked up in
        ``_recent``.
        """
        size = len(users)
        order = np.argsort(users, kind="stable")
        starts = np.flatnonzero(np.diff(users[order], prepend=-1))
        lengths = np.diff(starts, append=size)
        rank = np.arange(size) - np.repeat(starts, lengths)
        back = self._random.integers(1, RECENT_ITEMS + 1, size)
        returns = self._random.random(size) < self._config.repeats
        sorted_items = items[order]

        outside = np.flatnonzero(returns & (back > rank))
        remembered = self._recent[users[order[outside]], back[outside] - rank[outside] - 1]
        known = remembered >= 0
        sorted_items[outside[known]] = remembered[known]

        places = np.arange(size)
        target = np.where(returns & (back <= rank), places - back, places)
        while (further := target[target] != target).any():
            target[further] = target[target[further]]
        sorted_items = sorted_items[target]
        self._remember(users[order[starts]], sorted_items, starts + lengths, lengths)
        items[order] = sorted_items
        return items

    def _remember(
        self, users: np.ndarray, sorted_items: np.ndarray, ends: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Push the items of the chunk in front of each user's last items."""
        place = np.arange(RECENT_ITEMS)
        new = place < lengths[:, None]
        inside = np.maximum(ends[:, None] - 1 - place, 0)
        shifted = np.maximum(place - lengths[:, None], 0)
        before = np.take_along_axis(self._recent[users], shifted, axis=1)
        self._recent[users] = np.where(new, sorted_items[inside], before)


class _Zipf:
    """Sampler of 0..size-1 with probability ~ 1 / rank**exponent, ranks shuffled over ids."""

    def __init__(self, size: int, exponent: float, random: np.random.Generator) -> None:
        self._random = random
        self._cumulative = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -exponent)
        self._cumulative /= self._cumulative[-1]
        self._ids = random.permutation(size)

    def draw(self, count: int) -> np.ndarray:
        """Draw [count] int64 ids."""
        ranks = np.searchsorted(self._cumulative, self._random.random(count), side="right")
        return self._ids[np.minimum(ranks, len(self._ids) - 1)]
