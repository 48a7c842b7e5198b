"""Damaged and hostile arrays, tensors and pickles: a DataError or a read, and nothing is run.

Beside `test_fuzz`, which damages tables of events: the files that come with them.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pres_dist.errors import DataError
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.readers.plain_pickle import read_plain_pickle
from pres_dist.events.tgb import events_of, with_negatives
from tests.events.test_fuzz import expect_stream_or_error, mutate
from tests.support.nightly import drawn
from tests.support.tgb_files import tgb_files

CASES = drawn(150)
ROWS = 6


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    """A damaged length may ask for any amount of memory, which must fail and not be had."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.made),)


def sources(folder: Path) -> dict[str, Path]:
    """Files of arrays by the kind of source, each in a folder with its table of events."""
    places = {kind: folder / kind for kind in ("csv", "tgl", "dyglib")}
    for place in places.values():
        place.mkdir(parents=True)
    events = [(i % 2, 2 + i % 2, i) for i in range(ROWS)]
    plain = "".join(f"{s},{d},{t}\n" for s, d, t in events)
    (places["csv"] / "x.csv").write_text(f"src,dst,t\n{plain}")
    np.save(places["csv"] / "features.npy", np.arange(2.0 * ROWS).reshape(ROWS, 2))
    tgl = "".join(f"{i},{s},{d},{t},0\n" for i, (s, d, t) in enumerate(events))
    (places["tgl"] / "edges.csv").write_text(f",src,dst,time,ext_roll\n{tgl}")
    torch.save(torch.ones(ROWS, 2), places["tgl"] / "edge_features.pt")
    dyglib = "".join(f"{i},{s + 1},{d + 1},{t},0,{i + 1}\n" for i, (s, d, t) in enumerate(events))
    (places["dyglib"] / "ml_x.csv").write_text(f",u,i,ts,label,idx\n{dyglib}")
    np.save(places["dyglib"] / "ml_x.npy", np.ones((ROWS + 1, 2)))
    return {
        "csv": places["csv"] / "features.npy",
        "tgl": places["tgl"] / "edge_features.pt",
        "dyglib": places["dyglib"] / "ml_x.npy",
    }


def options_of(kind: str, arrays: Path) -> tuple[Path, dict]:
    if kind == "csv":
        return arrays.parent / "x.csv", {"feature_file": arrays}
    return arrays.parent, {}


@pytest.mark.parametrize("kind", ["csv", "tgl", "dyglib"])
def test_damaged_features(kind: str, tmp_path: Path) -> None:
    arrays = sources(tmp_path / "in")[kind]
    source, options = options_of(kind, arrays)
    whole, random = arrays.read_bytes(), np.random.default_rng(0)
    for _ in range(CASES):
        arrays.write_bytes(mutate(whole, random))
        expect_stream_or_error(tmp_path, source, options)


@pytest.mark.parametrize("kind", ["csv", "tgl", "dyglib"])
def test_features_that_are_programs(kind: str, tmp_path: Path) -> None:
    arrays = sources(tmp_path / "in")[kind]
    source, options = options_of(kind, arrays)
    payload = Payload(tmp_path / "made")
    planted = [pickle.dumps(payload), pickle.dumps(payload, 0)]
    np.save(tmp_path / "x.npy", np.array([[payload]] * ROWS), allow_pickle=True)
    np.savez(tmp_path / "x.npz", np.array([payload]))
    for content in (payload, {"a": payload}, [torch.ones(ROWS, 2), payload]):
        torch.save(content, tmp_path / "x.pt")
        planted.append((tmp_path / "x.pt").read_bytes())
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
        planted.append((tmp_path / "x.pt").read_bytes())
    planted += [(tmp_path / name).read_bytes() for name in ("x.npy", "x.npz")]
    for content in planted:
        arrays.write_bytes(content)
        with pytest.raises(DataError, match=arrays.name):
            import_stream(ImportConfig(source=source, out=tmp_path / "out" / "s", **options))
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_tensors_that_are_no_arrays(tmp_path: Path) -> None:
    arrays = sources(tmp_path / "in")["tgl"]
    complex_numbers = torch.ones(ROWS, 2, dtype=torch.complex64)
    for tensor in (torch.eye(ROWS).to_sparse(), complex_numbers, torch.ones(ROWS)):
        torch.save(tensor, arrays)
        with pytest.raises(DataError, match="edge_features"):
            import_stream(ImportConfig(source=arrays.parent, out=tmp_path / "out" / "s"))


def test_damaged_negatives_of_tgb(tmp_path: Path) -> None:
    files = tgb_files(num_events=60, most=4)
    dataset, file = events_of(files.official()), tmp_path / "x.pkl"
    random = np.random.default_rng(0)
    wholes = [pickle.dumps(files.negatives[0], protocol) for protocol in (2, 4, 5)]
    for case in range(4 * CASES):
        file.write_bytes(mutate(wholes[case % len(wholes)], random))
        with contextlib.suppress(DataError):
            read = [read_plain_pickle(file), files.negatives[1]]
            with_negatives(dataset, read, [file, file])


def reduced(function: str, *arguments: object) -> bytes:
    """A pickle that calls a function of NumPy, given as `module name`."""
    module, name = function.split()
    parts = [pickle.dumps(argument, 2)[2:-1] for argument in arguments]
    return b"".join([b"\x80\x02c", f"{module}\n{name}\n".encode(), b"(", *parts, b"tR."])


OBJECTS = b"\x80\x02cnumpy\ndtype\n(X\x01\x00\x00\x00OtR"
"""dtype("O")."""


@pytest.mark.attack(
    "pickles in a data set that reach for memory or code",
    before="held",
    after="refused, not run",
)
@pytest.mark.parametrize(
    "content",
    [
        # Bytes as addresses of objects: whatever looks at such an array reads memory of others.
        b"\x80\x02cnumpy\nndarray\n((K\x01t" + OBJECTS[2:] + b"C\x08AAAAAAAAtR.",
        b"\x80\x02cnumpy\nndarray\n((K\x01tX\x01\x00\x00\x00OC\x08AAAAAAAAtR.",
        OBJECTS + b".",
        reduced("numpy dtype", "V8"),
        reduced("numpy dtype", [("a", "O")]),
        reduced("numpy ndarray", (1 << 40,)),
        reduced("_codecs encode", "x", "rot13"),
        reduced("builtins eval", "1"),
        reduced("__builtin__ bytes", 1 << 40),
        reduced("builtins getattr", "x", "upper"),
    ],
)
def test_pickles_that_reach_for_memory_or_code(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a pickle of plain data"):
        read_plain_pickle(tmp_path / "x.pkl")


def test_a_dtype_keeps_only_its_order_of_bytes(tmp_path: Path) -> None:
    """A state may call numbers objects, by its flags; NumPy would believe it."""
    flags = pickle.dumps((3, ">", None, None, None, -1, -1, 63), 2)[2:-1]
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00i8tR" + flags + b"b"
    content = b"\x80\x02cnumpy.core.multiarray\nscalar\n(" + dtype + b"C\x08\0\0\0\0\0\0\0\x07tR."
    (tmp_path / "x.pkl").write_bytes(content)
    read = read_plain_pickle(tmp_path / "x.pkl")
    assert (read, read.dtype.hasobject) == (7, False)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_plain_kind(protocol: int, tmp_path: Path) -> None:
    arrays = [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.array(["ü", "abc"]),
        np.array([b"x", b"yz"]),
        np.empty((0, 4), np.float32),
        np.array(3.5),
    ]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([*arrays, np.float32(2.5)], protocol))
    *read, number = read_plain_pickle(tmp_path / "x.pkl")
    for one, other in zip(arrays, read, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == other.shape
        assert one.dtype.newbyteorder("=") == other.dtype.newbyteorder("=")
    assert (number, number.dtype) == (2.5, np.float32)


def test_a_line_without_an_end(tmp_path: Path) -> None:
    """Some 40 KB of gzip that hold 40 MB, and might as well hold as many GB."""
    out = tmp_path / "out" / "s"
    for place in (b"", b"src,dst,t\n0,1,2\n"):
        (tmp_path / "x.csv.gz").write_bytes(gzip.compress(place + b"1" * 40_000_000, 1))
        with pytest.raises(DataError, match=r"x\.csv\.gz"):
            import_stream(ImportConfig(source=tmp_path / "x.csv.gz", out=out))
    assert not out.parent.exists() or not list(out.parent.iterdir())
