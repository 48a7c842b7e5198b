"""Statistics of a stream that affect its training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pres_dist.errors import DataError
from pres_dist.events.discontinuity import BATCH_SIZES, Discontinuity, discontinuity_profile
from pres_dist.events.split import chronological_split, unseen_nodes
from pres_dist.events.stream import EventStream
from pres_dist.wording import printable

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
    borders = np.flatnonzero(stream.t[1:] != stream.t[:-1]) + 1
    ties = np.diff(borders, prepend=0, append=stream.num_events)
    degrees = np.sort(_degrees(stream))
    busiest = max(1, len(degrees) // 100)
    label_counts: dict[int, int] | None = None
    if stream.labels is not None:
        values, counts = np.unique(stream.labels, return_counts=True)
        most = np.sort(np.argsort(-counts, kind="stable")[:10])
        label_counts = {int(values[index]): int(counts[index]) for index in most}
    unseen_share: float | None = None
    with suppress(DataError):  # the stream may be too short to split
        split = chronological_split(stream)
        unseen, test = unseen_nodes(stream, split), slice(split.validation_end, None)
        unseen_share = float((unseen[stream.src[test]] | unseen[stream.dst[test]]).mean())
    sizes = [size for size in batch_sizes if size < stream.num_events] or [min(batch_sizes)]
    return StreamSummary(
        name=stream.name,
        num_events=stream.num_events,
        num_nodes=stream.num_nodes,
        num_sources=stream.num_sources,
        active_nodes=len(degrees),
        edge_dim=stream.edge_dim,
        node_dim=stream.node_dim,
        label_counts=label_counts,
        first_t=int(stream.t[0]),
        last_t=int(stream.t[-1]),
        time_unit=stream.metadata.get("time_unit"),
        tied_share=int(ties[ties > 1].sum()) / stream.num_events,
        largest_tie=int(ties.max()),
        repeat_share=_repeat_share(stream),
        self_loops=sum(int((chunk.src == chunk.dst).sum()) for chunk in stream.chunks()),
        degree_quantiles={f"{q:.0%}": float(np.quantile(degrees, q)) for q in QUANTILES},
        max_degree=int(degrees[-1]),
        top_percent_share=float(degrees[-busiest:].sum() / degrees.sum()),
        unseen_test_share=unseen_share,
        discontinuity=discontinuity_profile(stream.src, stream.dst, stream.t, sizes),
    )


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


def print_summary(summary: StreamSummary, console: Console) -> None:
    """Print the figures, then the temporal discontinuity profile."""
    sources, labels, unseen = summary.num_sources, summary.label_counts, summary.unseen_test_share
    nodes = f"{summary.num_nodes:,}"
    if sources is not None:
        nodes += f" ({sources:,} sources + {summary.num_nodes - sources:,} destinations)"
    degrees = ", ".join(f"{name} {value:,.0f}" for name, value in summary.degree_quantiles.items())
    counts = "none" if labels is None else ", ".join(f"{k}: {v:,}" for k, v in labels.items())
    span = f"{summary.first_t:,} to {summary.last_t:,} {summary.time_unit or ''}".rstrip()
    figures = Table(title=escape(printable(summary.name)), show_header=False, title_justify="left")
    figures.add_column()
    figures.add_column(justify="right")
    for name, value in (
        ("events", f"{summary.num_events:,}"),
        ("nodes", nodes),
        ("nodes with events", f"{summary.active_nodes:,}"),
        ("edge, node features", f"{summary.edge_dim}, {summary.node_dim}"),
        ("labels", counts),
        ("time", span),
        ("events sharing their time", f"{summary.tied_share:.1%}"),
        ("most events at one time", f"{summary.largest_tie:,}"),
        ("events of a pair seen before", f"{summary.repeat_share:.1%}"),
        ("self-loops", f"{summary.self_loops:,}"),
        ("events of a node", f"{degrees}, most {summary.max_degree:,}"),
        ("share of the busiest 1% of nodes", f"{summary.top_percent_share:.1%}"),
        ("test events with an unseen node", "-" if unseen is None else f"{unseen:.1%}"),
    ):
        figures.add_row(name, value)
    console.print(figures)
    profile = Table(title="temporal discontinuity", title_justify="left")
    columns = ("temporal batch", "largest", "events with pending", "mean pending", "most pending")
    for name in columns:
        profile.add_column(name, justify="right")
    for row in summary.discontinuity:
        profile.add_row(
            f"{row.batch_size:,}",
            f"{row.largest_batch:,}",
            f"{row.affected_share:.1%}",
            f"{row.mean_pending:,.2f}",
            f"{row.max_pending:,}",
        )
    console.print(profile)
