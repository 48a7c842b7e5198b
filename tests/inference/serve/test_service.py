"""The service: its state is a function of the events alone, and that of the offline commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pres_dist.errors import ConfigError, DataError
from pres_dist.inference.extend import JOURNAL, extend_run
from pres_dist.inference.new_events import EventColumns
from pres_dist.inference.run import Run
from pres_dist.inference.serve.checks import ConflictError
from pres_dist.inference.serve.service import ScoringService
from pres_dist.inference.versions import EXTENDED
from pres_dist.report.run_lock import RunLock, lock_run
from tests.support.serving import copied, ingest, later_events, recommend, score
from tests.support.trained_runs import trained

PAIRS = [(src, dst) for src in range(0, 40, 3) for dst in (40, 44, 54)]


def frame(events: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(events)
    features = pd.DataFrame(table.pop("features").tolist(), columns=["f0", "f1", "f2"])
    return pd.concat([table, features], axis=1)


@pytest.mark.parametrize("kind", ["tgn", "apan", "dyrep", "tgat", "two slots", "history"])
def test_serving_is_extending_at_once(runs: Path, tmp_path: Path, kind: str) -> None:
    """However events are grouped, and whatever is asked in between."""
    run_dir = copied(trained(runs, kind), tmp_path / "served")
    offline = copied(run_dir, tmp_path / "offline")
    service = ScoringService(run_dir)
    events = later_events(service.memory.latest, 260)
    first = 0
    for size in (1, 2, 40, 7, 150, 60):  # over several temporal batches of 50
        service.ingest(ingest(events[first : first + size]))
        first += size
        service.score(score(PAIRS[:3], t=service.memory.latest + first % 3))
        service.recommend(recommend(5, top=3))
    assert service.num_events == first == 260
    extend_run(offline, frame(events), EventColumns())
    run = Run(offline)
    assert run._live.latest == service.memory.latest
    np.testing.assert_array_equal(service.score(score(PAIRS)), run.score(PAIRS))
    found = service.recommend(recommend(5, top=4))
    expected = run.recommend(5, top=4)
    assert [(one.dst, one.events) for one in found] == [(one.dst, one.events) for one in expected]
    chances = [one.probability for one in expected]
    np.testing.assert_allclose([one.probability for one in found], chances, rtol=1e-6)
    service.close()

    # A time within the batch that is still open, too.
    again = ScoringService(run_dir)
    at = int(again.memory.pipeline.tables.t_E[-3])
    assert again.memory.earliest <= at
    np.testing.assert_array_equal(again.score(score(PAIRS, t=at)), run.score(PAIRS, at=at))
    again.close()


def test_a_service_that_starts_again_gives_the_same_bits(served_run: Path) -> None:
    service = ScoringService(served_run)
    events = later_events(service.memory.latest, 120)
    service.ingest(ingest(events[:70]))
    service.score(score(PAIRS))
    service.ingest(ingest(events[70:]))
    newcomer = {**events[-1], "src": 1234, "dst": 9876}
    service.ingest(ingest([newcomer]))
    pairs = [*PAIRS, (1234, 9876), (0, 9876)]
    expected, best = service.score(score(pairs)), service.recommend(recommend(1234))
    service.close()
    again = ScoringService(served_run)
    assert again.num_events == 121
    np.testing.assert_array_equal(again.score(score(pairs)), expected)
    assert again.recommend(recommend(1234)) == best
    assert 9876 in [one.dst for one in best]
    again.close()


def test_recommendations_are_those_of_an_extended_run(runs: Path, tmp_path: Path) -> None:
    """Also where sources are destinations, and events loops."""
    for kind in ("tgn", "talk"):
        run_dir = copied(trained(runs, kind), tmp_path / kind)
        offline = copied(run_dir, tmp_path / f"{kind}-offline")
        service = ScoringService(run_dir)
        events = later_events(service.memory.latest, 90)
        if kind == "talk":
            events = [
                {"src": one["src"] % 20, "dst": one["dst"] % 20, "t": one["t"]} for one in events
            ]
        service.ingest(ingest(events))
        table = frame(events) if kind == "tgn" else pd.DataFrame(events)
        extend_run(offline, table, EventColumns())
        run = Run(offline)
        for options in ({"top": 5}, {"top": 5, "exclude_seen": True}):
            for src in (0, 7, 19):
                expected = run.recommend(src, **options)
                found = service.recommend(recommend(src, **options))
                assert [(one.dst, one.rank) for one in found] == [
                    (one.dst, one.rank) for one in expected
                ]
        chosen = [one.dst for one in run.recommend(7, top=9)][::-2]
        ranked = service.recommend(recommend(7, candidates=chosen))
        assert [one.dst for one in ranked] == chosen[::-1]
        service.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": 5}, r"events\[1\].t must be at least \d+.*got 5"),
        ({"t": "2024-05-01"}, r"events\[1\]: t must .*2024-05-01"),
        ({"features": [1.0]}, r"events\[1\].features must be the 3 numbers .* got 1"),
        ({"features": [1, 2, 1e39]}, r"events\[1\].features\[2\] must be finite"),
        ({"features": [1, 2, float("nan")]}, r"features\[2\] must be a finite number, got nan"),
        ({"label": 1}, r"events\[1\].label: habits has no labels"),
        ({"src": "u1"}, r"events\[1\].src must be an integer >= 0, got 'u1'"),
        ({"src": -1}, r"events\[1\].src must be an integer >= 0, got -1"),
        ({"src": "007"}, r"events\[1\].src must be an integer >= 0, got '007'"),
        ({"src": "1_0"}, r"events\[1\].src must be an integer >= 0, got '1_0'"),
        ({"src": "\u0661"}, r"events\[1\].src must be an integer >= 0"),
        ({"src": 1.5}, r"events\[1\].src must be a text or a whole number in int64, got 1.5"),
        ({"src": None}, r"events\[1\].src must be a text or a whole number in int64, got None"),
        ({"src": 2.0**53}, r"events\[1\].src must be a text or a whole number in int64, got 9007"),
        ({"src": 20_000}, r"events\[1\].src must be at most 10055, .* node numbers"),
        ({"t": None}, r"events\[1\].t must be a whole number in int64 or an ISO 8601 time, got No"),
        ({"t": True}, r"events\[1\].t must be a whole number in int64 or an ISO 8601 time, got Tr"),
        ({"t": float("nan")}, r"events\[1\].t must be a whole number in int64 or .* time, got nan"),
        (
            {"t": 10**20},
            r"events\[1\].t must be a whole number in int64 or an ISO 8601 time, got 1",
        ),
        ({"t": "\ud800"}, r"events\[1\].t must be Unicode text without lone surrogates"),
        ({"label": 10**30}, r"events\[1\].label must be a whole number in int64, got 1000"),
        ({"features": [1, 2, True]}, r"features\[2\] must be a finite number, got True"),
        ({"features": [1, 2, "3"]}, r"features\[2\] must be a finite number, got '3'"),
        ({"features": [1, "x", None]}, r"features\[1\] must be a finite number, got 'x'"),
        ({"features": [1, 2, 10**400]}, r"features\[2\] must be a finite number, got 1000"),
        ({"features": "123"}, r"events\[1\].features must be a list of numbers, got '123'"),
        ({"src": 44}, r"events\[1\].src must be a source of habits, got the destination 44"),
        ({"src": 77, "dst": 77}, r"events\[1\]: 77 is both a source and a destination"),
        ({"weight": 1}, r"events\[1\] must have no other fields than .*got 'weight'"),
        ({"dst": True}, r"events\[1\].dst must be a text or a whole number in int64, got True"),
    ],
)
def test_events_that_are_not_valid_change_nothing(
    runs: Path, change: dict[str, object], message: str
) -> None:
    with opened(runs) as service:
        good, bad = later_events(service.memory.latest, 2)
        size = service.journal.num_bytes
        with pytest.raises(DataError, match=message):
            service.ingest(ingest([good, {**bad, **change}]))
        assert service.num_events == 0
        assert service.journal.num_bytes == size


def opened(runs: Path) -> ScoringService:
    return ScoringService(trained(runs))


def test_questions_that_cannot_be_answered(runs: Path) -> None:
    service = opened(runs)
    for request, message in (
        (score([(0, 40), (99, 40)]), r"pairs\[1\]\[0\] must be one of the 40 sources"),
        (score([(0, 4)]), r"pairs\[0\]\[1\] must be one of the 15 destinations of habits, got 4"),
        (score([(0, 40)], t=17), r"t must be at least \d+, which memory has gone past, got 17"),
        (score([(0, 40)], t="noon"), "t: time must be a whole number"),
    ):
        with pytest.raises(DataError, match=message):
            service.score(request)
    for options, message in (
        ({"src": 44}, "src must be one of the 40 sources"),
        ({"src": 4, "candidates": [41, 3]}, r"candidates\[1\] must be one of the 15 destin"),
        ({"src": 4, "top": 0}, "top must be a whole number from 1 to 1,000, got 0"),
        ({"src": None}, "src must be a text or a whole number in int64, got None"),
    ):
        with pytest.raises(DataError, match=message):
            service.recommend(recommend(**options))
    service.close()


@pytest.mark.attack(
    "an acknowledged request with `after` sent again",
    before="held",
    after="409; the events count once",
)
def test_a_request_that_is_sent_again_does_not_count_twice(served_run: Path) -> None:
    service = ScoringService(served_run)
    events = later_events(service.memory.latest, 4)
    assert service.ingest(ingest(events[:2], after=0)).num_events == 2
    with pytest.raises(ConflictError, match=r"after must be .* so far, 2, got 0"):
        service.ingest(ingest(events[:2], after=0))
    together = [ingest(events[2:3], after=2), ingest(events[2:3], after=2), ingest(events[3:])]
    answers = service.ingest_all(together)
    assert [getattr(answer, "num_events", None) for answer in answers] == [3, None, 4]
    service.close()


def test_one_service_at_a_time(served_run: Path, tmp_path: Path) -> None:
    service = ScoringService(served_run)
    with pytest.raises(ConfigError, match=r"only one process .* in use by"):
        ScoringService(served_run)
    events = later_events(service.memory.latest, 3)
    with pytest.raises(ConfigError, match=r"only one process .* in use by"):
        extend_run(served_run, frame(events), EventColumns())
    service.ingest(ingest(events))
    service.close()
    with pytest.raises(ConfigError, match=f"{JOURNAL}: holds events .*--served"):
        extend_run(served_run, frame(events), EventColumns())
    assert (served_run / EXTENDED / JOURNAL).exists()


def test_a_run_extended_while_a_service_starts_is_served_with_its_new_events(
    served_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the journal would go on from events that the run no longer ends with."""

    def late_lock(run_dir: Path) -> RunLock:
        monkeypatch.undo()
        extend_run(run_dir, frame(later_events(Run(run_dir)._live.latest, 5)))
        return lock_run(run_dir)

    monkeypatch.setattr("pres_dist.inference.serve.service.lock_run", late_lock)
    served = ScoringService(served_run)
    num_events = Run(served_run).stream.num_events
    assert served.status()["num_known_events"] == num_events
    served.ingest(ingest(later_events(served.memory.latest, 3)))
    served.close()
    with ScoringService(served_run) as again:
        assert again.num_events == 3


def test_a_run_of_labels_alone_is_not_served(runs: Path, tmp_path: Path) -> None:

    with pytest.raises(ConfigError, match="need a run that learned links"):
        ScoringService(trained(runs, "labels"))
