"""Times in every use of a run are read as its import read them, and come back exactly."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.cli.main import main
from pres_dist.errors import DataError
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.stream import EventStream
from pres_dist.inference.new_events import EventColumns, read_new_events
from pres_dist.inference.run import Run
from pres_dist.inference.times import dates, shown, time_of, times_of
from pres_dist.training.run import train
from tests.support.small_run import small_config

EVENTS = 300
START = datetime(2124, 5, 1, 8, tzinfo=timezone.utc)
"""After today, until when an event is never too far ahead."""


def rows(times: list[str], first: int = 0) -> list[str]:
    return [f"{(n * 7 + first) % 11},{20 + n * 5 % 7},{time}" for n, time in enumerate(times)]


def write(path: Path, times: list[str]) -> Path:
    path.write_text("\n".join(["src,dst,t", *rows(times)]) + "\n")
    return path


def run_of(folder: Path, times: list[str], **options: Any) -> Path:
    """A run over events at the given times."""
    source = write(folder / "events.csv", times)
    import_stream(ImportConfig(source=source, out=folder / "stream", **options))
    train(small_config(folder / "stream")(training__epochs=1), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def tenths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Times of half seconds, counted in tenths: 0.5 is 5."""
    times = [f"{Decimal(n) / 2}" for n in range(EVENTS)]
    return run_of(tmp_path_factory.mktemp("tenths"), times, time_scale=10)


@pytest.fixture(scope="module")
def zoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    times = [str(START + timedelta(minutes=n)) for n in range(EVENTS)]
    return run_of(tmp_path_factory.mktemp("zoned"), times)


def scores(run: Path, tmp_path: Path, times: list[str]) -> list[str]:
    out = tmp_path / "scored.csv"
    pairs = write(tmp_path / "pairs.csv", times)
    assert main(["score", str(run), str(pairs), "--out", str(out)]) == 0
    with out.open() as file:
        return [row["probability"] for row in csv.DictReader(file)]


def test_a_scale_holds_in_every_use(
    tenths: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tenths)
    pairs = [(0, 20), (7, 25), (3, 23)]
    found = scores(tenths, tmp_path, ["148.5", "149", "150.0"])
    wanted = run.score([(*pair, t) for pair, t in zip(pairs, (148.5, 149, 150.0), strict=True)])
    assert [np.float32(one) for one in found] == wanted.tolist()
    for pair, t, at in zip(pairs, (1485, 1490, 1500), ("148.5", 149, 150.0), strict=True):
        assert run.embed(at=at, nodes=pair[:1]).time == t
    out = ["--out", str(tmp_path / "e.csv")]
    assert main(["embed", str(tenths), "--at", "148.5", *out]) == 0
    assert "nodes at time 148.5," in capsys.readouterr().out
    assert main(["recommend", str(tenths), "--src", "0", "--at", "148.5"]) == 0
    assert "at time 148.5" in capsys.readouterr().out
    # The stream's own unit is no way to write a time: 148.55 would not be whole either.
    assert main(["embed", str(tenths), "--at", "148.55", *out]) == 2
    assert "must be a whole number after multiplying by 10" in capsys.readouterr().err
    done = run.extend(pd.DataFrame({"src": [1, 2], "dst": [21, 22], "t": [200.5, 201.0]}))
    assert done.num_events == 2
    assert run.stream.t[-2:].tolist() == [2005, 2010]


NAIVE = "2124-05-01 13:30:00"


@pytest.mark.parametrize(
    "use",
    [
        lambda run, folder: run.embed(at=NAIVE),
        lambda run, folder: run.embed(at="2124-05-02"),
        lambda run, folder: run.embed(at=datetime(2124, 5, 2)),
        lambda run, folder: run.embed(at=np.datetime64("2124-05-02")),
        lambda run, folder: run.embed(at=pd.Timestamp(NAIVE)),
        lambda run, folder: run.recommend(0, at=NAIVE),
        lambda run, folder: run.score([(0, 20, NAIVE)]),
        lambda run, folder: run.score([(0, 20)], at=NAIVE),
        lambda run, folder: run.score(pd.DataFrame({"src": [0], "dst": [20], "t": [NAIVE]})),
        lambda run, folder: run.score([(0, 20, START + timedelta(days=1)), (0, 20, NAIVE)]),
        lambda run, folder: run.extend(write(folder / "new.csv", ["2124-06-01 00:00:00"])),
        lambda run, folder: run.extend(
            pd.DataFrame({"src": [0], "dst": [20], "t": [pd.Timestamp("2124-06-01")]})
        ),
    ],
)
def test_times_without_a_zone_on_a_stream_with_one(
    zoned: Path, tmp_path: Path, use: Callable[[Run, Path], object]
) -> None:
    with pytest.raises(DataError, match=r"must have a time zone .*, because "):
        use(Run(zoned), tmp_path)
    assert not (zoned / "extended").exists() or not list((zoned / "extended").glob("version-*"))


def test_times_with_a_zone_in_every_spelling(zoned: Path) -> None:
    run, at = Run(zoned), START + timedelta(minutes=EVENTS - 5)
    berlin = pd.Timestamp(at).tz_convert("Europe/Berlin")
    spellings = (at, berlin, str(at), f"{at:%Y-%m-%d %H:%M:%S} UTC", f"{at:%Y%m%dT%H%M%SZ}")
    for spelled in (*spellings, int(at.timestamp() * 1000), float(at.timestamp() * 1000)):
        assert run.embed(at=spelled, nodes=[0], side="source").time == at.timestamp() * 1000


@pytest.mark.parametrize("unit", [1, 10**3, 10**6])
def test_an_event_of_another_unit_is_refused(
    zoned: Path, tmp_path: Path, unit: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stream in ms: later seconds lie before it, microseconds and nanoseconds far ahead."""
    later = int((START + timedelta(days=40)).timestamp() * unit)
    new = write(tmp_path / "new.csv", [str(later * (1000 if unit > 1 else 1))])
    assert main(["extend", str(zoned), str(new)]) == 2
    message = capsys.readouterr().err
    assert f"got {later}" in message
    assert ("max_ahead auto allows" if unit > 1 else "must be later than") in message
    assert not list(zoned.glob("extended/version-*"))


def test_a_plausible_future_and_a_longer_one(zoned: Path, tmp_path: Path) -> None:
    later = write(tmp_path / "new.csv", [str(START + timedelta(days=400))])
    assert main(["extend", str(zoned), str(later)]) == 2
    assert main(["extend", str(zoned), str(later), "--max-ahead", "300d"]) == 2
    assert main(["extend", str(zoned), str(later), "--max-ahead", "soon"]) == 2
    with pytest.raises(DataError, match="max_ahead"):
        Run(zoned).extend(later, max_ahead=timedelta(days=300))
    new = read_new_events(Run(zoned).stream, later, EventColumns(), "500d")
    assert len(new) == 1


FACTORS = ("1", "1000", "0.001", "10")
whole = st.integers(-(2**61), 2**61)


@given(st.lists(whole, min_size=3, max_size=6, unique=True), st.sampled_from(FACTORS))
@settings(max_examples=25)
def test_numbers_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], factor: str
) -> None:
    """Through import, extend, score, --at and what errors show."""
    folder, times = tmp_path_factory.mktemp("numbers"), sorted(times)
    texts = [f"{Decimal(time) / Decimal(factor):f}" for time in times]
    source = write(folder / "events.csv", texts[:-1])
    config = ImportConfig(source=source, out=folder / "s", time_scale=factor)
    stream = import_stream(config).stream
    assert stream.t.tolist() == times[:-1]
    later = write(folder / "later.csv", texts[-1:])
    assert read_new_events(stream, later, EventColumns()).chunk.t.tolist() == times[-1:]
    assert times_of(stream, pa.array(texts), "t", str).tolist() == times
    for text, time in zip(texts, times, strict=True):
        assert time_of(stream, text, "--at") == time_of(stream, shown(stream, time), "at") == time
    stored = stream.save(folder / "saved")
    assert EventStream.verify(folder / "saved").t.tolist() == stored.t.tolist() == times[:-1]


moments = st.datetimes(datetime(1900, 1, 1), datetime(2150, 1, 1))  # below 292 years, in ns


@given(
    st.lists(moments, min_size=3, max_size=6, unique=True),
    st.sampled_from(["us", "ns"]),
    st.none() | st.integers(-720, 720),
)
@settings(max_examples=25)
def test_dates_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    moments: list[datetime],
    unit: str,
    offset: int | None,
) -> None:
    folder, moments = tmp_path_factory.mktemp("dates"), sorted(moments)
    per_microsecond = 1 if unit == "us" else 1000
    epoch = datetime(1970, 1, 1)
    wanted = [(one - epoch) // timedelta(microseconds=1) * per_microsecond for one in moments]
    zone = None if offset is None else timezone(timedelta(minutes=offset))
    written = moments
    if zone is not None:
        written = [one.replace(tzinfo=timezone.utc).astimezone(zone) for one in moments]
    source = write(folder / "events.csv", [str(one) for one in written[:-1]])
    config = ImportConfig(source=source, out=folder / "s", time_unit=unit)
    stream = import_stream(config).stream
    assert stream.t.tolist() == wanted[:-1]
    later = pd.DataFrame({"src": [0], "dst": [20], "t": written[-1:]})
    found = read_new_events(stream, later, EventColumns(), None).chunk.t.tolist()
    assert found == wanted[-1:]
    texts = dates(stream, stream.t)
    assert texts is not None
    for text, one, time in zip(texts, written, wanted, strict=False):
        assert time_of(stream, one, "at") == time_of(stream, time, "at") == time
        assert time_of(stream, text + ("" if zone is None else "Z"), "at") == time
