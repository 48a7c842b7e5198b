"""Data sets of TGB: events, official split and negatives, from files that the test writes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pres_dist.cli.main import main
from pres_dist.errors import DataError
from pres_dist.events import tgb
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.readers.plain_pickle import read_plain_pickle
from pres_dist.events.split import official_split
from pres_dist.events.stream import EventStream
from pres_dist.events.tgb import events_of, with_negatives
from tests.support.tgb_files import NAME, TgbFiles, tgb_files

WHERE = [Path("val.pkl"), Path("test.pkl")]


def imported(files: TgbFiles, out: Path, monkeypatch: pytest.MonkeyPatch) -> EventStream:
    """The stream, without py-tgb: from what it would make of the files."""
    dataset = with_negatives(events_of(files.official()), files.negatives, WHERE)
    monkeypatch.setattr(tgb, "read_tgb", lambda *_: dataset)
    import_stream(ImportConfig(source=Path(NAME), out=out, format="tgb"))
    return EventStream.verify(out)


def check(stream: EventStream, files: TgbFiles) -> None:
    assert (stream.name, stream.num_sources, stream.num_nodes) == (NAME, 20, 50)
    for column in ("src", "dst", "t"):
        np.testing.assert_array_equal(getattr(stream, column), getattr(files, column))
    np.testing.assert_array_equal(stream.edge_features, files.features.astype(np.float32))
    split = official_split(stream)
    for part, mask in zip((split.train, split.validation, split.test), files.masks, strict=True):
        assert list(part) == np.flatnonzero(mask).tolist()
    by_event = files.negatives[0] | files.negatives[1]
    for event in (*split.validation, *split.test):
        row = stream.negatives[event - split.train_end]
        key = (stream.src[event], stream.dst[event], stream.t[event])
        assert row[row >= 0].tolist() == by_event[key].tolist()
        assert (row[len(by_event[key]) :] == -1).all()


def test_events_split_and_negatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tgb_files()
    stream = imported(files, tmp_path / "wiki", monkeypatch)
    check(stream, files)
    stream.save(tmp_path / "copy")
    check(EventStream.verify(tmp_path / "copy"), files)


def test_py_tgb_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tgb", reason="needs py-tgb: pip install 'pres-dist[tgb]'")
    files = tgb_files()
    folder = files.write(tmp_path / "data")
    # What py-tgb would load and run, and what this must not.
    (folder / f"ml_{NAME}.pkl").write_bytes(pickle.dumps(Trap()))
    before = sorted(path.name for path in folder.iterdir())
    out = tmp_path / "wiki"
    command = ["data", "import", NAME, "--format", "tgb", "--root", str(tmp_path / "data")]
    assert main([*command, "--out", str(out)]) == 0
    assert "data.split: official, evaluation.negatives: tgb" in capsys.readouterr().out
    check(EventStream.verify(out), files)
    assert sorted(path.name for path in folder.iterdir()) == before
    (folder / f"{NAME}_test_ns_v2.pkl").unlink()
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert "test_ns_v2.pkl: cannot be read" in capsys.readouterr().err
    (folder / f"{NAME}_edgelist_v2.csv").unlink()
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert f"a file of {NAME} is missing" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path), "--out", str(tmp_path / "other")]) == 2
    assert "--root names the one" in capsys.readouterr().err


def test_the_first_events_of_a_stream_with_negatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = imported(tgb_files(), tmp_path / "wiki", monkeypatch)
    first, second = stream.official_split
    head = stream.head(second + 5)
    assert head.official_split == (first, second)
    assert len(head.negatives) == second + 5 - first
    head.save(tmp_path / "head")
    np.testing.assert_array_equal(EventStream.verify(tmp_path / "head").negatives, head.negatives)
    short = stream.head(second)
    assert short.negatives is None
    with pytest.raises(DataError, match="official needs a stream with one"):
        official_split(short)


def test_negatives_that_cannot_be() -> None:
    files = tgb_files()
    dataset = events_of(files.official())
    key = next(iter(files.negatives[0]))
    for bad, message in (
        ([1.5], "must be nodes below 50"),
        ([50], "must be nodes below 50"),
        ([-1], "must be nodes below 50"),
        (["a"], "must be nodes below 50"),
    ):
        spoilt = [{**files.negatives[0], key: np.array(bad)}, files.negatives[1]]
        with pytest.raises(DataError, match=message):
            with_negatives(dataset, spoilt, WHERE)
    with pytest.raises(DataError, match=r"test\.pkl: no negatives of the event"):
        with_negatives(dataset, [files.negatives[0], {}], WHERE)
    with pytest.raises(DataError, match=r"val\.pkl: must hold a dict"):
        with_negatives(dataset, [[], {}], WHERE)  # type: ignore[list-item]


def test_a_split_that_is_none_by_time() -> None:
    files = tgb_files().official()
    files.train_mask = ~files.train_mask
    with pytest.raises(DataError, match="must be one by time"):
        events_of(files)


def test_options_that_a_data_set_decides(tmp_path: Path) -> None:
    config = ImportConfig(source=Path(NAME), out=tmp_path / "out", format="tgb")
    for option, value in (("src", "user"), ("sort", True), ("ids", "map")):
        with pytest.raises(DataError, match=f"--{option} is not for the format tgb"):
            import_stream(config.model_copy(update={option: value}))
    with pytest.raises(DataError, match="--root is for the format tgb"):
        import_stream(config.model_copy(update={"format": "csv", "root": tmp_path}))
    with pytest.raises(DataError, match="link data set of TGB"):
        import_stream(config.model_copy(update={"source": Path("tgbn-trade")}))


class Trap:
    """Fails the test when it is unpickled."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a pickle was run",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_read(tmp_path: Path, protocol: int) -> None:
    t = np.arange(3)
    values = {(t[1], t[2], 2.5): np.arange(4.0), "a": [np.arange(3), b"x", None, True]}
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(values, protocol))
    read = read_plain_pickle(tmp_path / "plain.pkl")
    assert read.keys() == values.keys()
    assert read[(1, 2, 2.5)].tolist() == [0, 1, 2, 3]
    assert read["a"][1:] == [b"x", None, True]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_other_pickles_are_not_run(tmp_path: Path, protocol: int) -> None:
    for content in (Trap(), {"a": [Trap()]}, np.array([Trap()], dtype=object), Path("x")):
        (tmp_path / "trap.pkl").write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(DataError, match="only numbers, texts, containers and NumPy arrays"):
            read_plain_pickle(tmp_path / "trap.pkl")


def test_damaged_pickles(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(100)})
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        (tmp_path / "damaged.pkl").write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a pickle"):
            read_plain_pickle(tmp_path / "damaged.pkl")
    with pytest.raises(DataError, match="No such file"):
        read_plain_pickle(tmp_path / "missing.pkl")


def test_a_stream_checks_what_is_official() -> None:
    stream = EventStream.from_arrays([0, 0, 0], [1, 1, 1], [0, 1, 2])
    with pytest.raises(DataError, match="official_split must be ascending"):
        replace(stream, official_split=(2, 3)).check()
    with pytest.raises(DataError, match="negatives must be nodes below 2"):
        replace(stream, official_split=(1, 2), negatives=np.array([[2], [0]])).check()
