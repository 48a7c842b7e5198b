"""Negatives of training: popular ones, inductive ones, and mixtures of kinds."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.config.load import load_config
from pres_dist.config.sampling import shares_of
from pres_dist.errors import ConfigError
from pres_dist.events.stream import EventStream
from pres_dist.sampling import mixture
from pres_dist.sampling.mixture import training_negatives
from pres_dist.sampling.negatives import Negatives, destinations_of
from tests.sampling.test_negative_sampler import draw_all
from tests.support.nightly import drawn
from tests.support.random_streams import Case, cases, first_at, ids, partner

usable = cases().filter(lambda case: len(set(case.stream.dst[kept_of(case)].tolist())) >= 2)


def kept_of(case: Case) -> range | np.ndarray:
    return range(case.stream.num_events) if case.keep is None else np.flatnonzero(case.keep)


def sampler_of(case: Case, negatives: str, seed: int = 0) -> Negatives:
    stream, kept = case.stream, kept_of(case)
    listed = destinations_of(stream, kept)
    return training_negatives(
        negatives, stream, listed, case.adjacency(), kept, stream.num_events, seed
    )


@given(case=usable, seed=st.integers(0, 3))
@settings(max_examples=drawn(60, 3), deadline=None)
def test_popular_ones_are_destinations_of_the_last_kept_events(case: Case, seed: int) -> None:
    stream, kept = case.stream, np.asarray(kept_of(case))
    with mock.patch.object(mixture, "RECENT_EVENTS", 3):
        sampler = sampler_of(case, "popular", seed)
        negatives = draw_all(sampler, stream, 3)
        drawn, found = sampler.take_counts().tolist()
        halves = torch.arange(stream.num_events).split(max(1, stream.num_events // 2))
        again = [draw_all(sampler, stream, 3, events=half.tolist()) for half in halves]
    assert torch.equal(torch.cat(again), negatives)  # however the events are cut
    popular = 0
    for event, row in enumerate(negatives.tolist()):
        assert int(stream.dst[event]) not in row
        assert set(row) <= set(stream.dst[kept].tolist())
        recent = kept[kept < first_at(stream, int(stream.t[event]))][-3:]
        popular += sum(one in stream.dst[recent] for one in row)
    assert drawn == negatives.numel()
    assert popular >= found


@given(case=usable, seed=st.integers(0, 3))
@settings(max_examples=drawn(60, 3), deadline=None)
def test_inductive_ones_were_met_first_in_the_later_half(case: Case, seed: int) -> None:
    stream = case.stream
    sampler = sampler_of(case, "inductive", seed)
    negatives = draw_all(sampler, stream, 2)
    new = 0
    for event, row in enumerate(negatives.tolist()):
        src, before = int(stream.src[event]), first_at(stream, int(stream.t[event]))
        met: dict[int, int] = {}  # first event with each partner
        for earlier in kept_of(case):
            if earlier < before and src in (stream.src[earlier], stream.dst[earlier]):
                met.setdefault(partner(stream, src, int(earlier)), int(earlier))
        new += sum(met.get(one, -1) >= before // 2 for one in row)
    assert new >= int(sampler.take_counts()[1])


def test_kinds_are_drawn_by_their_shares_and_by_counter() -> None:
    draws = np.random.default_rng(0)
    src, dst = draws.integers(0, 8, 600), draws.integers(8, 200, 600)
    case = Case(EventStream.from_arrays(src, dst, np.arange(600)), None, [])
    parts = {kind: sampler_of(case, kind) for kind in ("random", "historical")}
    mixed = sampler_of(case, "random 3, historical 1")
    drawn = draw_all(mixed, case.stream, 4)
    of_kind = {kind: draw_all(sampler, case.stream, 4) for kind, sampler in parts.items()}
    historical = drawn != of_kind["random"]
    assert torch.equal(drawn[historical], of_kind["historical"][historical])
    assert 0.2 < historical[100:].float().mean() < 0.3  # the first have no history
    assert torch.equal(draw_all(mixed, case.stream, 2), drawn[:, :2])
    events = torch.arange(300, 310)
    later = mixed.sample(ids(src[300:310]), ids(dst[300:310]), events, 2, 0, first=2)
    assert torch.equal(later, drawn[300:310, 2:])
    assert not torch.equal(draw_all(mixed, case.stream, 4, epoch=1), drawn)


def test_density_of_historical_negatives_is_that_of_the_draws() -> None:
    """The density is the ratio to random draws, up to the excluded true destination."""
    partners, num = np.repeat([10, 11, 12], [60, 30, 10]), 20
    others = np.arange(10, 10 + num)
    src, dst = np.r_[np.ones(num, int), np.zeros(100, int), 0], np.r_[others, partners, 29]
    case = Case(EventStream.from_arrays(src, dst, np.arange(len(src))), None, [])
    mixed, last, draws = sampler_of(case, "random 3, historical"), len(src) - 1, 40_000
    drawn = mixed.sample(ids([0]), ids([29]), ids([last]), draws, epoch=0)
    shares = torch.zeros(1, num)
    shares[0, :3] = torch.tensor([0.6, 0.3, 0.1])
    density = mixed.log_density(shares, torch.ones_like(shares, dtype=torch.bool))
    assert density is not None
    expected = density[0].exp() / num
    assert float(expected.sum()) == pytest.approx(1)
    counted = torch.bincount(drawn[0] - 10, minlength=num) / draws
    torch.testing.assert_close(counted[:3], expected[:3], rtol=0.05, atol=0)
    torch.testing.assert_close(counted[3:-1], expected[3:-1], rtol=0.15, atol=0)


@pytest.mark.parametrize("negatives", ["random", "historical", "random, popular"])
def test_negatives_without_a_density_ratio(negatives: str) -> None:
    src, dst = np.zeros(20, int), np.arange(1, 21) % 5 + 1
    case = Case(EventStream.from_arrays(src, dst, np.arange(20)), None, [])
    known = torch.ones(1, 2, dtype=torch.bool)
    assert sampler_of(case, negatives).log_density(torch.zeros(1, 2), known) is None


def test_a_source_without_events_has_random_negatives_only() -> None:
    src, dst = np.zeros(20, int), np.arange(1, 21) % 5 + 1
    mixed = sampler_of(
        Case(EventStream.from_arrays(src, dst, np.arange(20)), None, []), "random 3, historical"
    )
    density = mixed.log_density(torch.zeros(2, 1), torch.tensor([[False], [True]]))
    assert density is not None
    assert density.exp().flatten().tolist() == pytest.approx([1, 0.75])


def test_shares_add_up_to_one() -> None:
    assert shares_of("random") == {"random": 1}
    assert shares_of("random, popular") == {"random": 0.5, "popular": 0.5}
    assert shares_of(" historical 3,  random 1.0 ") == {"historical": 0.75, "random": 0.25}


@pytest.mark.parametrize(
    "negatives",
    ["", "often", "random,", "random 0", "random -1", "random nan", "random x", "random, random"],
)
def test_what_is_no_mixture_is_one_clear_error(negatives: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["--sampling.negatives", negatives])
    expected = (
        "sampling.negatives: must be random | historical | inductive | popular, or several of them"
    )
    assert expected in str(caught.value)
    assert str(caught.value).endswith(f"got {negatives!r}")
