"""How many distinct nodes a slice of consecutive events touches: what a worker pulls and writes.

Two answers: counted on a stream's own batches, or expected under a power law. Distinct
nodes grow more slowly than events. That is why a batch cut into slices is more work than
the whole batch: a node in several slices is pulled and updated in each of them.

Shapes: B events of a slice, S sizes that were counted, G groups of nodes of like popularity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from pres_dist.config.run import RunConfig
from pres_dist.events.split import chronological_split
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.model.embedding import num_hops
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import NegativeSampler, destinations_of
from pres_dist.sampling.neighbours import NeighbourSampler
from pres_dist.step.batches import batch_of
from pres_dist.step.gather import gather
from pres_dist.step.plan import plan_parts


@dataclass(frozen=True)
class Touched:
    """Distinct nodes of a slice, on average.

    Attributes:
        pulled: endpoints, negatives and neighbours of all.
        written: endpoints of the events.
        observed: negatives.
    """

    pulled: float
    written: float
    observed: float


class TouchModel(Protocol):
    """Distinct nodes by the size of a slice."""

    @property
    def told(self) -> str:
        """Where the numbers come from, for whoever reads the plan."""

    def touched(self, events: float) -> Touched:
        """Of a slice of so many consecutive events; may be a fraction of one."""


@dataclass(frozen=True)
class CountedTouches:
    """Counts on a stream, interpolated between sizes on a double logarithmic scale.

    Below the smallest size they are proportional to the events; beyond the largest the
    last slope goes on, and nothing exceeds the nodes of the stream.

    Attributes:
        name: of the stream.
        num_nodes: of the stream.
        sizes_S: events of the slices that were counted, ascending.
        counts_S3: means of pulled, written and observed.
    """

    name: str
    num_nodes: int
    sizes_S: np.ndarray
    counts_S3: np.ndarray

    @property
    def told(self) -> str:
        sizes = f"{int(self.sizes_S[0]):,} to {int(self.sizes_S[-1]):,}"
        return f"distinct nodes counted on slices of {sizes} events of {self.name}"

    def touched(self, events: float) -> Touched:
        sizes, counts = np.log(self.sizes_S), np.log(self.counts_S3)
        place = np.log(max(events, 1e-9))
        if place <= sizes[0]:
            return Touched(*(self.counts_S3[0] * events / self.sizes_S[0]).tolist())
        right = min(int(np.searchsorted(sizes, place)), len(sizes) - 1)
        share = (place - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
        found = np.exp(counts[right - 1] + share * (counts[right] - counts[right - 1]))
        return Touched(*np.minimum(found, self.num_nodes).tolist())


def count_touches(
    stream: EventStream,
    config: RunConfig,
    largest: int,
    slices_each: int = 24,
    within: range | None = None,
) -> CountedTouches:
    """Count the distinct nodes of slices of the training part, spread evenly over it.

    Args:
        stream: the events.
        config: hops, neighbours and negatives.
        largest: events of the largest slice; no larger than half the training part.
        slices_each: slices that are looked at for each size.
        within: events to look at; the training part when None.
    """
    within = within or range(chronological_split(stream).train_end)
    largest = max(min(largest, len(within) // 2), 2)
    sizes = np.unique(np.geomspace(1, largest, 2 + int(np.log2(largest))).round().astype(int))
    counter = _Counter(stream, config)
    counts = []
    for size in sizes.tolist():
        starts = np.linspace(within.start, within.stop - size, slices_each).astype(int)
        counts.append(np.mean([counter.count(int(start), size) for start in starts], axis=0))
    return CountedTouches(stream.name, stream.num_nodes, sizes.astype(float), np.array(counts))


class _Counter:
    """Plans slices as training does, without reading any state."""

    def __init__(self, stream: EventStream, config: RunConfig) -> None:
        seed = config.training.seed
        self._config, self._tables = config, EventTables(stream)
        adjacency = TemporalAdjacency(stream, self._tables, home=config.sampling.adjacency)
        self._sampler = NeighbourSampler(adjacency, config.sampling, seed)
        end = chronological_split(stream).train_end
        destinations = destinations_of(stream, range(end))
        self._negatives = NegativeSampler(
            config.sampling.negatives, stream, destinations, adjacency, end, seed
        )

    def count(self, start: int, size: int) -> tuple[int, int, int]:
        batch = batch_of(self._tables, torch.arange(start, start + size))
        num = self._config.sampling.num_negatives
        negatives_BM = self._negatives.sample(batch.src_B, batch.dst_B, batch.events_B, num, 1)
        hops = num_hops(self._config.model)
        gathered = gather(batch, negatives_BM, self._sampler, self._tables, hops, 1)
        plan = plan_parts([batch], [gathered], writes=True, observes=True)
        assert plan.observes_V is not None
        return plan.nodes_V.numel(), int(plan.writes_V.sum()), int(plan.observes_V.sum())
