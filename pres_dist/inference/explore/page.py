"""Write explore.html, an offline page about the nodes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.errors import DataError, MissingPackageError
from pres_dist.events.lookup import NodeLookup
from pres_dist.events.stream import EventStream
from pres_dist.inference.explore.gather import Explored, Limits
from pres_dist.inference.explore.transitions import MEASURES, Point
from pres_dist.inference.live import LiveRun
from pres_dist.inference.times import dates, shown
from pres_dist.report.figure import Figure
from pres_dist.report.html import write_page

PAGE = "explore.html"
_OVER_TIME = (
    ("drift", "Memory drift", "Norm of the change of the node's memory, update by update.", "norm"),
    ("cosine", "Memory coherence", "Cosine of the memory before and after an update.", "cosine"),
    (
        "prediction",
        "Prediction error",
        "Mean squared distance from the updater's own result, of what PRES predicted and of "
        "predicting no change (persistence).",
        "squared error",
    ),
    (
        "ratio",
        "Prediction / persistence",
        "The first over the second; 1 is no better than predicting no change.",
        "ratio",
    ),
)
"""Name, title, caption and y axis of the plots of a node."""
_OF_PREDICTION = ("prediction", "ratio")


def require_page_libraries() -> None:
    """Raise ConfigError unless the libraries that pages need are installed."""
    for name in ("jinja2", "plotly"):
        if find_spec(name) is None:
            raise MissingPackageError("a page", name, "report")


def write_explore_page(path: Path, live: LiveRun, explored: Explored, limits: Limits) -> None:
    """Write the page atomically; raise DataError if it cannot be written."""
    try:
        write_page(path, "explore.html.j2", page_content(live, explored, limits))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None


def page_content(live: LiveRun, explored: Explored, limits: Limits) -> dict[str, Any]:
    """Return the variables of the template."""
    stream = live.stream
    predicts = live.model.correction is not None and explored.log is not None
    return {
        "name": live.config.name,
        "facts": [
            ("run", live.run_dir.absolute().name),
            ("stream", stream.name),
            ("model", live.config.model.kind),
            ("events", f"{stream.num_events:,}"),
            ("last event", shown(stream, int(stream.t[-1]))),
            ("nodes with an event", f"{explored.num_known:,}"),
            ("written", f"{datetime.now():%Y-%m-%d %H:%M}"),
        ],
        "num_nodes": len(explored.nodes_n),
        "figures": _figures(stream, explored, predicts),
        "notes": _notes(live, explored, limits, predicts),
        "nodes": _nodes(stream, explored),
    }


def _figures(stream: EventStream, explored: Explored, predicts: bool) -> list[Figure]:
    """Return empty plots, which the page's script fills for the selected node."""
    known = "time_unit" in stream.metadata
    time: dict[str, Any] = {"type": "date" if known else "linear", "title": {"text": "time"}}
    share = f"{explored.explained:.0%}"
    axes = {f"{axis}axis": {"title": {"text": f"component {n}"}} for n, axis in enumerate("xy", 1)}
    made = [
        Figure(
            "map",
            "Map of the embeddings",
            f"The first two principal components, {share} of the variance. Click a node.",
            [],
            {**axes, "height": 420, "showlegend": stream.bipartite},
        )
    ]
    for name, title, caption, y in _OVER_TIME if explored.log is not None else ():
        if predicts or name not in _OF_PREDICTION:
            layout = {
                "xaxis": time,
                "yaxis": {"title": {"text": y}},
                "showlegend": name == "prediction",
            }
            made.append(Figure(name, title, caption, [], layout))
    return made


def _notes(live: LiveRun, explored: Explored, limits: Limits, predicts: bool) -> list[str]:
    """Return notes on what the page shows and omits."""
    stream, num = live.stream, len(explored.nodes_n)
    lines = [
        f"{num:,} of {explored.num_known:,} nodes with an event"
        + (", those with the most events" if num == limits.nodes < explored.num_known else "")
        + f"; of each the latest {limits.events} events. The nearest are looked for among all "
        f"{explored.num_known:,}, by the cosine of embeddings after the last event.",
    ]
    if explored.log is None:
        return [*lines, f"model.kind {live.config.model.kind} has no memory: nothing drifts."]
    watched = explored.watched
    since = (
        "memory was rebuilt from the first event by the final weights (--replay)"
        if live.replayed
        else "memory of the training split comes from the checkpoint (--replay rebuilds it and "
        "shows the training split too, which changes memory)"
    )
    if len(watched):
        lines.append(
            f"Memory is watched over {len(watched):,} of {stream.num_events:,} events, from "
            f"{shown(stream, int(stream.t[watched.start]))} on; {since}. A node's events within a "
            f"temporal batch of {live.config.evaluation.batch_size} are one update."
        )
    if not explored.log.exact:
        lines.append(
            f"A point of a plot is the mean of a node's updates within one of {limits.points} "
            "equal parts of these events, at the time of the last."
        )
    if not predicts:
        lines.append("The run has no PRES prediction (pres.prediction).")
    return lines


def _nodes(stream: EventStream, explored: Explored) -> dict[str, Any]:
    """Return the ids, and the data of each node, which refers to other nodes by index of id."""
    own = explored.nodes_n.cpu().numpy()
    events = np.array([event for latest in explored.latest for event in latest], np.int64)
    near = explored.near_nK.cpu().numpy().ravel()
    others = np.concatenate([stream.src[events], stream.dst[events], near[near >= 0]])
    # The nodes of the page come first, so their index is their row in `nodes`.
    numbers = np.concatenate([own, np.setdiff1d(others, own)])
    sides = NodeLookup(stream).side_of(numbers)
    place = {int(node): row for row, node in enumerate(numbers)}
    return {
        "names": [str(one) for one in stream.raw_ids(numbers)],
        "sides": None if sides is None else "".join(side[0] for side in sides),
        "nodes": [_node(stream, explored, row, place) for row in range(len(explored.nodes_n))],
    }


def _node(
    stream: EventStream, explored: Explored, row: int, place: dict[int, int]
) -> dict[str, Any]:
    events = np.array(explored.latest[row], np.int64)
    ends = (stream.src[events].tolist(), stream.dst[events].tolist())
    near = zip(explored.near_nK[row].tolist(), explored.cosine_nK[row].tolist(), strict=True)
    x, y = explored.plane_n2[row].tolist()
    t = stream.t[events]
    # as texts, because JavaScript has no 64-bit integers
    times = [one.replace("T", " ") for one in dates(stream, t) or map(str, t.tolist())]
    node = {
        "degree": int(explored.degree_n[row]),
        "x": _short(x),
        "y": _short(y),
        "events": [[t, place[src], place[dst]] for t, src, dst in zip(times, *ends, strict=True)],
        "near": [[place[other], _short(cosine)] for other, cosine in near if other >= 0],
        "facts": [],
    }
    if explored.log is None:
        return node
    return {
        **node,
        "facts": _facts(explored.log.whole(row)),
        "points": _points(stream, explored.log.points(row)),
    }


def _points(stream: EventStream, points: Sequence[Point]) -> dict[str, list[Any]]:
    """Return the columns of a node's points."""
    t = np.array([point.t for point in points], np.int64)
    columns = zip(*(point.means for point in points), strict=True) if points else [()] * 4
    return {
        "t": dates(stream, t) or t.tolist(),
        "num": [point.num for point in points],
        **{
            name: [_short(value) for value in column]
            for name, column in zip(MEASURES, columns, strict=True)
        },
    }


def _facts(whole: Point) -> list[tuple[str, str]]:
    """Return summary numbers of a node's transitions."""
    drift, cosine, prediction, persistence = whole.means
    facts = [("memory updates", f"{whole.num:,}")]
    if drift is not None and cosine is not None:
        facts += [("mean drift", f"{drift:.3g}"), ("mean cosine", f"{cosine:.3f}")]
    if prediction is not None and persistence:
        facts.append(("prediction / persistence", f"{prediction / persistence:.2f}"))
    return facts


def _short(value: float | None) -> float | None:
    """Round to five digits, which suffice for a plot and halve the size of the page."""
    return None if value is None else float(f"{value:.5g}")
