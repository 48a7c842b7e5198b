"""Drift and prediction errors are those that the run's own memory shows from outside."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pres_dist.inference.explore.gather import Explored, Limits, explore
from pres_dist.inference.explore.transitions import TransitionLog
from pres_dist.inference.live import LiveRun
from pres_dist.memory.state import NEVER
from tests.support.trained_runs import trained


def snapshots(live: LiveRun, borders: list[int]) -> Iterator[dict[str, torch.Tensor]]:
    """The rows of the store after the events before each border."""
    for border in borders:
        live.move_to(border)
        rows = live.parts.store.state_dict()["rows"]
        yield {name: table.clone() for name, table in rows.items()}


def expected_points(live: LiveRun, node: int, borders: list[int]) -> list[list[float]]:
    """Time, drift, cosine, prediction and persistence of each update, by the paper's formulas.

    The measured state is worked out from memory before and after, for the correction is
    s(t2) = (1 - g) * predicted + g * measured.
    """
    correction, points = live.model.correction, []
    assert correction is not None
    assert correction.gate is not None
    known = live.parts.store.state_dict()["statistics"]
    count = int(known["count"][node].sum())
    rate = known["sum"][node].sum(0) / max(count, 1)
    tables = list(snapshots(live, borders))
    ends = [(table["memory_UD"][node], int(table["last_update_U"][node])) for table in tables]
    last = live.memory(torch.tensor([node]), live.latest)
    ends.append((last.memory_UD[0], int(last.last_update_U[0])))
    for (before, t0), (after, t1) in pairwise(ends):
        if t0 == NEVER or t1 == t0:
            continue
        gate = float(correction.gate.detach())
        length = float(np.log1p((t1 - t0) / live.parts.data.time_unit))
        predicted = before + length * rate
        measured = (after - (1 - gate) * predicted) / gate if count else after
        cosine = torch.dot(before, after) / before.norm() / after.norm()
        errors = [float((guess - measured).square().mean()) for guess in (predicted, before)]
        points.append([t1, float((after - before).norm()), float(cosine), *errors])
    return points


def borders_of(live: LiveRun) -> list[int]:
    return list(live._borders)


@pytest.fixture
def explored(rates_run: Path) -> Explored:
    return explore(LiveRun(rates_run), Limits(nodes=30, points=50))


def test_points_are_what_memory_shows_from_outside(rates_run: Path, explored: Explored) -> None:
    assert explored.log is not None
    assert explored.log.exact
    compared = 0
    for row in (0, 7, 29):
        live = LiveRun(rates_run)
        expected = expected_points(live, int(explored.nodes_n[row]), borders_of(live))
        found = explored.log.points(row)
        assert [point.t for point in found] == [point[0] for point in expected]
        means = torch.tensor([point.means for point in found])
        torch.testing.assert_close(
            means, torch.tensor([point[1:] for point in expected]), rtol=2e-3, atol=1e-6
        )
        compared += len(found)
    assert compared > 10


def test_parts_hold_the_means(rates_run: Path, explored: Explored) -> None:
    """Fewer points than batches: sums are the same, and the page is told."""
    coarse = explore(LiveRun(rates_run), Limits(nodes=30, points=2))
    assert explored.log is not None
    assert coarse.log is not None
    assert not coarse.log.exact
    for row in range(30):
        points = coarse.log.points(row)
        assert len(points) <= 3
        one, other = coarse.log.whole(row), explored.log.whole(row)
        assert (one.num, one.num_predicted, one.t) == (other.num, other.num_predicted, other.t)
        assert one.means == pytest.approx(other.means)
        assert sum(point.num for point in points) == one.num


def test_time_slices_count_a_node_once(rates_run: Path, explored: Explored) -> None:
    """Both halves of a batch compute the same of a node that is in both."""
    live = LiveRun(rates_run)
    taken_in = []
    live.move_to(live.stream.num_events, watch=lambda *given: taken_in.append(given))
    log = TransitionLog(explored.nodes_n, live.stream.num_nodes, explored.watched, 50)
    for batch, forwards in taken_in:
        log.watch(batch, [*forwards, *forwards])
    once = TransitionLog(explored.nodes_n, live.stream.num_nodes, explored.watched, 50)
    for batch, forwards in taken_in:
        once.watch(batch, forwards)
    assert log.points(0) == once.points(0)
    assert log.points(0)


def test_a_replay_watches_the_training_part_too(rates_run: Path, explored: Explored) -> None:
    replayed = explore(LiveRun(rates_run, replay=True), Limits(nodes=30))
    assert replayed.watched == range(800)
    assert explored.watched == range(560, 800)
    assert replayed.log is not None
    assert explored.log is not None
    first, later = replayed.log.points(0), explored.log.points(0)
    assert first[0].t < later[0].t
    assert first[0].num_predicted == 0  # nothing is known of the first transition
    assert first[0].means[2] is None


def test_a_model_without_memory_has_none(runs: Path) -> None:
    explored = explore(LiveRun(trained(runs, "tgat")), Limits(nodes=5))
    assert explored.log is None
    assert len(explored.latest) == 5


@pytest.mark.parametrize("kind", ["apan", "dyrep", "jodie"])
def test_other_models_are_watched(runs: Path, kind: str) -> None:
    explored = explore(LiveRun(trained(runs, kind)), Limits(nodes=8))
    assert explored.log is not None
    drift = [explored.log.whole(row).means[0] for row in range(8)]
    assert all(one is not None and np.isfinite(one) and one > 0 for one in drift)
