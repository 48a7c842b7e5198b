"""Collect the data of the page about a run's nodes, in a sweep over its stream.

Shapes: n nodes of the page, m nodes of a part, K neighbors, A embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.inference.explore.space import nearest, plane
from pres_dist.inference.explore.transitions import TransitionLog
from pres_dist.inference.live import MOST_QUERIES, LiveRun, Report, quiet


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
    nodes_n, degree_n = _chosen(live, known, limits.nodes, chosen)
    log, watched = _watched(live, nodes_n, limits.points, report)
    embedded_nA = torch.cat([embedded for _, embedded in _embedded(live, nodes_n)])
    near = nearest(nodes_n, embedded_nA, _embedded(live, known, report), limits.neighbors)
    latest = [_latest(live, int(node), limits.events) for node in nodes_n]
    return Explored(
        nodes_n, degree_n, known.numel(), latest, log, watched, *plane(embedded_nA), *near
    )


def _chosen(live: LiveRun, known: Tensor, num: int, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the nodes of the page, and the number of events of each."""
    nodes = known if chosen is None else chosen.to(known.device)
    adjacency, end = live.pipeline.sampler.adjacency, live.stream.num_events
    first, last = adjacency.history(nodes, torch.full_like(nodes, end))
    degree = last - first
    if chosen is not None:
        without = nodes[degree == 0]
        if without.numel():
            (name,) = live.stream.raw_ids(without[:1].cpu().numpy())
            raise DataError(f"a chosen node must have an event, {name!r} has none")
        return nodes, degree
    order = degree.argsort(descending=True, stable=True)[:num]
    return nodes[order], degree[order]


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
        yield part, live.embed(part, torch.full_like(part, t), t).float()
        done += part.numel()
        report(done, done, nodes.numel())


def _latest(live: LiveRun, node: int, num: int) -> list[int]:
    """Return the ids of the latest events of a node, the newest first."""
    adjacency = live.pipeline.sampler.adjacency
    one = torch.tensor([node], device=live.device)
    start, end = (
        int(bound) for bound in adjacency.history(one, one.new_tensor([live.stream.num_events]))
    )
    positions = torch.arange(max(start, end - num), end, device=live.device).flip(0)
    events: list[int] = adjacency.event_at(one.expand_as(positions), positions).tolist()
    return events
