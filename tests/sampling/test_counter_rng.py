from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.sampling.counter_rng import CounterRNG
from tests.support.nightly import drawn

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def splitmix64(state: int) -> int:
    """One output of SplitMix64 for a state that was already advanced (unbounded ints)."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def bits_of(key: tuple[int, ...], counters: tuple[int, ...]) -> int:
    state = 0
    for part in key:
        state = splitmix64(state + GOLDEN + splitmix64(part))
    for counter in counters:
        state = splitmix64(state + (counter + 1) * GOLDEN)
    return state


def tensors(*counters: int) -> list[torch.Tensor]:
    return [torch.tensor([counter]) for counter in counters]


def test_is_splitmix64_as_published():
    # The first outputs of the reference implementation for seed 0 (prng.di.unimi.it).
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [splitmix64(GOLDEN * (i + 1)) for i in range(3)] == known
    # Without a key, and with one counter, the draw is the output of that number.
    bits = CounterRNG().bits(torch.arange(3)).tolist()
    assert [value & MASK for value in bits] == known


@settings(max_examples=drawn(200, 3))
@given(
    key=st.lists(st.integers(-(1 << 70), 1 << 70), max_size=4),
    counters=st.lists(INT64, min_size=1, max_size=4),
)
def test_known_answer(key, counters):
    bits = CounterRNG(*key).bits(*tensors(*counters))
    assert bits.dtype == torch.int64
    assert int(bits) & MASK == bits_of(tuple(key), tuple(counters))
    uniform = CounterRNG(*key).uniform(*tensors(*counters))
    assert uniform.dtype == torch.float64
    assert float(uniform) == (bits_of(tuple(key), tuple(counters)) >> 11) / 2**53


def test_frozen_values():
    """A change of the generator changes every published number: it must be on purpose."""
    values = CounterRNG(1, 2, 3).uniform(torch.arange(3), torch.full((3,), 5)).tolist()
    assert values == [0.5472708787280213, 0.3736715219795895, 0.5946503594281111]


@settings(max_examples=drawn(60, 3))
@given(st.data())
def test_draws_do_not_depend_on_how_counters_are_batched(data):
    num = data.draw(st.integers(1, 12))
    order = data.draw(st.permutations(range(num)))
    cut = data.draw(st.integers(0, num))
    first = torch.tensor(data.draw(st.lists(INT64, min_size=num, max_size=num)))
    second = torch.arange(num)
    for draw in (CounterRNG(7).bits, CounterRNG(7).uniform):
        whole = draw(first, second)
        assert torch.equal(
            torch.cat([draw(first[:cut], second[:cut]), draw(first[cut:], second[cut:])]), whole
        )
        assert torch.equal(draw(first[order], second[order]), whole[list(order)])
        one_by_one = [draw(first[i], second[i]) for i in range(num)]
        assert torch.equal(torch.stack(one_by_one), whole)


def test_counters_broadcast():
    rows, columns = torch.arange(4)[:, None], torch.arange(3)
    grid = CounterRNG(3).bits(rows, columns)
    assert grid.shape == (4, 3)
    for row in range(4):
        for column in range(3):
            assert grid[row, column] == CounterRNG(3).bits(*tensors(row, column))


@pytest.mark.parametrize("key", [(0,), (1, 2, 3), (-5, 1 << 40)])
def test_uniform_is_uniform(key):
    draws = CounterRNG(*key).uniform(torch.arange(40_000))
    assert 0 <= draws.min() < 0.001
    assert 0.999 < draws.max() < 1
    assert abs(draws.mean() - 0.5) < 4 * math.sqrt(1 / 12 / 40_000)
    observed = torch.bincount((draws * 100).long(), minlength=100).double()
    assert chi_square(observed) < 99 + 4.5 * math.sqrt(2 * 99)


def test_pairs_of_counters_fill_the_square():
    """Draws of neighboring counters, and of neighboring slots, are independent."""
    draws = CounterRNG(11).uniform(torch.arange(20_000)[:, None], torch.arange(2))
    for x, y in ((draws[:, 0], draws[:, 1]), (draws[:-1, 0], draws[1:, 0])):
        cell = (x * 10).long() * 10 + (y * 10).long()
        observed = torch.bincount(cell, minlength=100).double()
        assert chi_square(observed) < 99 + 4.5 * math.sqrt(2 * 99)


def chi_square(observed: torch.Tensor) -> float:
    expected = observed.sum() / observed.numel()
    return float(((observed - expected) ** 2 / expected).sum())


def test_counters_are_not_interchangeable():
    first, second = torch.arange(100), torch.arange(100) + 1
    assert not (CounterRNG(0).bits(first, second) == CounterRNG(0).bits(second, first)).any()


@pytest.mark.parametrize("high", [1, 2, 7, 1000, 2**53 - 1])
def test_integers(high):
    draws = CounterRNG(5).integers(high, torch.arange(5_000))
    assert draws.dtype == torch.int64
    assert draws.min() >= 0
    assert draws.max() < high
    if high <= 7:
        observed = torch.bincount(draws, minlength=high).double()
        assert observed.numel() == high
        assert chi_square(observed) < high + 5 * math.sqrt(2 * high)
    else:
        assert abs(draws.double().mean() / high - 0.5) < 4 * math.sqrt(1 / 12 / 5_000)


def test_integers_with_a_bound_for_each_element():
    high = torch.tensor([0, 1, 2, 10**12]).repeat(500)
    draws = CounterRNG(5).integers(high, torch.arange(2_000))
    assert (draws[high == 0] == 0).all()
    assert (draws < high.clamp(min=1)).all()
    assert set(draws[high == 2].tolist()) == {0, 1}


def test_the_largest_uniform_stays_below_its_bound(monkeypatch):
    """(1 - 2^-53) * high must not round up to high."""
    top = torch.full((4,), -1)
    monkeypatch.setattr(CounterRNG, "bits", lambda self, *counters: top)
    high = torch.tensor([1, 3, 2**53 - 1, 2**52 + 1])
    assert CounterRNG(0).integers(high, top).tolist() == [int(h) - 1 for h in high]


@pytest.mark.parametrize(
    ("one", "other"),
    [((0,), (1,)), ((0,), (0, 0)), ((1, 2), (2, 1)), ((1, 2, 3), (1, 2, 4)), ((5,), (-5,))],
)
def test_other_keys_give_other_draws(one, other):
    counters = torch.arange(1_000)
    assert not (CounterRNG(*one).bits(counters) == CounterRNG(*other).bits(counters)).any()
    x, y = (CounterRNG(*key).uniform(counters) for key in (one, other))
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 4 / math.sqrt(1_000)


def test_same_key_gives_same_draws():
    counters = torch.arange(50)
    assert torch.equal(CounterRNG(4, 2).bits(counters), CounterRNG(4, 2).bits(counters))


@given(st.integers(0, 2**62), st.integers(0, 2**31))
def test_a_tensor_in_the_key_draws_as_its_number(seed: int, epoch: int) -> None:
    counters = torch.arange(20)
    of_tensor = CounterRNG(seed, 7, torch.tensor(epoch)).bits(counters)
    assert torch.equal(of_tensor, CounterRNG(seed, 7, epoch).bits(counters))
