"""What the page about a run's nodes shows, from a sweep over its stream.

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
    """How much of a run goes on the page.

    Attributes:
        nodes: the most active ones, unless they are named.
        events: latest ones of a node.
        points: of a node over time.
        neighbors: of a node.
    """

    nodes: int = 1000
    events: int = 20
    points: int = 100
    neighbors: int = 10


@dataclass(frozen=True)
class Explored:
    """Some nodes of a run, after all events of its stream.

    Attributes:
        nodes_n: the nodes, those with most events first unless they were named.
        degree_n: events of each.
        num_known: nodes with an event.
        latest: ids of the latest events of each, the newest first.
        log: transitions of their memory; None for a model without.
        watched: the events whose transitions these are.
        plane_n2: place on the map.
        explained: share of the embeddings' variance that the map shows.
        near_nK, cosine_nK: nearest of all nodes, -1 for none, and their cosines.
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
    """Sweep over what comes after the run's checkpoint, or over all where it replays.

    Args:
        live: the run.
        limits: how much is kept.
        chosen: distinct nodes, in place of the most active ones.
        report: told how far it is, first over events and then over nodes.

    Raises:
        DataError: a chosen node without an event.
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
    """The nodes of the page, and how many events each has."""
    nodes = known if chosen is None else chosen.to(known.device)
    adjacency, end = live.step.sampler.adjacency, live.stream.num_events
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
    """Transitions of the nodes' memory over all events that it can be watched over."""
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
    """Nodes and their embeddings [m, A] after the last event, part by part."""
    done, t = 0, live.latest
    live.move_to(live.stream.num_events)
    for part in nodes.split(MOST_QUERIES):
        yield part, live.embed(part, torch.full_like(part, t), t).float()
        done += part.numel()
        report(done, done, nodes.numel())


def _latest(live: LiveRun, node: int, num: int) -> list[int]:
    """Ids of the latest events of a node, the newest first."""
    adjacency = live.step.sampler.adjacency
    one = torch.tensor([node], device=live.device)
    start, end = (
        int(bound) for bound in adjacency.history(one, one.new_tensor([live.stream.num_events]))
    )
    positions = torch.arange(max(start, end - num), end, device=live.device).flip(0)
    events: list[int] = adjacency.event_at(one.expand_as(positions), positions).tolist()
    return events
