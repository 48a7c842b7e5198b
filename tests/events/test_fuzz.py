"""Damaged inputs: either a valid stream or one ``DataError``, and nothing left behind.

Each mutated input goes through the same readers as a user's file. The generator is
seeded, so that a failure comes back.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pres_dist.errors import DataError
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.stream import EventStream
from tests.support.nightly import drawn

CASES = {"csv": 3_500, "text ids": 1_500, "gzip": 1_500, "jodie": 1_500, "parquet": 2_000}
NATIVE_CASES = 2_000

TOKENS = [
    *(b"", b"-1", b"nan", b"inf", b"1e999", b"abc", b"1.5", b"0x10", b'"', b"\n", b"\r", b"\0"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"\xff\xfe"),
    *(b"2020-01-01", b"2020-01-01T00:00:00Z", b",", b"\t", b"\xef\xbb\xbf", b"1_000", b" 7 "),
    *("٣".encode(), b"1e-30", b"'", b"True", b"null", b"1" * 80),
]


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """One to three damages: flipped bits, a cut, a doubled or a removed part, tokens."""
    for _ in range(random.integers(1, 4)):
        data = bytearray(content)
        place = int(random.integers(0, len(data) + 1))
        length = int(random.integers(1, 20))
        kind = random.integers(0, 6)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << int(random.integers(0, 8))
        elif kind == 1:
            data = data[:place]
        elif kind == 2:
            data[place:place] = data[place : place + length]
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place : place + length] = random.bytes(length)
        else:
            data = bytearray(replace_token(bytes(data), random))
        content = bytes(data)
    return content


def replace_token(data: bytes, random: np.random.Generator) -> bytes:
    """Replace one field between separators."""
    separators = [-1, *(i for i, byte in enumerate(data) if byte in b",\n"), len(data)]
    index = int(random.integers(0, len(separators) - 1))
    start, end = separators[index] + 1, separators[index + 1]
    return data[:start] + TOKENS[int(random.integers(0, len(TOKENS)))] + data[end:]


def csv_text(rows: int = 12) -> bytes:
    lines = [f"{i % 3},{3 + i % 4},{i * 10},{i % 2},{i / 7:.3f},-{i}" for i in range(rows)]
    return "\n".join(["src,dst,t,label,f0,f1", *lines, ""]).encode()


def parquet_bytes(folder: Path) -> bytes:
    rows = 30
    columns = {
        "src": [i % 3 for i in range(rows)],
        "dst": pa.array([f"item {i % 4}" for i in range(rows)]).dictionary_encode(),
        "t": [float(i) for i in range(rows)],
        "f0": pa.array([i / 3 for i in range(rows)], pa.float32()),
    }
    pq.write_table(pa.table(columns), folder / "seed.parquet")
    return (folder / "seed.parquet").read_bytes()


JODIE = b"user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n" + b"".join(
    b"%d,%d,%d.0,0,0.5,1,2\n" % (i % 3, i % 2, i) for i in range(8)
)


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is not what is tested here, and takes most of the time."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.mark.attack(
    "damaged CSV, gzip, Parquet and other sources for an import",
    before="held",
    after="one error or a valid stream; nothing is left",
)
@pytest.mark.parametrize("kind", list(CASES))
def test_damaged_sources(kind: str, tmp_path: Path) -> None:
    seeds: dict[str, tuple[str, bytes]] = {
        "csv": ("x.csv", csv_text()),
        "text ids": ("x.tsv", b"src\tdst\tt\na\tb\t1\n\xc3\xbc\tb\t2\nb\ta\t3\n"),
        "gzip": ("x.csv.gz", csv_text()),
        "jodie": ("x.csv", JODIE),
        "parquet": ("x.parquet", parquet_bytes(tmp_path)),
    }
    name, seed = seeds[kind]
    random, ends = np.random.default_rng(len(kind)), set()
    for case in range(drawn(CASES[kind])):
        damaged = mutate(gzip.compress(seed) if kind == "gzip" and case % 2 else seed, random)
        if kind == "gzip" and case % 2 == 0:
            damaged = gzip.compress(damaged, 1)
        options = {"sort": bool(case % 3 == 0), "bipartite": bool(case % 5 == 0)}
        (tmp_path / name).write_bytes(damaged)
        given = {} if kind == "jodie" else options
        ends.add(expect_stream_or_error(tmp_path, tmp_path / name, given))
    assert ends == {True, False}, "damages must be neither all harmless nor all refused"


def expect_stream_or_error(folder: Path, source: Path, options: dict) -> bool:
    """Import a source into the folder; return True for a stream, False for one DataError.

    The stream must be whole, and is removed.
    """
    out = folder / "out" / "stream"
    try:
        import_stream(ImportConfig(source=source, out=out, **options))
    except DataError:
        assert not out.parent.exists() or list(out.parent.iterdir()) == []
        return False
    EventStream.verify(out)
    assert list(out.parent.iterdir()) == [out]
    shutil.rmtree(out)
    return True


def test_damaged_streams(tmp_path: Path) -> None:
    """Stored streams, text ids included: damage is found when the stream is verified."""
    source, stream = tmp_path / "x.csv", tmp_path / "stream"
    source.write_bytes(csv_text().replace(b"\n0,", b"\nann,").replace(b"\n1,", b"\nbob,"))
    np.save(tmp_path / "nodes.npy", np.ones((7, 2)))
    import_stream(
        ImportConfig(source=source, out=stream, node_features=tmp_path / "nodes.npy", ids="map")
    )
    whole = {file.name: file.read_bytes() for file in stream.iterdir()}
    assert len(whole) == 8
    random = np.random.default_rng(0)
    refused = 0
    for case in range(drawn(NATIVE_CASES)):
        name = sorted(whole)[case % len(whole)]
        (stream / name).write_bytes(mutate(whole[name], random))
        refused += sum(stream_or_error(read, stream) for read in (read_all, EventStream.verify))
        (stream / name).write_bytes(whole[name])
    assert refused > drawn(NATIVE_CASES) // 2
    EventStream.verify(stream)


def read_all(path: Path) -> None:
    """Use a stream that was opened without verifying it."""
    stream = EventStream.open(path)
    stream.check()
    stream.raw_ids(np.arange(stream.num_nodes))


def stream_or_error(read: Callable[[Path], object], path: Path) -> bool:
    """Read a stream; return whether it was refused."""
    try:
        read(path)
    except DataError:
        return True
    return False
