from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream


def example(**options):
    arrays = {
        "src": [0, 1, 0],
        "dst": [2, 3, 3],
        "t": [5, 5, 9],
        "edge_features": np.arange(6).reshape(3, 2),
        "node_features": np.ones((4, 3)),
        "labels": [0, -1, 1],
        "num_sources": 2,
        "metadata": {"time_unit": "s"},
    }
    return EventStream.from_arrays(**(arrays | options))


def test_from_arrays():
    stream = example()
    assert (stream.num_events, stream.num_nodes, stream.edge_dim, stream.node_dim) == (3, 4, 2, 3)
    assert stream.bipartite
    assert stream.edge_features.dtype == np.float32
    assert stream.raw_ids([3, 0]).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"src": [0.5, 1, 2]}, "src must be a one-dimensional array of integers, got float64"),
        ({"src": [[0], [1], [2]]}, "src must be a one-dimensional array"),
        ({"src": np.array([0, 1, 2**63], np.uint64)}, "src must be below 2\\*\\*63"),
        ({"src": [0, -1, 0]}, "event 1: src must be an integer >= 0"),
        ({"dst": [2, 3]}, "dst must have 3 rows, got 2"),
        ({"t": [5, 4, 9]}, "event 1: time must not decrease"),
        ({"num_nodes": 3, "node_features": None}, "node ids must be below num_nodes 3, got 3"),
        ({"num_sources": 1}, "in a bipartite stream src must be below num_sources 1"),
        ({"edge_features": np.full((3, 1), np.nan)}, "event 0: edge feature 0 must be a finite"),
        ({"edge_features": np.full((3, 1), 1e300)}, "event 0: edge feature 0 must be a finite"),
        ({"edge_features": np.zeros(3)}, "edge_features must be a two-dimensional array"),
        ({"edge_features": np.zeros((2, 1))}, "edge_features must have 3 rows, got 2"),
        ({"node_features": np.zeros((3, 1))}, "node_features must have 4 rows, got 3"),
        ({"labels": [1, 2]}, "labels must have 3 rows, got 2"),
        ({"src": [], "dst": [], "t": []}, "at least one event"),
    ],
)
def test_from_arrays_refuses(options, message):
    with pytest.raises(DataError, match=message):
        example(**options)


def test_round_trip(tmp_path):
    stream = example()
    stream.save(tmp_path / "s")
    opened = EventStream.verify(tmp_path / "s")
    for column in ("src", "dst", "t", "edge_features", "node_features", "labels"):
        stored = getattr(opened, column)
        np.testing.assert_array_equal(stored, getattr(stream, column))
        assert isinstance(stored, np.memmap)
        assert not stored.flags.writeable
    assert (opened.num_nodes, opened.num_sources) == (4, 2)
    assert opened.metadata == {"time_unit": "s"}
    assert opened.path == tmp_path / "s"


def test_raw_ids_round_trip(run_import, tmp_path):
    stream = run_import("src,dst,t\nann,bob,1\nbob,cy,2\ncy,ann,3\n").stream
    stream.head(2).save(tmp_path / "copy")
    copy = EventStream.verify(tmp_path / "copy")
    assert copy.raw_ids([0, 1, 2]) == ["ann", "bob", "cy"]
    with pytest.raises(DataError, match=r"nodes must be in 0\.\.2"):
        copy.raw_ids([3])


def test_head_is_a_view_and_exact():
    stream = example()
    head = stream.head(1)
    assert (head.num_events, head.num_nodes, head.edge_dim) == (1, 4, 2)
    assert head.src.base is not None
    assert head.labels.tolist() == [0]
    assert stream.head(99) is stream
    with pytest.raises(DataError, match="num_events must be an integer >= 1, got 0"):
        stream.head(0)


def rewrite_meta(directory, **changes):
    """Change meta.json, as streams have it whose meta.json holds no hash of itself."""
    file = directory / "meta.json"
    meta = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in meta.items() if name != "sha256"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version: Input should be 1, got 2"),
        ({"format": "zip"}, "format: Input should be 'pres_dist.events', got 'zip'"),
        ({"num_events": 4}, "src.npy: must hold <i8 of shape"),
        ({"num_events": 0}, "num_events: Input should be greater than or equal to 1"),
        ({"num_sources": 9}, "num_sources must not exceed num_nodes"),
        ({"labelled": False}, "files must be"),
        ({"files": {}}, "files must be"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_open_checks_meta(changes, message, tmp_path):
    example().save(tmp_path / "s")
    rewrite_meta(tmp_path / "s", **changes)
    with pytest.raises(DataError, match=message):
        EventStream.open(tmp_path / "s")


def test_open_checks_sizes(tmp_path):
    example().save(tmp_path / "s")
    with (tmp_path / "s" / "dst.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"dst\.npy: must have 152 bytes, got 153"):
        EventStream.open(tmp_path / "s")
    (tmp_path / "s" / "dst.npy").unlink()
    with pytest.raises(DataError, match=r"dst\.npy: No such file"):
        EventStream.open(tmp_path / "s")


def test_verify_finds_one_wrong_bit(tmp_path):
    example().save(tmp_path / "s")
    file = tmp_path / "s" / "edge_features.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    EventStream.open(tmp_path / "s")
    with pytest.raises(DataError, match=r"edge_features\.npy: damaged: sha256 must be"):
        EventStream.verify(tmp_path / "s")


def test_open_something_else(tmp_path):
    with pytest.raises(DataError, match=r"not a stored event stream: meta\.json: No such file"):
        EventStream.open(tmp_path)


def test_importing_events_is_light():
    modules = "builtin importer describe synthesize split discontinuity"
    imports = "; ".join(f"import pres_dist.events.{name}" for name in modules.split())
    check = (
        f"import sys; {imports}; print([m for m in ('torch', 'ray', 'dgl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
