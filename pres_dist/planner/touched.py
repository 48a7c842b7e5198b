"""Number of distinct nodes that a slice of events touches: the rows a worker pulls and writes.

It is counted on a stream's own batches, or expected under a power law. Distinct nodes grow more
slowly than events. Therefore a batch cut into slices is more work than the whole batch: a node in
several slices is pulled and updated in each of them.

With several optimizer steps per temporal batch, each step takes consecutive events, and every
slice takes its share of them. So the events of a slice are spread over the batch, and touch more
nodes than the same number of consecutive events.

The cost of a node depends on its pending messages: those of the last temporal batch in which the
node had events, up to the capacity of its mailbox.

Shapes: B events of a slice, S counted sizes, P shares, N nodes.
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
from pres_dist.memory.state import NO_EVENT, Pulled
from pres_dist.model.embedding import num_hops
from pres_dist.planner.layout import Layout
from pres_dist.planner.workload import Workload
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.mixture import training_negatives
from pres_dist.sampling.negatives import destinations_of
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import batch_of
from pres_dist.step.gather import gather

_SHARES_P = 2.0 ** -np.arange(13)


@dataclass(frozen=True)
class Touched:
    """Distinct nodes of a slice, on average.

    Attributes:
        pulled: endpoints, negatives and all their neighbors.
        written: endpoints of the events.
        observed: negatives.
    """

    pulled: float
    written: float
    observed: float


@dataclass(frozen=True)
class Waiting:
    """Pending messages per node, on average.

    Attributes:
        pulled: for a node that a slice pulls.
        written: for an endpoint of its events.
    """

    pulled: float
    written: float


def waiting_messages(pulled: Pulled) -> int:
    """Return the number of pending messages of the nodes of a step.

    0 if nodes have one at most: then a node costs the same with and without a message.
    """
    mail_event_UR = pulled.state.mail_event_UR
    return int((mail_event_UR != NO_EVENT).sum()) if mail_event_UR.shape[1] > 1 else 0


class TouchModel(Protocol):
    """Model of the distinct nodes of a slice by its size, and of their pending messages."""

    @property
    def origin(self) -> str:
        """Return the source of the numbers, as text for the reader of the plan."""

    def touched(self, events: float, share: float = 1.0) -> Touched:
        """Return the distinct nodes of consecutive events, or of an evenly spread share of them.

        Args:
            events: how many; may be a fraction of one.
            share: share of these events, above 0.
        """

    def waiting(self, events: float, batch: float) -> Waiting:
        """Return the pending messages per node touched by consecutive events.

        Args:
            events: how many; may be a fraction of one.
            batch: events of the temporal batch that contains them, at least as many.
        """


@dataclass(frozen=True)
class CountedTouches:
    """Touch model counted on a stream, interpolated between sizes and shares on log scales.

    Below the smallest size, counts are proportional to the events. Beyond the largest, they are
    extrapolated with the last slope, up to the nodes of the stream.

    Attributes:
        name: name of the stream.
        num_nodes: number of nodes of the stream.
        sizes_S: events of the counted slices, ascending.
        counts_SP3: mean numbers of pulled, written and observed nodes, for the shares 1, 1/2, 1/4
            and so on.
        waiting_SS2: pending messages per pulled and per written node, by the size of the slice and
            of the temporal batch, which is no smaller.
    """

    name: str
    num_nodes: int
    sizes_S: np.ndarray
    counts_SP3: np.ndarray
    waiting_SS2: np.ndarray

    @property
    def origin(self) -> str:
        """Return the source of the numbers."""
        sizes = f"{int(self.sizes_S[0]):,} to {int(self.sizes_S[-1]):,}"
        return f"distinct nodes counted on slices of {sizes} events of {self.name}"

    def touched(self, events: float, share: float = 1.0) -> Touched:
        """Return the distinct nodes of a share of consecutive events."""
        # Log counts [S, 3] of the share; below the smallest share, they are proportional to it.
        halvings, counts_PS3 = -np.log2(share), np.log(self.counts_SP3).transpose(1, 0, 2)
        last = len(counts_PS3) - 1
        if halvings >= last:
            counts_S3 = counts_PS3[-1] - np.log(2.0) * (halvings - last)
        else:
            right = max(int(np.ceil(halvings)), 1)
            counts_S3 = _between(counts_PS3, right, np.arange(last + 1.0), halvings)
        sizes = np.log(self.sizes_S)
        place = np.log(max(events, 1e-9))
        if place <= sizes[0]:
            return Touched(*(np.exp(counts_S3[0]) * events / self.sizes_S[0]).tolist())
        right = min(int(np.searchsorted(sizes, place)), len(sizes) - 1)
        found = np.exp(_between(counts_S3, right, sizes, place))
        return Touched(*np.minimum(found, self.num_nodes).tolist())

    def waiting(self, events: float, batch: float) -> Waiting:
        """Return the pending messages per node touched by consecutive events."""
        sizes = np.log(self.sizes_S)
        found = self.waiting_SS2
        for size in (events, batch):  # one axis after the other
            place = np.clip(np.log(max(size, 1e-9)), sizes[0], sizes[-1])
            found = _between(found, max(int(np.searchsorted(sizes, place)), 1), sizes, place)
        return Waiting(*found.tolist())


def _between(values: np.ndarray, right: int, places: np.ndarray, place: float) -> np.ndarray:
    """Interpolate linearly between two rows, or extrapolate beyond them."""
    step = (place - places[right - 1]) / (places[right] - places[right - 1])
    found: np.ndarray = values[right - 1] + step * (values[right] - values[right - 1])
    return found


def of_slice(workload: Workload, layout: Layout, touch: TouchModel) -> Touched:
    """Return the distinct nodes of a slice, which several optimizer steps spread over the batch."""
    if workload.num_updates(layout.batch) > 1:
        return touch.touched(layout.batch, 1 / layout.slices)
    return touch.touched(layout.local_batch)


def count_touches(
    stream: EventStream,
    config: RunConfig,
    largest: int,
    slices_each: int = 24,
    within: range | None = None,
) -> CountedTouches:
    """Count the distinct nodes of slices of the training split, spread evenly over it.

    Args:
        stream: the events.
        config: configuration with hops, neighbors and negatives.
        largest: events of the largest slice; limited to half the training split.
        slices_each: number of slices counted for each size.
        within: events to count; the training split if None.
    """
    within = within or range(chronological_split(stream).train_end)
    largest = max(min(largest, len(within) // 2), 2)
    sizes = np.unique(np.geomspace(1, largest, 2 + int(np.log2(largest))).round().astype(int))
    counter = _Counter(stream, config, sizes)
    counts, waiting = [], []
    for size in sizes.tolist():
        starts = np.linspace(within.start, within.stop - size, slices_each).astype(int)
        found = [counter.count(int(start), size) for start in starts]
        counts.append(np.mean([touched_P3 for touched_P3, _ in found], axis=0))
        sums_S2 = np.sum([waiting_S2 for _, waiting_S2 in found], axis=0)
        nodes_2 = np.sum([touched_P3[0, :2] for touched_P3, _ in found], axis=0)
        waiting.append(sums_S2 / nodes_2)
    return CountedTouches(
        stream.name, stream.num_nodes, sizes.astype(float), np.array(counts), np.array(waiting)
    )


class _Counter:
    """Counter that samples slices as training does, without reading any state.

    Args:
        stream, config: as in `count_touches`.
        sizes_S: sizes of temporal batches.
    """

    def __init__(self, stream: EventStream, config: RunConfig, sizes_S: np.ndarray) -> None:
        seed, self._sizes_S = config.training.seed, sizes_S
        self._config, self._tables = config, EventTables(stream)
        self._slots = config.memory.mailbox_slots
        adjacency = TemporalAdjacency(stream, self._tables, home=config.sampling.adjacency)
        self._adjacency = adjacency
        self._sampler = NeighborSampler(adjacency, config.sampling, seed)
        end = chronological_split(stream).train_end
        destinations = destinations_of(stream, range(end))
        self._negatives = training_negatives(
            config.sampling.negatives, stream, destinations, adjacency, range(end), end, seed
        )

    def count(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Count the distinct nodes of consecutive events and their pending messages.

        Returns:
            [P, 3] distinct nodes of shares of the events, as in `CountedTouches`, and [S, 2] total
            messages of pulled and of written nodes, by size of the temporal batch.
        """
        batch = batch_of(self._tables, torch.arange(start, start + size))
        num = self._config.sampling.num_negatives
        negatives_BM = self._negatives.sample(batch.src_B, batch.dst_B, batch.events_B, num, 1)
        hops = num_hops(self._config.model)
        gathered = gather(batch, negatives_BM, self._sampler, self._tables, hops, 1)
        event_B = torch.arange(size)
        event_2B, event_BM = event_B.repeat(2), event_B.repeat_interleave(num)
        ends, negatives = gathered.index_2B, gathered.index_BM.flatten()
        events, nodes = [torch.cat([event_2B, event_BM])], [torch.cat([ends, negatives])]
        for hop in gathered.hops:  # queries of a hop are all nodes read before it
            events.append(torch.cat(events).repeat_interleave(hop.index_QK.shape[1]))
            nodes.append(hop.index_QK.flatten())
        reads = ((torch.cat(events), torch.cat(nodes)), (event_2B, ends), (event_BM, negatives))
        touched_P3 = np.stack(
            [_of_shares(nodes * size + events, size) for events, nodes in reads], axis=1
        )
        nodes_U = gathered.nodes_U
        written_U = torch.zeros_like(nodes_U, dtype=torch.bool).index_fill(0, ends, True)
        return touched_P3, np.array(
            [self._waiting(nodes_U, written_U, start, size, int(own)) for own in self._sizes_S]
        )

    def _waiting(
        self, nodes_U: torch.Tensor, written_U: torch.Tensor, start: int, size: int, batch: int
    ) -> tuple[float, float]:
        """Count the pending messages of all nodes and of written ones before a temporal batch.

        The slice lies in the middle of the batch, and earlier batches have the same size.
        """
        first = max(start - max(batch - size, 0) // 2, 0)
        begin_U, end_U = self._adjacency.history(nodes_U, torch.full_like(nodes_U, first))
        active_U = end_U > begin_U
        newest_U = self._adjacency.event_at(nodes_U, torch.where(active_U, end_U - 1, 0))
        batches_U = torch.where(active_U, (first - 1 - newest_U) // batch, 0)
        before_U = self._adjacency.end(nodes_U, (first - (batches_U + 1) * batch).clamp(0))
        messages_U = torch.where(active_U, end_U - before_U, 0).clamp(max=self._slots)
        return float(messages_U.sum()), float(messages_U[written_U].sum())


def _of_shares(reads: torch.Tensor, num_events: int) -> np.ndarray:
    """Return [P] expected distinct nodes of shares of the events, from node * num_events + event.

    A node that is read by n events is read by a random share p of them with 1 - (1 - p)^n.
    """
    nodes = torch.unique(reads) // num_events
    num_events_N = torch.unique_consecutive(nodes, return_counts=True)[1].numpy()
    return np.array([(1 - (1 - share) ** num_events_N).sum() for share in _SHARES_P])
