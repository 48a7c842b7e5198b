"""Streams to PyG and DGL and back: nothing is lost, and no tie changes its order."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pres_dist.errors import ConfigError, DataError
from pres_dist.events.stream import EventStream

COLUMNS = ("src", "dst", "t", "edge_features", "labels", "node_features", "negatives")


def full_stream() -> EventStream:
    """Everything a stream may have: texts as ids, ties, loops are left to `plain_stream`."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "src": [f"u{one}" for one in rng.integers(0, 9, 200)],
            "dst": [f"i{one}" for one in rng.integers(0, 5, 200)],
            "t": np.sort(rng.integers(0, 30, 200)),
            "label": rng.integers(0, 3, 200),
            "f0": rng.normal(size=200),
            "f1": rng.normal(size=200),
        }
    )
    stream = EventStream.from_pandas(frame, label="label", bipartite=True, name="full")
    features = rng.normal(size=(stream.num_nodes, 4)).astype(np.float32)
    negatives = rng.integers(0, stream.num_nodes, (60, 2))
    return replace(stream, node_features=features, official_split=(140, 170), negatives=negatives)


def plain_stream() -> EventStream:
    """One set of nodes, loops, and nodes beyond the last event's."""
    src, dst = np.random.default_rng(1).integers(0, 7, (2, 50))
    return EventStream.from_arrays(src, dst, np.arange(50) // 4, num_nodes=12)


def same(found: EventStream, expected: EventStream) -> None:
    for column in COLUMNS:
        values, wanted = getattr(found, column), getattr(expected, column)
        assert (values is None) == (wanted is None), column
        if wanted is not None:
            np.testing.assert_array_equal(values, wanted)
            assert values.dtype == wanted.dtype
    for name in ("name", "num_nodes", "num_sources", "metadata", "official_split"):
        assert getattr(found, name) == getattr(expected, name)
    nodes = np.arange(expected.num_nodes)
    assert list(found.raw_ids(nodes)) == list(expected.raw_ids(nodes))


@pytest.mark.skipif(
    importlib.util.find_spec("torch_geometric") is None, reason="needs torch_geometric"
)
def test_round_trip_through_pyg() -> None:
    full, plain = full_stream(), plain_stream()
    data = full.to_pyg()
    assert type(data).__name__ == "TemporalData"
    assert data.num_events == 200
    assert data.msg.shape == (200, 2)
    same(EventStream.from_pyg(data, like=full), full)
    same(EventStream.from_pyg(plain.to_pyg(), like=plain), plain)
    alone = EventStream.from_pyg(data[:150], name="alone")
    assert (alone.num_events, alone.num_sources, alone.name) == (150, full.num_sources, "alone")
    np.testing.assert_array_equal(alone.edge_features, full.edge_features[:150])


def test_round_trip_through_dgl() -> None:
    pytest.importorskip("dgl")
    full, plain = full_stream(), plain_stream()
    graph = full.to_dgl()
    assert (graph.num_nodes(), graph.num_edges()) == (full.num_nodes, 200)
    assert torch.equal(graph.edata["label"], torch.from_numpy(full.labels))
    same(EventStream.from_dgl(graph, like=full), full)
    same(EventStream.from_dgl(plain.to_dgl(), name="stream"), plain)
    parts = full.to_dgl().edge_subgraph(torch.arange(150), relabel_nodes=False)
    assert EventStream.from_dgl(parts).num_sources == full.num_sources

    import dgl

    two = dgl.heterograph(
        {("user", "buys", "item"): (torch.tensor([2, 0, 0]), torch.tensor([1, 0, 1]))},
        num_nodes_dict={"user": 4, "item": 2},
    )
    two.edata["t"] = torch.tensor([1, 1, 5])
    stream = EventStream.from_dgl(two)
    assert (stream.num_nodes, stream.num_sources) == (6, 4)
    assert stream.dst.tolist() == [5, 4, 5]
    del two.edata["t"]
    with pytest.raises(DataError, match=r"DGLGraph.edata: must have t, the columns are: none"):
        EventStream.from_dgl(two)


def temporal(**columns: Any) -> Any:
    """Stand in for a TemporalData that `from_pyg` reads, without PyG."""
    values = {"src": [0, 1], "dst": [2, 3], "t": [1, 1], **columns}
    given = {name: torch.tensor(one) for name, one in values.items() if one is not None}
    return SimpleNamespace(to_dict=lambda: given)


def test_events_that_are_not_valid() -> None:
    for columns, options, message in (
        ({"t": None}, {}, "TemporalData: must have t, the columns are: dst, src"),
        ({"t": [3, 1]}, {}, "TemporalData: .*must not decrease"),
        ({"t": [1.0, 1.5]}, {}, "TemporalData: event 1: t must be an integer, got 1.5"),
        ({"y": [0.5, 1.0]}, {}, "TemporalData: event 0: labels must be an integer"),
        ({"msg": [[1.0], [float("nan")]]}, {}, "TemporalData: .*must be a finite"),
        ({"dst": [1, 3]}, {"bipartite": True}, "every src must be below every dst"),
        ({}, {"like": EventStream.from_arrays([0], [1], [1])}, "TemporalData: node ids must be"),
    ):
        with pytest.raises(DataError, match=message):
            EventStream.from_pyg(temporal(**columns), **options)


def test_ids_and_labels_of_any_number_type() -> None:
    ids, wide = torch.arange(3), torch.tensor([0.0, 1.0, 2.0**53], dtype=torch.float64)

    def data(**columns: torch.Tensor) -> SimpleNamespace:
        given = {"src": ids, "dst": ids + 3, "t": ids, **columns}
        return SimpleNamespace(to_dict=lambda: given)

    stream = EventStream.from_pyg(data(src=ids.double(), dst=(ids + 3).to(torch.uint8), y=ids > 1))
    assert (stream.src.tolist(), stream.dst.tolist()) == ([0, 1, 2], [3, 4, 5])
    assert stream.labels is not None
    assert stream.labels.tolist() == [0, 0, 1]
    for column, message in (
        (wide, r"event 2: src must be below 2\*\*53 as a floating-point number"),
        (ids.float() + 2**24, r"event 0: src must be below 2\*\*24"),
        (ids + 0.5, "event 0: src must be an integer, got 0.5"),
    ):
        with pytest.raises(DataError, match=message):
            EventStream.from_pyg(data(src=column))


def test_options_of_a_conversion(tmp_path: Any) -> None:
    data = temporal(t=[2, 1], msg=[0.5, 1.5], y=[1.0, 0.0])
    stream = EventStream.from_pyg(data, sort=True, name="two", out=tmp_path / "two")
    assert stream.path == tmp_path / "two"
    assert (stream.src.tolist(), stream.t.tolist()) == ([1, 0], [1, 2])
    assert stream.edge_features is not None
    assert stream.edge_features.tolist() == [[1.5], [0.5]]
    assert stream.labels is not None
    assert stream.labels.tolist() == [0, 1]
    assert stream.num_sources == 2
    assert EventStream.from_pyg(temporal(), bipartite=False).num_sources is None


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(ConfigError, match=r"torch_geometric, which is not installed: .*pyg"):
        plain_stream().to_pyg()
    with pytest.raises(ConfigError, match=r"needs DGL, which is not installed: .*dgl"):
        plain_stream().to_dgl()
