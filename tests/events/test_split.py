from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.errors import DataError
from pres_dist.events.split import chronological_split, unseen_nodes
from pres_dist.events.stream import EventStream


def make(t, num_nodes=10, seed=0):
    random = np.random.default_rng(seed)
    src, dst = random.integers(0, num_nodes, (2, len(t)))
    return EventStream.from_arrays(src, dst, np.sort(t), num_nodes=num_nodes)


@given(
    t=st.lists(st.integers(0, 30), min_size=1, max_size=80),
    train=st.floats(0.05, 0.9),
    validation=st.floats(0, 0.9),
)
def test_cuts_never_split_a_tie_and_no_part_is_empty(t, train, validation):
    stream = make(t)
    try:
        split = chronological_split(stream, train, validation)
    except DataError:
        return
    assert 0 < split.train_end <= split.validation_end < split.num_events == len(t)
    for cut in (split.train_end, split.validation_end):
        assert stream.t[cut - 1] < stream.t[cut]
    assert (split.train_end == split.validation_end) == (validation == 0)
    assert [*split.train, *split.validation, *split.test] == list(range(len(t)))


def test_shares_without_ties():
    split = chronological_split(make(np.arange(100)))
    assert (len(split.train), len(split.validation), len(split.test)) == (70, 15, 15)
    assert split.held_out is None
    assert split.training_mask(make(np.arange(100))) is None


@pytest.mark.parametrize("t", [[5] * 10, [1, 1, 1, 2, 2, 2]])
def test_too_few_times(t):
    with pytest.raises(DataError, match="leave no test events, since events of equal time"):
        chronological_split(make(t))


@pytest.mark.parametrize(("train", "validation"), [(0, 0.1), (1, 0), (0.5, 0.5), (0.5, -0.1)])
def test_impossible_shares(train, validation):
    with pytest.raises(DataError, match="train_share must be"):
        chronological_split(make(np.arange(10)), train, validation)


def test_held_out_nodes(monkeypatch):
    monkeypatch.setattr("pres_dist.events.split.CHUNK_EVENTS", 7)
    stream = make(np.arange(200), num_nodes=40)
    split = chronological_split(stream, held_out_share=0.25, seed=1)
    later = np.union1d(stream.src[split.train_end :], stream.dst[split.train_end :])
    assert split.held_out.dtype == np.int64
    assert len(split.held_out) == round(0.25 * len(later))
    assert (np.diff(split.held_out) > 0).all()
    assert np.isin(split.held_out, later).all()

    train = slice(0, split.train_end)
    touched = np.isin(stream.src[train], split.held_out)
    touched |= np.isin(stream.dst[train], split.held_out)
    mask = split.training_mask(stream)
    np.testing.assert_array_equal(mask, ~touched)

    seen = np.union1d(stream.src[train][mask], stream.dst[train][mask])
    np.testing.assert_array_equal(unseen_nodes(stream, split), ~np.isin(np.arange(40), seen))


def test_held_out_choice_is_seeded():
    stream = make(np.arange(200), num_nodes=40)
    first, again, other = (
        chronological_split(stream, held_out_share=0.2, seed=seed).held_out for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert not np.array_equal(first, other)


def test_holding_out_everything():
    stream = make(np.arange(20), num_nodes=2)
    with pytest.raises(DataError, match="leaves no training events"):
        chronological_split(stream, held_out_share=0.99)
