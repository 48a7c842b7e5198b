"""Events of a service, appended to its run: the stream is an import of all events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pres_dist.cli.main import main
from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream
from pres_dist.inference.run import Run
from pres_dist.inference.serve.service import ScoringService
from tests.inference.test_extend import ALL, MIDDLE, OLD, imported, lines, run_over
from tests.support.serving import ingest, recommend, score

COLUMNS = ("src", "dst", "t", "edge_features", "labels")


def event_of(line: str) -> dict[str, object]:
    src, dst, t, feature, label = line.split(",")
    return {"src": src, "dst": dst, "t": int(t), "features": [float(feature)], "label": int(label)}


@pytest.mark.parametrize("kind", ["text, the same on both sides", "numbers, two sides"])
def test_new_ids_come_through_serving_starting_again_and_appending(
    tmp_path: Path, kind: str
) -> None:
    run_dir = run_over(tmp_path / "r", kind)
    whole = imported(tmp_path / "all", kind, lines(kind))
    events = [event_of(line) for line in lines(kind)[OLD:]]
    pairs = [(event["src"], event["dst"]) for event in events]
    with ScoringService(run_dir) as service:
        service.ingest(ingest(events[: MIDDLE - OLD]))
        service.ingest(ingest(events[MIDDLE - OLD :]))
        asked = service.score(score(pairs)), service.recommend(recommend(pairs[-1][0], top=99))
        assert len(asked[1]) == whole.num_nodes - (whole.num_sources or 0)
    with ScoringService(run_dir) as service:
        np.testing.assert_array_equal(service.score(score(pairs)), asked[0])
        assert service.recommend(recommend(pairs[-1][0], top=99)) == asked[1]
    assert main(["extend", str(run_dir), "--served"]) == 0
    longer = Run(run_dir).stream
    assert longer.num_events == ALL
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(longer, column), getattr(whole, column))
    nodes = np.arange(whole.num_nodes)
    assert list(longer.raw_ids(nodes)) == list(whole.raw_ids(nodes))
    # Nodes have other numbers now, and the open batch has ended: the same but for rounding.
    np.testing.assert_allclose(Run(run_dir).score(pairs), asked[0], atol=1e-5)
    with ScoringService(run_dir) as service:
        assert service.num_events == 0
        np.testing.assert_allclose(service.score(score(pairs)), asked[0], atol=1e-5)


def test_dates_are_times_where_the_stream_knows_its_unit(tmp_path: Path) -> None:
    from pres_dist.training.run import train
    from tests.support.small_run import small_config

    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "src": [f"u{one}" for one in rng.integers(0, 9, 300)],
            "dst": [f"i{one}" for one in rng.integers(0, 5, 300)],
            "t": pd.Timestamp("2024-05-01") + pd.to_timedelta(np.arange(300), unit="s"),
        }
    )
    EventStream.from_pandas(frame, bipartite=True, out=tmp_path / "dates")
    train(small_config(tmp_path / "dates")(training__epochs=1), tmp_path / "run")
    with ScoringService(tmp_path / "run") as service:
        done = service.ingest(ingest([{"src": "u1", "dst": "i1", "t": "2024-05-01T00:10:00"}]))
        assert done.t == pd.Timestamp("2024-05-01T00:10").value // 10**6
        expected = service.score(score([("u1", "i1")], t=done.t + 1000))
        found = service.score(score([("u1", "i1")], t="2024-05-01T00:10:01"))
        np.testing.assert_array_equal(found, expected)
        with pytest.raises(DataError, match="must have no time zone"):
            service.score(score([("u1", "i1")], t="2024-05-01T00:10:01Z"))
        with pytest.raises(DataError, match=r"sources of dates, got 'u11'; did you mean u1"):
            service.score(score([("u11", "i1")]))
        with pytest.raises(
            DataError, match=r"events\[0\].t must be at least \d+ \(2024-05-01T00:10"
        ):
            service.ingest(ingest([{"src": "u1", "dst": "i1", "t": "2024-05-01T00:09:59"}]))


@pytest.mark.parametrize("option", [["--max-ahead", "1d"], ["--features", "f0"], ["--sort"]])
def test_options_of_files_are_refused(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extend", str(tmp_path), "--served", *option]) == 2
    assert f"{option[0]} says how a file of events is read" in capsys.readouterr().err
