"""Collect the data of the page about a run's nodes, in a sweep over its stream.

Shapes: n nodes of the page, m candidates of a part, K neighbors, A embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.inference.explore.transitions import TransitionLog
from pres_dist.inference.live import LiveRun
from pres_dist.inference.walker import MOST_QUERIES, Report, quiet

_CELLS = 1 << 24
"""Most cosines that are computed at once, which bounds memory use."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on the contents of the page.

    Attributes:
        nodes: number of nodes, the most active ones unless they are named.
        events: number of latest events of a node.
        points: number of points of a node over time.
        neighbors: number of nearest nodes of a node.
    """

    nodes: int = 1000
    events: int = 20
    points: int = 100
    neighbors: int = 10


@dataclass(frozen=True)
class Explored:
    """Data of some nodes of a run, after all events of its stream.

    Attributes:
        nodes_n: the nodes, in descending order of events unless they were named.
        degree_n: number of events of each node.
        num_known: number of nodes with an event.
        latest: ids of the latest events of each node, the newest first.
        log: transitions of the nodes' memory; None for a model without memory.
        watched: events that the transitions were recorded over.
        plane_n2: position on the map.
        explained: share of the embeddings' variance that the map shows.
        near_nK, cosine_nK: nearest nodes, -1 for none, and their cosine similarities.
    """

    nodes_n: Tensor
    degree_n: Tensor
    num_known: int
    latest: Sequence[Sequence[int]]
    log: TransitionLog | None
    watched: range
    plane_n2: Tensor
    explained: float
    near_nK: Tensor
    cosine_nK: Tensor


def explore(
    live: LiveRun, limits: Limits, chosen: Tensor | None = None, report: Report = quiet
) -> Explored:
    """Collect data in a sweep over the events after the run's checkpoint, or all if it replays.

    Args:
        live: the run.
        limits: limits on the data.
        chosen: distinct nodes to show instead of the most active ones.
        report: progress callback, first over events and then over nodes.

    Raises:
        DataError: a chosen node has no event.
    """
    end = live.stream.num_events
    known = live.known_nodes(end)
    nodes_n = known if chosen is None else chosen.to(known.device)
    adjacency = live.pipeline.sampler.adjacency
    first_n, last_n = adjacency.history(nodes_n, torch.full_like(nodes_n, end))
    degree_n = last_n - first_n
    if chosen is None:
        order = degree_n.argsort(descending=True, stable=True)[: limits.nodes]
        nodes_n, degree_n = nodes_n[order], degree_n[order]
    without = nodes_n[degree_n == 0]
    if without.numel():
        (name,) = live.stream.raw_ids(without[:1].cpu().numpy())
        raise DataError(f"a chosen node must have an event, {name!r} has none")
    log, watched = _watched(live, nodes_n, limits.points, report)
    embedded_nA = torch.cat([embedded for _, embedded in _embedded(live, nodes_n)])
    near = nearest(nodes_n, embedded_nA, _embedded(live, known, report), limits.neighbors)
    latest = [
        live.events_of(node, end, limits.events).flip(0).tolist() for node in nodes_n.tolist()
    ]
    return Explored(
        nodes_n, degree_n, known.numel(), latest, log, watched, *plane(embedded_nA), *near
    )


def _watched(
    live: LiveRun, nodes_n: Tensor, points: int, report: Report
) -> tuple[TransitionLog | None, range]:
    """Return the transitions of the nodes' memory, and the events they were recorded over."""
    end = live.stream.num_events
    watched = range(live.first_event, end)
    if not live.config.model.has_memory:
        return None, range(0)
    live.move_to(watched.start)
    log = TransitionLog(nodes_n, live.stream.num_nodes, watched, points)
    live.move_to(end, report, log.watch)
    for part in nodes_n.split(MOST_QUERIES):
        log.end(part, live.memory(part, live.latest))
    return log, watched


def _embedded(
    live: LiveRun, nodes: Tensor, report: Report = quiet
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield nodes and their embeddings [m, A] after the last event, part by part."""
    done, t = 0, live.latest
    live.move_to(live.stream.num_events)
    for part in nodes.split(MOST_QUERIES):
        yield part, live.query(part, torch.full_like(part, t), t).embedded_QA.float()
        done += part.numel()
        report(done, done, nodes.numel())


def nearest(
    nodes_n: Tensor, embedded_nA: Tensor, parts: Iterable[tuple[Tensor, Tensor]], num: int
) -> tuple[Tensor, Tensor]:
    """Return the nearest candidates of each node by cosine similarity, without the node itself.

    Args:
        nodes_n: distinct nodes.
        embedded_nA: embeddings of the nodes.
        parts: candidates [m] and their embeddings [m, A], part by part.
        num: K.

    Returns:
        [n, K] nodes and their cosines, the nearest first; -1 and -inf where there are fewer.
    """
    unit_nA = F.normalize(embedded_nA, dim=1)
    near_nK = nodes_n.new_full((nodes_n.numel(), num), -1)
    cosine_nK = unit_nA.new_full(near_nK.shape, -torch.inf)
    for candidates_m, embedded_mA in parts:
        unit_mA = F.normalize(embedded_mA, dim=1)
        for rows in torch.arange(nodes_n.numel()).split(max(1, _CELLS // candidates_m.numel())):
            cosine = unit_nA[rows] @ unit_mA.T
            cosine[nodes_n[rows, None] == candidates_m] = -torch.inf
            cosine = torch.cat([cosine_nK[rows], cosine], dim=1)
            among = torch.cat([near_nK[rows], candidates_m.expand(rows.numel(), -1)], dim=1)
            best, place = cosine.sort(dim=1, descending=True, stable=True)
            cosine_nK[rows] = best[:, :num]
            near_nK[rows] = among.gather(1, place[:, :num])
    return near_nK.masked_fill(cosine_nK == -torch.inf, -1), cosine_nK


def plane(embedded_nA: Tensor) -> tuple[Tensor, float]:
    """Return the [n, 2] scores on the first two principal components, and their variance share.

    The sign of a component is chosen so that its largest loading is positive, so that the map is
    not mirrored on another machine.
    """
    centered_nA = embedded_nA.double() - embedded_nA.double().mean(0)
    _, scale, axes_rA = torch.linalg.svd(centered_nA, full_matrices=False)
    axes_2A = centered_nA.new_zeros(2, centered_nA.shape[1])
    axes_2A[: min(2, len(axes_rA))] = axes_rA[:2]
    largest_21 = axes_2A.abs().argmax(1, keepdim=True)
    axes_2A = axes_2A * torch.where(axes_2A.gather(1, largest_21) < 0, -1.0, 1.0)
    variance = scale.square()
    total = float(variance.sum())
    return centered_nA @ axes_2A.T, float(variance[:2].sum()) / total if total else 1.0
