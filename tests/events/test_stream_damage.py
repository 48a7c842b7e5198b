"""A stored stream that is damaged is never used: each changed byte is found, in whatever file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pres_dist.errors import DataError
from pres_dist.events.builtin import load_stream
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.stream import EventStream
from tests.events.test_stream import example, rewrite_meta


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A stream with every kind of file: features of both kinds, labels, ids that are texts."""
    rows = [f"user {i % 2},item {i % 3},{i},{i % 2},{i / 3}" for i in range(5)]
    (tmp_path / "x.csv").write_text("\n".join(["src,dst,t,label,f0", *rows, ""]))
    np.save(tmp_path / "nodes.npy", np.ones((5, 2)))
    stream = tmp_path / "stream"
    import_stream(
        ImportConfig(source=tmp_path / "x.csv", out=stream, node_features=tmp_path / "nodes.npy")
    )
    assert len(list(stream.iterdir())) == 8
    return stream


@pytest.mark.attack(
    "each byte of each file of a stream changed",
    before="held",
    after="every change is an error before the stream is used",
)
@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_every_flipped_byte_is_found(stored: Path, flip: int) -> None:
    for file in sorted(stored.iterdir()):
        content = file.read_bytes()
        with file.open("r+b", buffering=0) as opened:
            for place, byte in enumerate(content):
                opened.seek(place)
                opened.write(bytes([byte ^ flip]))
                with pytest.raises(DataError, match=f"{stored.name}.*"):
                    EventStream.verify(stored)
                opened.seek(place)
                opened.write(bytes([byte]))
    EventStream.verify(stored)


@pytest.mark.attack(
    "each file of a stream cut short",
    before="held",
    after="one error that names the file",
)
def test_every_shortened_file_is_found_as_it_is_opened(stored: Path) -> None:
    for file in sorted(stored.iterdir()):
        content = file.read_bytes()
        for length in (0, len(content) // 2, len(content) - 1):
            file.write_bytes(content[:length])
            with pytest.raises(DataError, match=file.name):
                EventStream.open(stored)
        file.write_bytes(content)


def test_files_that_are_missing_or_too_many(stored: Path) -> None:
    for file in sorted(stored.iterdir()):
        file.rename(stored.parent / "away")
        with pytest.raises(DataError, match=f"{file.name}: No such file"):
            EventStream.open(stored)
        (stored.parent / "away").rename(file)
    (stored / ".DS_Store").touch()
    EventStream.open(stored)
    shutil.copy(stored / "t.npy", stored / "negatives.npy")
    with pytest.raises(DataError, match=r"the files of the stream alone, got \['negatives.npy'\]"):
        EventStream.open(stored)


def test_streams_whose_meta_holds_no_hash_of_itself(tmp_path: Path) -> None:
    example().save(tmp_path / "s")
    rewrite_meta(tmp_path / "s")
    assert EventStream.verify(tmp_path / "s").num_events == 3


def test_a_stream_of_another_version(stored: Path) -> None:
    file = stored / "meta.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 2, "shards": 3}))
    with pytest.raises(DataError, match="version: Input should be 1, got 2"):
        EventStream.open(stored)


@pytest.mark.parametrize("max_events", [None, 2])
def test_whatever_reads_a_stream_by_name_checks_it(stored: Path, max_events: int | None) -> None:
    file = stored / "labels.npy"
    content = bytearray(file.read_bytes())
    content[-8] ^= 1  # label 0 becomes 1, which no check of values can tell
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.npy: damaged: sha256"):
        load_stream(stored, max_events)


@pytest.mark.parametrize(("first", "last"), [(-(2**63), 0), (-(2**62), 2**62), (-2, 2**63 - 2)])
def test_times_further_apart_than_int64_can_tell(first: int, last: int, tmp_path: Path) -> None:
    """Their ages would wrap around and become negative."""
    message = r"times? must (be above -2\*\*63|span less than 2\*\*63 - 1)"
    with pytest.raises(DataError, match=message):
        EventStream.from_arrays([0, 0], [1, 1], [first, last])
    source = tmp_path / "x.csv"
    source.write_text(f"src,dst,t\n0,1,{last}\n0,1,{first}\n")
    with pytest.raises(DataError, match=message):
        import_stream(ImportConfig(source=source, out=tmp_path / "out" / "s", sort=True))
    assert not list((tmp_path / "out").iterdir())
    assert EventStream.from_arrays([0, 0], [1, 1], [first + 2, last]).num_events == 2
