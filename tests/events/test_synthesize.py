from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from pres_dist.events.stream import EventStream
from pres_dist.events.synthesize import SynthesizeConfig, synthesize


def make(folder, **options):
    settings = {"events": 5_000, "users": 50, "items": 80} | options
    return synthesize(SynthesizeConfig(out=folder / "s", force=True, **settings))


def repeat_share(stream):
    pairs = set(zip(stream.src.tolist(), stream.dst.tolist(), strict=True))
    return 1 - len(pairs) / stream.num_events


def test_a_valid_bipartite_stream(tmp_path):
    make(tmp_path, features=3)
    stream = EventStream.verify(tmp_path / "s")
    assert (stream.num_events, stream.num_nodes, stream.num_sources) == (5_000, 130, 50)
    assert stream.edge_dim == 3
    assert stream.metadata["options"]["users"] == 50


def test_same_seed_same_stream(tmp_path):
    first = np.array(make(tmp_path, seed=1).dst)
    assert np.array_equal(make(tmp_path, seed=1).dst, first)
    assert not np.array_equal(make(tmp_path, seed=2).dst, first)


def test_full_repeats_stay_with_the_first_items(tmp_path, monkeypatch):
    monkeypatch.setattr("pres_dist.events.synthesize.CHUNK_EVENTS", 700)
    stream = make(tmp_path, repeats=1, popularity=0)
    # With 8 items to return to, only a user's first events can draw new ones.
    assert len(np.unique(stream.src * 1_000 + stream.dst)) <= 50 * 8
    assert repeat_share(stream) > 0.9


def test_returns_are_to_the_last_eight_items(tmp_path, monkeypatch):
    """With uniform draws from many items, almost every repeat is a return."""
    monkeypatch.setattr("pres_dist.events.synthesize.CHUNK_EVENTS", 333)
    stream = make(tmp_path, repeats=0.6, popularity=0, items=10**6, users=5)
    for user in range(5):
        items = stream.dst[stream.src == user].tolist()
        seen = [item in items[max(0, place - 8) : place] for place, item in enumerate(items)]
        anywhere = [item in items[:place] for place, item in enumerate(items)]
        assert seen == anywhere
        assert np.mean(seen) == pytest.approx(0.6, abs=0.06)


def test_popularity_and_burstiness(tmp_path):
    def top_share(stream):
        return np.bincount(stream.dst).max() / stream.num_events

    def spread(stream):
        gaps = np.diff(stream.t)
        return gaps.std() / gaps.mean()

    flat = make(tmp_path, popularity=0, repeats=0, burstiness=0)
    assert top_share(flat) < 0.05
    assert spread(flat) == pytest.approx(1, abs=0.1)
    skewed = make(tmp_path, popularity=1.5, repeats=0, burstiness=1)
    assert top_share(skewed) > 0.2
    assert spread(skewed) > 3


@pytest.mark.parametrize("options", [{"events": 0}, {"repeats": 1.5}, {"users": 0}])
def test_impossible_options(options, tmp_path):
    with pytest.raises(ValidationError):
        make(tmp_path, **options)
