"""No probe finds a leak in a shipped path, and every planted leak is caught."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache

import pytest

from tests.leaks import probes  # noqa: F401  enters its probes
from tests.leaks.changed import with_other_features
from tests.leaks.planted import PLANTED
from tests.leaks.probes import STILL
from tests.leaks.recording import Record, Row
from tests.leaks.subject import NUM_WORKERS, PROBES, Subject
from tests.leaks.variants import DAILY, REPLICAS, VARIANTS, config_of
from tests.support.gloo_world import GlooWorld


@cache
def shipped(variant: str) -> Subject:
    """One for all probes, which share its runs over the true stream."""
    return Subject(VARIANTS[variant])


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    with GlooWorld(NUM_WORKERS, tmp_path_factory.mktemp("leaks")) as world:
        yield world


@pytest.fixture(scope="module")
def replicas(workers: GlooWorld) -> Subject:
    return Subject(REPLICAS, workers=workers)


@pytest.mark.parametrize(
    ("variant", "probe"),
    [
        pytest.param(variant, name, marks=() if variant in DAILY else pytest.mark.nightly)
        for variant, overrides in VARIANTS.items()
        for name, probe in PROBES.items()
        if probe.applies(config_of(overrides))
    ],
)
def test_a_shipped_path_does_not_leak(variant: str, probe: str) -> None:
    assert not list(PROBES[probe].look(shipped(variant)))


@pytest.mark.parametrize(
    "probe", ["later part", "later event", "trace of evaluation", "range of negatives"]
)
def test_memory_replicas_do_not_leak(replicas: Subject, probe: str) -> None:
    assert not list(PROBES[probe].look(replicas))


@pytest.mark.parametrize("name", [name for name in PLANTED if not PLANTED[name].needs_workers])
def test_a_planted_leak_is_caught(name: str) -> None:
    leak = PLANTED[name]
    found = PROBES[leak.caught_by].look(Subject(leak.overrides, leak.plant))
    assert next(found, None), f"{leak.caught_by} does not find it: {leak.does}"


@pytest.mark.parametrize("name", [name for name in PLANTED if PLANTED[name].needs_workers])
def test_a_leak_planted_between_workers_is_caught(workers: GlooWorld, name: str) -> None:
    leak = PLANTED[name]
    found = PROBES[leak.caught_by].look(Subject(leak.overrides, leak.plant, workers))
    assert next(found, None), f"{leak.caught_by} does not find it: {leak.does}"


def test_what_is_earlier_in_its_own_batch_is_a_neighbor() -> None:
    """The counterpart: events strictly before a query do count, as neighbors."""
    subject = shipped("attention")
    stream, rows = subject.stream, in_training(subject.run(**STILL))
    first, later = next(
        (row.event, again.event)
        for row, again in itertools.combinations(rows, 2)
        if row.last == again.last
        and stream.t[row.event] < stream.t[again.event]
        and stream.src[row.event] == stream.src[again.event]
    )
    other = subject.run(with_other_features(stream, slice(first, first + 1)), **STILL)
    pairs = zip(rows, in_training(other), strict=True)
    changed = [row.event for row, then in pairs if (row.scores != then.scores).any()]
    assert later in changed
    assert min(stream.t[changed]) > stream.t[first]


def in_training(records: list[Record]) -> list[Row]:
    return [row for row in records[0].rows if row.training and row.epoch == 1]
