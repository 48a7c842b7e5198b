"""A stream's summary as tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pres_dist.events.describe import StreamSummary
from pres_dist.events.discontinuity import Discontinuity
from pres_dist.wording import printable


def print_summary(summary: StreamSummary, console: Console) -> None:
    """Print the figures, then the temporal discontinuity profile."""
    figures = Table(title=escape(printable(summary.name)), show_header=False, title_justify="left")
    figures.add_column()
    figures.add_column(justify="right")
    for name, value in _figures(summary):
        figures.add_row(name, value)
    console.print(figures)
    console.print(_profile(summary.discontinuity))


def _figures(summary: StreamSummary) -> list[tuple[str, str]]:
    sources = summary.num_sources
    nodes = f"{summary.num_nodes:,}"
    if sources is not None:
        nodes += f" ({sources:,} sources + {summary.num_nodes - sources:,} destinations)"
    degrees = ", ".join(f"{name} {value:,.0f}" for name, value in summary.degree_quantiles.items())
    labels, unseen = summary.label_counts, summary.unseen_test_share
    span = f"{summary.first_t:,} to {summary.last_t:,} {summary.time_unit or ''}".rstrip()
    return [
        ("events", f"{summary.num_events:,}"),
        ("nodes", nodes),
        ("nodes with events", f"{summary.active_nodes:,}"),
        ("edge, node features", f"{summary.edge_dim}, {summary.node_dim}"),
        (
            "labels",
            "none" if labels is None else ", ".join(f"{k}: {v:,}" for k, v in labels.items()),
        ),
        ("time", span),
        ("events sharing their time", f"{summary.tied_share:.1%}"),
        ("most events at one time", f"{summary.largest_tie:,}"),
        ("events of a pair seen before", f"{summary.repeat_share:.1%}"),
        ("self-loops", f"{summary.self_loops:,}"),
        ("events of a node", f"{degrees}, most {summary.max_degree:,}"),
        ("share of the busiest 1% of nodes", f"{summary.top_percent_share:.1%}"),
        ("test events with an unseen node", "-" if unseen is None else f"{unseen:.1%}"),
    ]


def _profile(rows: list[Discontinuity]) -> Table:
    table = Table(title="temporal discontinuity", title_justify="left")
    columns = ("temporal batch", "largest", "events with pending", "mean pending", "most pending")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.batch_size:,}",
            f"{row.largest_batch:,}",
            f"{row.affected_share:.1%}",
            f"{row.mean_pending:,.2f}",
            f"{row.max_pending:,}",
        )
    return table
