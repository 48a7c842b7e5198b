"""Events that could be acknowledged and then not be read back, answered for, or appended."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pres_dist.cli.main import main
from pres_dist.errors import ConfigError, DataError
from pres_dist.events.convert import WHITE_SPACE
from pres_dist.events.stream import EventStream
from pres_dist.inference.extend import JOURNAL, extend_run
from pres_dist.inference.journal import Journal, events_record, read_journal
from pres_dist.inference.run import Run
from pres_dist.inference.serve.fold import fold
from pres_dist.inference.serve.service import ScoringService
from pres_dist.inference.versions import EXTENDED
from pres_dist.training.run import train
from tests.inference.test_extend import OLD, lines, run_over
from tests.support.nightly import drawn
from tests.support.serving import InProcess, copied, ingest, later_events, score
from tests.support.small_run import labelled_stream, small_config
from tests.support.trained_runs import trained

pytest.importorskip("starlette", reason="needs the extra `serve`")

TEXTS, NUMBERS = "text, the same on both sides", "numbers, two sides"
FIRST = int(lines(TEXTS)[OLD].split(",")[2])


@pytest.fixture(scope="module")
def id_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with text ids and with integers, of labelled events with one feature."""
    folder = tmp_path_factory.mktemp("poison")
    return {kind: run_over(folder / kind[:4], kind) for kind in (TEXTS, NUMBERS)}


def opened(run_dir: Path, **options: Any) -> ScoringService:
    return ScoringService(run_dir, **options)


def event(**changes: object) -> dict[str, object]:
    return {"src": "x1", "dst": "x2", "t": FIRST, "features": [0.5], "label": 1, **changes}


def journal_of(run_dir: Path) -> Path:
    return run_dir / EXTENDED / JOURNAL


POISONS = [
    pytest.param(
        {"src": "\ud800"},
        "events[0].src must be Unicode text without lone surrogates, got '\\ud800'",
        marks=pytest.mark.attack(
            "event with a lone surrogate as an id",
            before="acknowledged; the next question ended the service, and the journal could "
            "never be appended",
            after="422 that names the field; nothing is taken in",
        ),
    ),
    pytest.param(
        {"t": 2**63 - 1},
        "events[0]: t must be at most",
        marks=pytest.mark.attack(
            "event at t = 2^63 - 1",
            before="acknowledged; the next question ended the service for good",
            after="422 that names the field; nothing is taken in",
        ),
    ),
    pytest.param(
        {"label": 10**30},
        "events[0].label must be a whole number in int64, got 1000",
        marks=pytest.mark.attack(
            "event with a label beyond int64",
            before="acknowledged; the journal could never be appended",
            after="422 that names the field; nothing is taken in",
        ),
    ),
    ({"src": "x" * 1001}, "events[0].src must have at most 1,000 characters, got 1,001"),
    ({"src": " \t\n"}, "events[0].src is missing"),
    ({"dst": ""}, "events[0].dst is missing"),
    ({"dst": {}}, "events[0].dst must be a text or a whole number in int64, got {}"),
    ({"t": -(2**63)}, "events[0].t must be at least"),
    ({"features": [3.5e38]}, "events[0].features[0] must be finite as a float32"),
    ({"features": []}, "events[0].features must be the 1 numbers"),
]


@pytest.mark.parametrize(("change", "message"), POISONS)
def test_poison_is_refused_before_it_is_journaled(
    id_runs: dict[str, Path], change: dict[str, object], message: str
) -> None:
    with opened(id_runs[TEXTS]) as service, InProcess(lambda: service) as api:
        size = service.journal.num_bytes
        status, answer = api("/v1/events", {"events": [event(**change)]})
        assert (status, service.journal.num_bytes) == (422, size)
        assert answer["error"].startswith(message)
        assert api("/v1/score", {"pairs": [["x1", "x2"]]})[0] == 200


def test_ids_are_one_whatever_the_white_space_and_the_kind_of_number(
    id_runs: dict[str, Path], tmp_path: Path
) -> None:
    with (
        opened(copied(id_runs[TEXTS], tmp_path / "t")) as service,
        InProcess(lambda: service) as api,
    ):
        nodes = len(service.names)
        events = [event(src=" x1\n"), event(src="new"), event(src="\tnew "), event(src=7.0)]
        events += [event(src=7), event(src="7", t=float(FIRST))]
        assert api("/v1/events", {"events": events})[0] == 200
        assert len(service.names) == nodes + 2
        assert (
            api("/v1/score", {"pairs": [["new", "x2 "], [7.0, "x2"]], "t": FIRST + 1.0})[0] == 200
        )


def test_kept_ids_far_beyond_the_nodes_are_refused(id_runs: dict[str, Path]) -> None:
    with opened(id_runs[NUMBERS]) as service, pytest.raises(DataError, match="must be at most 10"):
        service.ingest(ingest([event(src=1_000_000, dst=2)]))


@pytest.mark.attack(
    "event in nanoseconds, sent to a stream in milliseconds",
    before="acknowledged; each true event after it was refused, also after a restart",
    after="422; `--max-ahead` sets the bound, and `pres-dist journal RUN --drop` takes one back",
)
def test_one_event_of_the_far_future_does_not_stop_the_others(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "src": [f"u{one % 9}" for one in range(300)],
            "dst": [f"i{one % 5}" for one in range(300)],
            "t": pd.Timestamp("2024-05-01") + pd.to_timedelta(np.arange(300), unit="s"),
        }
    )
    EventStream.from_pandas(frame, bipartite=True, out=tmp_path / "dates")
    run_dir = tmp_path / "run"
    train(small_config(tmp_path / "dates")(training__epochs=1), run_dir)
    first = {"src": "u1", "dst": "i1", "t": int(pd.Timestamp("2024-05-02").value) // 10**6}
    far = {**first, "t": first["t"] * 10**6}
    soon = {**first, "t": int(pd.Timestamp.now().value) // 10**6}
    with opened(run_dir) as service:
        with pytest.raises(DataError, match=r"events\[0\]: t must be at most .*max_ahead auto"):
            service.ingest(ingest([far]))
        assert service.ingest(ingest([first, soon])).num_events == 2
    with opened(run_dir, max_ahead="none") as service:
        assert service.ingest(ingest([far])).num_events == 3
        with pytest.raises(DataError, match="must be at least"):
            service.ingest(ingest([{**soon, "t": soon["t"] + 1}]))
    assert main(["journal", str(run_dir), "--drop", "3", "--reason", "nanoseconds"]) == 0
    with opened(run_dir) as service:
        # A client that counts by `after` goes on where it was.
        assert service.ingest(ingest([{**soon, "t": soon["t"] + 1}], after=3)).num_events == 4
        assert service.status()["num_dropped_events"] == 1
    assert fold(run_dir).num_events == 3
    assert Run(run_dir).stream.t[-3:].tolist() == [first["t"], soon["t"], soon["t"] + 1]


def test_labels_that_a_classifier_has_not_learned_are_refused(tmp_path: Path) -> None:
    """Else they could not be appended."""
    labelled_stream(800).save(tmp_path / "labelled")
    settings = {"task.kind": "node_classification", "data.stream": tmp_path / "labelled"}
    config = small_config(tmp_path / "labelled")
    train(config(**settings, **{"task.link_weight": 1.0, "training.epochs": 1}), tmp_path / "run")
    stream = EventStream.open(tmp_path / "labelled")
    good = {
        "src": int(stream.src[0]),
        "dst": int(stream.dst[0]),
        "t": int(stream.t[-1]) + 1,
        "features": [0.0] * stream.edge_dim,
    }
    with opened(tmp_path / "run") as service:
        with pytest.raises(DataError, match=r"events\[0\].label must be among those"):
            service.ingest(ingest([{**good, "label": 77}]))
        service.ingest(ingest([{**good, "label": int(stream.labels[0])}]))
    assert fold(tmp_path / "run").num_events == 1


def test_an_event_that_no_check_lets_pass_can_be_left_out(
    id_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = copied(id_runs[TEXTS], tmp_path / "run")
    with opened(run_dir) as service:
        service.ingest(ingest([event(), event()]))
    path = journal_of(run_dir)
    journal = Journal(path, read_journal(path).header)
    journal.append(events_record(3, [["\ud800", "x2", FIRST, [0.5], 1]]))
    journal.close()
    message = "event 3.src must be Unicode text without lone surrogates"
    with pytest.raises(DataError, match=message):
        opened(run_dir)
    for command in (["extend", str(run_dir), "--served"], ["journal", str(run_dir), "--verify"]):
        assert main(command) == 2
        assert message in capsys.readouterr().err
    assert main(["journal", str(run_dir), "--last", "1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["number"], shown["src"]) == (3, "\ud800")
    assert main(["journal", str(run_dir), "--drop", "3", "--reason", "no text"]) == 0
    assert main(["journal", str(run_dir), "--drop", "3", "--reason", "no text"]) == 2
    assert main(["journal", str(run_dir), "--drop", "4", "--reason", "no text"]) == 2
    assert "event 3 is left out already" in (told := capsys.readouterr().err)
    assert "a number from 1 to 3, got 4" in told
    assert main(["journal", str(run_dir), "--verify"]) == 0
    assert "3 events acknowledged, 2 can be appended, 1 are left out" in capsys.readouterr().out
    assert main(["extend", str(run_dir), "--served"]) == 0
    assert "2 events appended" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drop", "1"], "--drop needs --reason"),
        (["--drop", "1", "--reason", " "], "--reason must say why"),
        (["--drop", "1-", "--reason", "x"], "--drop must be numbers of events, such as 3,5-7"),
        (["--drop", "0", "--reason", "x"], "must have a number from 1 to 1, got 0"),
        (["--last", "0"], "--last must be an integer >= 1"),
        (["--last", "1", "--verify"], "--last is for the list"),
        (["--rescue"], "must be damaged to be rescued"),
    ],
)
def test_mistakes_of_the_journal_command(
    id_runs: dict[str, Path],
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir = copied(id_runs[TEXTS], tmp_path / "run")
    journal_of(run_dir).unlink(missing_ok=True)
    assert main(["journal", str(run_dir)]) == 2
    with opened(run_dir) as service:
        service.ingest(ingest([event()]))
    assert main(["journal", str(run_dir), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_torn_or_empty_journal_stops_nobody(
    id_runs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = copied(id_runs[TEXTS], tmp_path / "run")
    more = pd.DataFrame({"src": ["x1"], "dst": ["x2"], "t": [FIRST], "f0": [0.5], "label": [1]})
    with opened(run_dir):
        pass  # a service that took in nothing
    path = journal_of(run_dir)
    path.write_bytes(path.read_bytes() + b"0000")  # and was killed in its first write
    with pytest.raises(ConfigError, match="no service has taken in events"):
        fold(run_dir)
    extend_run(run_dir, more)
    with caplog.at_level(logging.WARNING), opened(run_dir) as service:
        assert service.num_events == 0  # the journal of the shorter stream was put aside
        service.ingest(ingest([event(t=FIRST + 1)]))
    path.write_bytes(path.read_bytes() + b"0000")
    with caplog.at_level(logging.WARNING), opened(run_dir) as service:
        assert service.status()["journal_torn_bytes"] == 4
        assert service.num_events == 1
    assert "cut off an incomplete last record of 4 bytes" in caplog.text


texts = st.text(st.characters(categories=["L", "N", "P", "Z", "Cc", "Cs", "Co"]), max_size=8)
numbers = st.one_of(
    st.integers(-(2**65), 2**65),
    st.integers(-2, 60),
    st.floats(),
    st.sampled_from([2**63 - 1, 2**63 - 2, -(2**63), 2**53, 2.0**53, 12.0, True, None]),
)
some = st.one_of(st.integers(0, 40), st.sampled_from(["x1", " x2", "3\u00a0", "007", "1e3", "\0"]))
ids = st.one_of(texts, numbers, some, some, some)
later = st.tuples(st.sampled_from([int, float]), st.integers(0, 2))
"""Of what kind a time is, and how long after the last event."""
right = st.fixed_dictionaries({"src": some, "dst": st.integers(0, 40), "t": later})
wild = st.fixed_dictionaries(
    {},
    optional={
        "src": ids,
        "dst": ids,
        "t": st.one_of(numbers, texts),
        "features": st.lists(st.one_of(numbers, st.floats(-1, 1)), min_size=1, max_size=1),
        "label": st.one_of(numbers, st.integers(0, 1)),
    },
)
events = st.builds(dict.__or__, right, st.one_of(st.just({}), wild))


@pytest.mark.attack(
    "ids, times, features and labels of all kinds, drawn at random",
    before="not tried",
    after="each event is refused with 4xx, or is read back, answered for and appended once",
)
@pytest.mark.parametrize("kind", [TEXTS, NUMBERS])
def test_what_is_acknowledged_is_appended_once_and_all_else_is_refused(
    id_runs: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    run_dir = copied(id_runs[kind], tmp_path / "run")
    journal_of(run_dir).unlink(missing_ok=True)
    known = Run(run_dir).stream.num_events
    sent: list[dict[str, Any]] = []

    with opened(run_dir, max_ahead="1000") as service, InProcess(lambda: service) as api:

        @settings(
            max_examples=drawn(120, 3),
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(events)
        def send(one: dict[str, Any]) -> None:
            one = {"features": [0.5], **one}
            if isinstance(one["t"], tuple):
                kind, after = one["t"]
                one["t"] = kind(max(service.memory.latest - 1, FIRST) + after)
            status, _ = api("/v1/events", {"events": [one]})
            assert status in (200, 422)
            if status == 200:
                sent.append(one)
                assert api("/v1/score", {"pairs": [[one["src"], one["dst"]]]})[0] == 200
                assert api("/v1/recommend", {"src": one["src"]})[0] == 200

        send()
        assert api("/healthz")[0] == 200
        assert len(sent) > 10
    pairs = [(one["src"], one["dst"]) for one in sent]
    with opened(run_dir) as service:
        assert service.num_events == len(sent)
        assert np.isfinite(service.score(score(pairs))).all()
    rows = list(read_journal(journal_of(run_dir)).rows.values())
    assert fold(run_dir).num_events == len(sent)
    stream = Run(run_dir).stream
    assert stream.num_events == known + len(sent)
    for column, place in (("src", 0), ("dst", 1)):
        found = stream.raw_ids(getattr(stream, column)[known:])
        assert list(found) == [row[place] for row in rows]
        normal = [str(_plain(one[column])).strip(WHITE_SPACE) for one in sent]
        assert [str(one) for one in found] == normal
    assert stream.t[known:].tolist() == [int(one["t"]) for one in sent]
    labels = [-1 if one.get("label") is None else int(one["label"]) for one in sent]
    assert stream.labels[known:].tolist() == labels
    ends = pd.DataFrame(rows).iloc[:, :2].set_axis(["src", "dst"], axis=1)
    ends.to_parquet(tmp_path / "pairs.parquet")
    assert main(["score", str(run_dir), str(tmp_path / "pairs.parquet")]) == 0


def _plain(raw: object) -> object:
    return int(raw) if isinstance(raw, float) else raw


def test_a_client_counts_on_after_a_drop(runs: Path, tmp_path: Path) -> None:
    run_dir = copied(trained(runs), tmp_path / "run")
    with opened(run_dir) as service:
        events = later_events(service.memory.latest, 4)
        service.ingest(ingest(events[:3]))
    main(["journal", str(run_dir), "--drop", "1,3", "--reason", "test"])
    with opened(run_dir) as service:
        assert service.ingest(ingest(events[3:], after=3)).num_events == 4
        # Not while it runs: it would go on with what it knows.
        assert main(["journal", str(run_dir), "--drop", "2", "--reason", "test"]) == 2
    assert list(read_journal(journal_of(run_dir)).kept) == [2, 4]
    assert fold(run_dir).num_events == 2
