"""Statistics of a stream that affect its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pres_dist.errors import DataError
from pres_dist.events.discontinuity import BATCH_SIZES, Discontinuity, discontinuity_profile
from pres_dist.events.split import chronological_split, unseen_nodes
from pres_dist.events.stream import EventStream

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class StreamSummary:
    """Statistics from ``pres-dist data describe``. Shares are of all events unless stated."""

    name: str
    num_events: int
    num_nodes: int
    num_sources: int | None
    active_nodes: int
    """Nodes with at least one event."""
    edge_dim: int
    node_dim: int
    label_counts: dict[int, int] | None
    """Number of events per label, for the ten most frequent labels."""
    first_t: int
    last_t: int
    time_unit: str | None
    tied_share: float
    """Share of events that have the same time as another event."""
    largest_tie: int
    """Largest number of events at one time."""
    repeat_share: float
    """Share of events whose pair (src, dst) had an event at an earlier time."""
    self_loops: int
    degree_quantiles: dict[str, float]
    """Quantiles of the number of events of an active node: median, 90%, 99%."""
    max_degree: int
    top_percent_share: float
    """Share of all event ends that belong to the busiest 1% of active nodes."""
    unseen_test_share: float | None
    """Share of test events (last 15%) with a node without training events (first 70%)."""
    discontinuity: list[Discontinuity]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, for JSON."""
        return asdict(self)


def describe(stream: EventStream, batch_sizes: Sequence[int] = BATCH_SIZES) -> StreamSummary:
    """Compute the statistics of a stream; takes about 50 bytes of memory per event."""
    tied, largest_tie = _ties(stream.t)
    degrees = np.sort(_degrees(stream))
    return StreamSummary(
        name=stream.name,
        num_events=stream.num_events,
        num_nodes=stream.num_nodes,
        num_sources=stream.num_sources,
        active_nodes=len(degrees),
        edge_dim=stream.edge_dim,
        node_dim=stream.node_dim,
        label_counts=_label_counts(stream.labels),
        first_t=int(stream.t[0]),
        last_t=int(stream.t[-1]),
        time_unit=stream.metadata.get("time_unit"),
        tied_share=tied / stream.num_events,
        largest_tie=largest_tie,
        repeat_share=_repeat_share(stream),
        self_loops=sum(int((chunk.src == chunk.dst).sum()) for chunk in stream.chunks()),
        degree_quantiles={f"{q:.0%}": float(np.quantile(degrees, q)) for q in QUANTILES},
        max_degree=int(degrees[-1]),
        top_percent_share=_top_share(degrees),
        unseen_test_share=_unseen_test_share(stream),
        discontinuity=discontinuity_profile(
            stream.src, stream.dst, stream.t, _useful(batch_sizes, stream)
        ),
    )


def _useful(batch_sizes: Sequence[int], stream: EventStream) -> list[int]:
    """Return the sizes below the number of events, or the smallest size if there are none."""
    return [size for size in batch_sizes if size < stream.num_events] or [min(batch_sizes)]


def _ties(t: np.ndarray) -> tuple[int, int]:
    """Return the number of events that share their time, and the most events at one time."""
    borders = np.flatnonzero(t[1:] != t[:-1]) + 1
    sizes = np.diff(borders, prepend=0, append=len(t))
    return int(sizes[sizes > 1].sum()), int(sizes.max())


def _degrees(stream: EventStream) -> np.ndarray:
    """Return the number of event ends of each active node, in no particular order."""
    if stream.num_nodes > 4 * stream.num_events:
        return np.unique(np.concatenate([stream.src, stream.dst]), return_counts=True)[1]
    degrees = np.zeros(stream.num_nodes, dtype=np.int64)
    for chunk in stream.chunks():
        for nodes in (chunk.src, chunk.dst):
            degrees += np.bincount(nodes, minlength=stream.num_nodes)
    return degrees[degrees > 0]


def _repeat_share(stream: EventStream) -> float:
    """Return the share of events whose pair (src, dst) had an event at a strictly earlier time."""
    src, dst = np.asarray(stream.src), np.asarray(stream.dst)
    base = stream.num_nodes
    if base**2 >= 2**63:
        _, codes = np.unique(np.concatenate([src, dst]), return_inverse=True)
        src, dst, base = codes[: len(src)], codes[len(src) :], int(codes.max()) + 1
    keys = src * base + dst
    order = np.argsort(keys, kind="stable")  # events of a pair stay in the order of time
    keys = keys[order]
    starts = np.concatenate([[True], keys[1:] != keys[:-1]])
    first_t = stream.t[order[starts]]
    met_before = stream.t[order] > first_t[np.cumsum(starts) - 1]
    return float(met_before.mean())


def _top_share(sorted_degrees: np.ndarray) -> float:
    busiest = max(1, len(sorted_degrees) // 100)
    return float(sorted_degrees[-busiest:].sum() / sorted_degrees.sum())


def _label_counts(labels: np.ndarray | None) -> dict[int, int] | None:
    if labels is None:
        return None
    values, counts = np.unique(labels, return_counts=True)
    most = np.sort(np.argsort(-counts, kind="stable")[:10])
    return {int(values[index]): int(counts[index]) for index in most}


def _unseen_test_share(stream: EventStream) -> float | None:
    """Return the share of test events with an unseen node; None if the stream is too short."""
    try:
        split = chronological_split(stream)
    except DataError:
        return None
    unseen = unseen_nodes(stream, split)
    rows = slice(split.validation_end, None)
    return float((unseen[stream.src[rows]] | unseen[stream.dst[rows]]).mean())
