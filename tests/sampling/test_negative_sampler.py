from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling import negatives as negatives_module
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import NegativeSampler, destinations_of
from tests.support.nightly import drawn
from tests.support.random_streams import Case, cases, first_at, history, ids, partner

KINDS = ["random", "historical", "inductive"]
kinds = st.sampled_from(KINDS)


def sampler_of(case, kind, train_end, seed=0, destinations=None):
    if destinations is None:
        destinations = destinations_of(case.stream)
    return NegativeSampler(kind, case.stream, destinations, case.adjacency(), train_end, seed)


def draw_all(sampler, stream, num=1, epoch=0, events=None):
    """[B, M] negatives of the given events, of all by default."""
    events_B = torch.arange(stream.num_events) if events is None else ids(events)
    src_B, dst_B = (torch.from_numpy(column)[events_B] for column in (stream.src, stream.dst))
    return sampler.sample(src_B, dst_B, events_B, num, epoch)


def wide(kind, num_events=400, seed=0):
    """A stream over 8 sources and 20 destinations without ties, and its sampler."""
    random = np.random.default_rng(seed)
    src, dst = random.integers(0, 8, num_events), random.integers(8, 28, num_events)
    stream = EventStream.from_arrays(src, dst, np.arange(num_events), num_nodes=30)
    case = Case(stream, None, [])
    return stream, sampler_of(case, kind, num_events // 2)


usable = cases().filter(lambda case: len(set(case.stream.dst.tolist())) >= 2)


# ------------------------------------------------------- what holds for all


@settings(max_examples=drawn(120, 3))
@given(case=usable, kind=kinds, num=st.integers(1, 4), data=st.data())
def test_never_the_true_destination_and_only_listed_ones(case, kind, num, data):
    listed = data.draw(
        st.lists(st.sampled_from(sorted(case.pool)), min_size=2, unique=True).map(sorted)
    )
    train_end = data.draw(st.integers(0, case.stream.num_events))
    sampler = sampler_of(case, kind, train_end, destinations=ids(listed))
    negatives = draw_all(sampler, case.stream, num)
    assert negatives.shape == (case.stream.num_events, num)
    assert negatives.dtype == torch.int64
    for true, row in zip(case.stream.dst.tolist(), negatives.tolist(), strict=True):
        assert true not in row
        assert set(row) <= set(listed)


@settings(max_examples=drawn(80, 3))
@given(case=usable, kind=kinds, num=st.integers(1, 3), data=st.data())
def test_draws_do_not_depend_on_how_a_batch_is_cut(case, kind, num, data):
    num_events = case.stream.num_events
    sampler = sampler_of(case, kind, num_events // 2, seed=9)
    whole = draw_all(sampler, case.stream, num, epoch=3)
    cut = data.draw(st.integers(0, num_events))
    order = data.draw(st.permutations(range(num_events)))
    parts = [
        draw_all(sampler, case.stream, num, 3, list(events))
        for events in (range(cut), range(cut, num_events))
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(draw_all(sampler, case.stream, num, 3, order), whole[order])


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_of_many_is_the_only_one(kind):
    stream, sampler = wide(kind)
    one, many = draw_all(sampler, stream, 1, epoch=2), draw_all(sampler, stream, 7, epoch=2)
    assert torch.equal(many[:, :1], one)
    assert torch.equal(draw_all(sampler, stream, 3, epoch=2), many[:, :3])
    # Columns are draws of their own.
    assert (many[:, 0] != many[:, 1]).double().mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_and_seeds_differ(kind):
    stream, sampler = wide(kind)
    other_seed = sampler_of(Case(stream, None, []), kind, stream.num_events // 2, seed=1)
    late = list(range(300, 400))
    first = draw_all(sampler, stream, epoch=0, events=late)
    assert torch.equal(draw_all(sampler, stream, epoch=0, events=late), first)
    for other in (draw_all(sampler, stream, 1, 1, late), draw_all(other_seed, stream, 1, 0, late)):
        assert (other != first).double().mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_destinations(kind):
    stream = EventStream.from_arrays([0, 1], [2, 2], [0, 1])
    with pytest.raises(DataError, match="at least 2 distinct destinations, got 1"):
        sampler_of(Case(stream, None, []), kind, 1)


def test_destinations_of_a_part():
    stream = EventStream.from_arrays([0, 1, 2, 0], [5, 3, 5, 1], [0, 1, 2, 3])
    assert destinations_of(stream).tolist() == [1, 3, 5]
    assert destinations_of(stream, range(1, 3)).tolist() == [3, 5]
    assert destinations_of(stream, np.array([0, 3])).tolist() == [1, 5]
    assert destinations_of(stream, range(0)).tolist() == []


def test_destinations_of_more_events_than_are_looked_at_at_a_time(monkeypatch):
    monkeypatch.setattr(negatives_module, "_EVENTS_AT_A_TIME", 7)
    dst = np.random.default_rng(0).integers(0, 30, 100)
    stream = EventStream.from_arrays(dst, dst, np.arange(100))
    for events in (range(3, 90), np.arange(5, 100, 3)):
        assert destinations_of(stream, events).tolist() == sorted(set(dst[events].tolist()))


# ------------------------------------------------------------------ random


@pytest.mark.parametrize("true_is_listed", [True, False])
def test_random_is_uniform_over_the_others(true_is_listed):
    num, events, true = 20, 20_000, 37
    listed = torch.arange(30, 30 + num) if true_is_listed else torch.arange(50, 50 + num)
    stream = EventStream.from_arrays([0] * events, [true] * events, np.arange(events), num_nodes=90)
    sampler = sampler_of(Case(stream, None, []), "random", events, destinations=listed)
    drawn = draw_all(sampler, stream)[:, 0]
    others = [node for node in listed.tolist() if node != true]
    observed = torch.stack([(drawn == node).sum() for node in others]).double()
    assert observed.sum() == events
    expected = events / len(others)
    chi_square = float(((observed - expected) ** 2 / expected).sum())
    assert chi_square < len(others) + 4.5 * math.sqrt(2 * len(others))


@pytest.mark.parametrize("true", [3, 8])
def test_with_two_destinations_the_other_one_is_drawn(true):
    stream = EventStream.from_arrays([0] * 50, [true] * 50, np.arange(50), num_nodes=9)
    sampler = sampler_of(Case(stream, None, []), "random", 50, destinations=ids([3, 8]))
    assert draw_all(sampler, stream, 2).unique().tolist() == [11 - true]


def test_random_draws_ignore_time_and_history():
    """Negatives of an event id are the same whatever its source has done."""
    destinations = torch.arange(8, 28)
    streams = [wide("random", seed=seed)[0] for seed in (1, 2)]
    drawn = []
    for stream in streams:
        sampler = sampler_of(Case(stream, None, []), "random", 200, destinations=destinations)
        events_B = torch.arange(stream.num_events)
        drawn.append(sampler.sample(events_B % 8, torch.full_like(events_B, 29), events_B, 2, 0))
    assert torch.equal(*drawn)


# -------------------------------------------------- historical and inductive


def acceptable(case, kind, event, train_end, listed):
    """Find by a loop the past of the source, and those of its partners that are acceptable."""
    src, dst = int(case.stream.src[event]), int(case.stream.dst[event])
    before = first_at(case.stream, int(case.stream.t[event]))
    if kind == "historical":
        past = history(case, src, min(before, train_end))
    else:
        past = history(case, src, before, since=train_end)
    trained = {
        frozenset((int(case.stream.src[i]), int(case.stream.dst[i]))) for i in range(train_end)
    }
    met = [partner(case.stream, src, i) for i in past]
    t = case.stream.t
    now = {
        int(case.stream.dst[i]) for i in np.flatnonzero((t == t[event]) & (case.stream.src == src))
    }
    good = {
        node
        for node in met
        if node != dst
        and node in listed
        and node not in now
        and not (kind == "inductive" and frozenset((src, node)) in trained)
    }
    return met, good


@settings(max_examples=drawn(200, 3))
@given(
    case=usable,
    kind=st.sampled_from(["historical", "inductive"]),
    seed=st.integers(0, 1 << 30),
    data=st.data(),
)
def test_past_partners_against_a_loop(case, kind, seed, data):
    """A draw that is no acceptable partner is a fallback, and needs a reason to be one."""
    train_end = data.draw(st.integers(0, case.stream.num_events))
    listed = set(destinations_of(case.stream).tolist())
    sampler = sampler_of(case, kind, train_end, seed)
    for event, row in enumerate(draw_all(sampler, case.stream, 3).tolist()):
        met, good = acceptable(case, kind, event, train_end, listed)
        may_fail = not met or not set(met) <= good
        assert may_fail or set(row) <= good


def test_the_past_of_the_evaluation_part_is_not_historical():
    """Partners met after training are left out, however many there are."""
    stream, sampler = wide("historical")
    case = Case(stream, None, [])
    drawn = draw_all(sampler, stream, 5)
    for event in range(200, 400):
        met, good = acceptable(case, "historical", event, 200, set(range(8, 28)))
        share = len([node for node in met if node in good]) / len(met)
        assert share > 0.5  # so that four attempts fail in no more than one of 16 draws
        fallbacks = sum(node not in good for node in drawn[event].tolist())
        assert fallbacks <= 2


def one_in_two(kind):
    """2000 sources that met their true destination and one other once each."""
    num = 2000
    sources, true, other = np.arange(num), np.full(num, num), np.full(num, num + 1)
    first_pair = np.full(num, num + 2)  # fills the training part of the inductive kind
    src = np.concatenate([sources, sources, sources, sources])
    dst = np.concatenate([first_pair, true, other, true])
    t = np.repeat([0, 1, 2, 3], num)
    stream = EventStream.from_arrays(src, dst, t, num_nodes=num + 30)
    train_end = 3 * num if kind == "historical" else num
    listed = torch.cat([ids([num, num + 1]), torch.arange(num + 3, num + 30)])
    sampler = sampler_of(Case(stream, None, []), kind, train_end, destinations=listed)
    return draw_all(sampler, stream, events=list(range(3 * num, 4 * num)))[:, 0] == num + 1


def test_historical_falls_back_only_after_four_attempts():
    # A third of the history will do: (2/3)^4 of draws fall back, to 1 of 28 by chance.
    hit = one_in_two("historical").double().mean()
    assert hit == pytest.approx(1 - (2 / 3) ** 4 * 27 / 28, abs=4.5 * math.sqrt(0.16 / 2000))


def test_inductive_falls_back_only_after_four_attempts():
    # The history after training is the true destination and one other.
    hit = one_in_two("inductive").double().mean()
    assert hit == pytest.approx(1 - (1 / 2) ** 4 * 27 / 28, abs=4.5 * math.sqrt(0.06 / 2000))


def test_every_partner_is_drawn_by_its_number_of_events():
    num = 4000
    src = np.tile(np.arange(num), 5)
    dst = np.repeat([num, num, num, num + 1, num + 2], num)
    stream = EventStream.from_arrays(src, dst, np.repeat(np.arange(5), num), num_nodes=num + 3)
    sampler = sampler_of(Case(stream, None, []), "historical", 4 * num)
    drawn = draw_all(sampler, stream, events=list(range(4 * num, 5 * num)))[:, 0]
    share = (drawn == num).double().mean()
    assert drawn.unique().tolist() == [num, num + 1]
    assert share == pytest.approx(0.75, abs=4.5 * math.sqrt(0.1875 / num))


def scenario(kind, train_end, event, src, dst, t, listed, draws=200):
    stream = EventStream.from_arrays(src, dst, t, num_nodes=60)
    sampler = sampler_of(Case(stream, None, []), kind, train_end, destinations=ids(listed))
    return set(draw_all(sampler, stream, draws, events=[event])[0].tolist())


def test_historical_partners_by_hand():
    # Source 0 met 10 and 11 in training, 12 at the query's time, 13 after training.
    drawn = scenario(
        "historical", 3, 5, [0, 0, 1, 0, 0, 0], [10, 11, 14, 13, 12, 15],
        [0, 1, 2, 3, 4, 4], list(range(10, 60)),
    )  # fmt: skip
    assert drawn == {10, 11}


def test_a_partner_met_at_the_time_of_the_query_does_not_count():
    drawn = scenario("historical", 3, 2, [0, 0, 0], [10, 11, 12], [0, 1, 1], list(range(10, 60)))
    assert drawn == {10}
    drawn = scenario(
        "inductive", 1, 4, [1, 0, 0, 0, 0], [9, 20, 21, 22, 23], [0, 1, 2, 3, 3],
        list(range(10, 60)),
    )  # fmt: skip
    assert drawn == {20, 21}


@pytest.mark.parametrize("kind", ["historical", "inductive"])
def test_a_partner_met_again_at_the_time_of_the_query_is_no_negative(kind):
    """It is a true destination; one that the source had met only in the other direction is not."""
    stream = EventStream.from_arrays(
        [0, 0, 0, 11, 0], [10, 11, 10, 0, 12], [0, 1, 2, 2, 2], num_nodes=60
    )
    case, train_end = Case(stream, None, []), 2 if kind == "historical" else 0
    sampler = sampler_of(case, kind, train_end, destinations=torch.arange(10, 60))
    drawn = draw_all(sampler, stream, 200, events=[4])[0].tolist()
    # One draw in 16 falls back to one of 49.
    assert drawn.count(10) <= 3
    assert drawn.count(11) >= 150


def test_inductive_partners_by_hand():
    # 0 met 20 and 21 after training, also as the destination; 10 only in training.
    drawn = scenario(
        "inductive", 2, 7, [10, 1, 20, 0, 0, 0, 0, 0], [0, 22, 0, 21, 20, 21, 20, 23],
        [0, 0, 1, 2, 3, 4, 5, 6], list(range(10, 60)),
    )  # fmt: skip
    assert drawn == {20, 21}


@pytest.mark.parametrize("pair", [(0, 10), (10, 0)])
def test_a_training_pair_is_never_inductive_except_by_chance(pair):
    """10 was met in training and again after it: it comes up no more often than any other.

    Which of the two was the source in training makes no difference.
    """
    drawn = []
    for event_shift in range(60):
        src = [pair[0]] * (event_shift + 1) + [0, 0, 0]
        dst = [pair[1]] * (event_shift + 1) + [10, 10, 11]
        stream = EventStream.from_arrays(src, dst, np.arange(len(src)), num_nodes=1000)
        sampler = sampler_of(
            Case(stream, None, []),
            "inductive",
            event_shift + 1,
            destinations=torch.arange(10, 1000),
        )
        drawn += draw_all(sampler, stream, 5, events=[len(src) - 1])[0].tolist()
    assert drawn.count(10) <= 5


@pytest.mark.parametrize("kind", ["historical", "inductive"])
def test_without_a_past_the_draw_is_random(kind):
    stream = EventStream.from_arrays([1, 0], [10, 11], [0, 0], num_nodes=40)
    sampler = sampler_of(Case(stream, None, []), kind, 1, destinations=torch.arange(10, 30))
    drawn = draw_all(sampler, stream, 300, events=[1])
    assert drawn.unique().tolist() == [10, *range(12, 30)]


def test_only_kept_events_make_partners():
    """Held-out events are in no history of the training adjacency."""
    stream = EventStream.from_arrays([0, 0, 0], [10, 11, 12], [0, 1, 2], num_nodes=30)
    keep = np.array([True, False, True])
    case = Case(stream, keep, [])
    sampler = sampler_of(case, "historical", 3, destinations=torch.arange(10, 30))
    assert draw_all(sampler, stream, 200, events=[2]).unique().tolist() == [10]


@pytest.mark.parametrize("kind", ["historical", "inductive"])
@pytest.mark.parametrize("top", [3_037_000_498, 3_037_000_499, 1 << 61])
def test_a_partner_with_a_huge_id(kind, top):
    stream = EventStream.from_arrays(
        [5, 0, 0, 0], [6, top, top - 1, top - 2], [0, 1, 2, 3], num_nodes=top + 1
    )
    case = Case(stream, None, [])
    train_end = 3 if kind == "historical" else 1
    drawn = draw_all(sampler_of(case, kind, train_end), stream, 100, events=[3])
    assert drawn.unique().tolist() == [top - 1, top]


def test_the_tables_of_the_adjacency_are_used():
    """Sampling on the stream's own tables and on a copy gives the same."""
    stream, sampler = wide("historical")
    copy = NegativeSampler(
        "historical",
        stream,
        destinations_of(stream),
        TemporalAdjacency(stream, EventTables(stream)),
        200,
        0,
    )
    assert torch.equal(draw_all(copy, stream, 2), draw_all(sampler, stream, 2))
