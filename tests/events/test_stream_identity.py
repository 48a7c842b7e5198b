"""The identity of a stream: of its content, wherever it is and whatever it is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pres_dist.events.identity import differences
from pres_dist.events.stream import EventStream

NUM = 60


def frame(prefix: str = "u") -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "src": [f"{prefix}{number}" for number in rng.integers(0, 9, NUM)],
            "dst": [f"i{number}" for number in rng.integers(0, 7, NUM)],
            "t": np.arange(NUM),
            "f0": rng.normal(size=NUM).astype(np.float32),
            "label": rng.integers(0, 2, NUM),
        }
    )


def full(**changes: object) -> EventStream:
    """A stream with every column that there is."""
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {
        "edge_features": rng.normal(size=(NUM, 2)),
        "node_features": rng.normal(size=(12, 3)),
        "labels": rng.integers(0, 3, NUM),
        "num_nodes": 12,
    }
    ends = rng.integers(0, 12, (2, NUM))
    stream = EventStream.from_arrays(*ends, np.arange(NUM), **columns)  # type: ignore[arg-type]
    negatives = rng.integers(0, 12, (20, 4))
    stream = replace(stream, official_split=(40, 50), negatives=negatives)
    return replace(stream, **changes)  # type: ignore[arg-type]


def test_storing_moving_and_renaming_change_nothing(tmp_path: Path) -> None:
    stream = full()
    stored = stream.save(tmp_path / "a")
    assert stored.identity == stream.identity == full(name="other").identity
    (tmp_path / "a").rename(tmp_path / "b")
    assert EventStream.open(tmp_path / "b").identity == stream.identity
    half = stored.head(30)
    assert half.identity == stream.head(30).identity != stored.identity


def test_the_same_file_imported_again_has_the_same_identity(tmp_path: Path) -> None:
    options = {"label": "label", "features": ["f0"]}
    first = EventStream.from_pandas(frame(), out=tmp_path / "first", **options)  # type: ignore
    frame().to_parquet(tmp_path / "rows.parquet", row_group_size=7)
    again = EventStream.from_parquet(tmp_path / "rows.parquet", out=tmp_path / "again", **options)  # type: ignore
    assert differences(first.identity, again.identity) == []
    assert first.identity == again.identity


def test_each_column_is_told_by_its_name() -> None:
    stream, other = full(), np.random.default_rng(1)
    changed: dict[str, dict[str, object]] = {
        "src": {"src": np.roll(stream.src, 1)},
        "dst": {"dst": np.roll(stream.dst, 1)},
        "t": {"t": stream.t * 2},
        "edge features": {"edge_features": other.normal(size=(NUM, 2)).astype(np.float32)},
        "node features": {"node_features": other.normal(size=(12, 3)).astype(np.float32)},
        "labels": {"labels": np.roll(stream.labels, 1)},  # type: ignore[arg-type]
        "negatives": {"negatives": other.integers(0, 12, (20, 4))},
        "labels (some in the run)": {"labels": None},
        "official split ([40, 50] in the run, got [39, 50])": {"official_split": (39, 50)},
        "number of sources (None in the run, got 3)": {"num_sources": 3},
        "time unit (None in the run, got ms)": {"metadata": {"time_unit": "ms"}},
    }
    for told, change in changed.items():
        assert differences(stream.identity, full(**change).identity) == [told]


@pytest.mark.parametrize("change", ["ids", "sides"])
def test_another_numbering_of_nodes_is_another_stream(change: str) -> None:
    first = EventStream.from_pandas(frame(), bipartite=True)
    if change == "ids":
        other = EventStream.from_pandas(frame("v"), bipartite=True)
        assert differences(first.identity, other.identity) == ["node ids"]
    else:
        other = EventStream.from_pandas(frame())
        told = differences(first.identity, other.identity)
        assert "node ids" in told
        assert "src" in told
