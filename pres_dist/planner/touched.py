"""How many distinct nodes a slice of consecutive events touches: what a worker pulls and writes.

Two answers: counted on a stream's own batches, or expected under a power law. Distinct
nodes grow more slowly than events. That is why a batch cut into slices is more work than
the whole batch: a node in several slices is pulled and updated in each of them.

With several optimiser steps a temporal batch, each takes consecutive events and every slice its
share of them. So the events of a slice are spread over the batch, and touch more nodes than as
many consecutive ones do.

Shapes: B events of a slice, S sizes that were counted, P shares, N nodes.
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
from pres_dist.planner.plan import ParallelPlan
from pres_dist.planner.workload import Workload
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import NegativeSampler, destinations_of
from pres_dist.sampling.neighbours import NeighbourSampler
from pres_dist.step.batches import batch_of
from pres_dist.step.gather import gather

_SHARES_P = 2.0 ** -np.arange(13)


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

    def touched(self, events: float, share: float = 1.0) -> Touched:
        """Of consecutive events, or of a share of them that is spread evenly.

        Args:
            events: how many; may be a fraction of one.
            share: above 0, of them.
        """


@dataclass(frozen=True)
class CountedTouches:
    """Counts on a stream, interpolated between sizes and shares on logarithmic scales.

    Below the smallest size they are proportional to the events; beyond the largest the
    last slope goes on, and nothing exceeds the nodes of the stream.

    Attributes:
        name: of the stream.
        num_nodes: of the stream.
        sizes_S: events of the slices that were counted, ascending.
        counts_SP3: means of pulled, written and observed, of the shares 1, 1/2, 1/4 and so on.
    """

    name: str
    num_nodes: int
    sizes_S: np.ndarray
    counts_SP3: np.ndarray

    @property
    def told(self) -> str:
        sizes = f"{int(self.sizes_S[0]):,} to {int(self.sizes_S[-1]):,}"
        return f"distinct nodes counted on slices of {sizes} events of {self.name}"

    def touched(self, events: float, share: float = 1.0) -> Touched:
        sizes, counts_S3 = np.log(self.sizes_S), self._logarithms(share)
        place = np.log(max(events, 1e-9))
        if place <= sizes[0]:
            return Touched(*(np.exp(counts_S3[0]) * events / self.sizes_S[0]).tolist())
        right = min(int(np.searchsorted(sizes, place)), len(sizes) - 1)
        found = np.exp(_between(counts_S3, right, sizes, place))
        return Touched(*np.minimum(found, self.num_nodes).tolist())

    def _logarithms(self, share: float) -> np.ndarray:
        """[S, 3] of the counts of a share; below the smallest one they are proportional to it."""
        halvings, counts_PS3 = -np.log2(share), np.log(self.counts_SP3).transpose(1, 0, 2)
        places = np.arange(len(counts_PS3), dtype=float)
        if halvings >= places[-1]:
            smallest: np.ndarray = counts_PS3[-1] - np.log(2.0) * (halvings - places[-1])
            return smallest
        right = max(int(np.searchsorted(places, halvings)), 1)
        return _between(counts_PS3, right, places, halvings)


def _between(values: np.ndarray, right: int, places: np.ndarray, place: float) -> np.ndarray:
    """Linear between two rows, or beyond them."""
    step = (place - places[right - 1]) / (places[right] - places[right - 1])
    found: np.ndarray = values[right - 1] + step * (values[right] - values[right - 1])
    return found


def of_slice(workload: Workload, plan: ParallelPlan, touch: TouchModel) -> Touched:
    """Distinct nodes of a slice, which several optimiser steps spread over the batch."""
    if workload.num_updates(plan.batch) > 1:
        return touch.touched(plan.batch, 1 / plan.slices)
    return touch.touched(plan.local_batch)


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

    def count(self, start: int, size: int) -> np.ndarray:
        """[P, 3] distinct nodes of shares of consecutive events, as in `CountedTouches`."""
        batch = batch_of(self._tables, torch.arange(start, start + size))
        num = self._config.sampling.num_negatives
        negatives_BM = self._negatives.sample(batch.src_B, batch.dst_B, batch.events_B, num, 1)
        hops = num_hops(self._config.model)
        gathered = gather(batch, negatives_BM, self._sampler, self._tables, hops, 1)
        event_B = torch.arange(size)
        event_2B, event_BM = event_B.repeat(2), event_B.repeat_interleave(num)
        ends, negatives = gathered.index_2B, gathered.index_BM.flatten()
        events, nodes = [torch.cat([event_2B, event_BM])], [torch.cat([ends, negatives])]
        for hop in gathered.hops:  # its queries are all that was read before
            events.append(torch.cat(events).repeat_interleave(hop.index_QK.shape[1]))
            nodes.append(hop.index_QK.flatten())
        reads = ((torch.cat(events), torch.cat(nodes)), (event_2B, ends), (event_BM, negatives))
        return np.stack(
            [_of_shares(nodes * size + events, size) for events, nodes in reads], axis=1
        )


def _of_shares(reads: torch.Tensor, num_events: int) -> np.ndarray:
    """[P] expected distinct nodes of shares, by how many of the events read each node.

    Args:
        reads: node * num_events + event.
    """
    nodes = torch.unique(reads) // num_events
    num_events_N = torch.unique_consecutive(nodes, return_counts=True)[1].numpy()
    return np.array([(1 - (1 - share) ** num_events_N).sum() for share in _SHARES_P])
