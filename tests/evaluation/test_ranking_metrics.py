from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from pres_dist.evaluation.metrics import average_precision, reciprocal_ranks, roc_auc
from tests.support.nightly import drawn

FEW = st.sampled_from([-1.5, 0.0, 0.25, 0.5, 3.0])
# Any finite float32, subnormal ones and both zeros included.
ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)
NOTHING = np.empty(0, dtype=np.float32)


@st.composite
def scores(draw, values=None):
    """Positive and negative scores, with heavy ties or without."""
    values = values or draw(st.sampled_from([FEW, st.integers(0, 9).map(float), ANY]))
    sizes = st.integers(1, 40)
    return tuple(draw(arrays(np.float32, draw(sizes), elements=values)) for _ in range(2))


def labelled(positive, negative):
    labels = np.concatenate([np.ones(positive.size), np.zeros(negative.size)])
    return labels, np.concatenate([positive, negative])


@settings(max_examples=drawn(200, 3))
@given(scores())
def test_average_precision_against_scikit_learn(pair):
    expected = average_precision_score(*labelled(*pair))
    assert average_precision(*pair) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=drawn(200, 3))
@given(scores())
def test_roc_auc_against_scikit_learn(pair):
    expected = roc_auc_score(*labelled(*pair))
    assert roc_auc(*pair) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@settings(max_examples=drawn(60, 3))
@given(scores())
def test_roc_auc_is_the_share_of_pairs_in_the_right_order(pair):
    positive, negative = pair
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert roc_auc(positive, negative) == pytest.approx(float(np.mean(wins)), abs=1e-12)


def test_by_hand():
    # Highest first: +, -, + and a tie of one + and one -.
    positive, negative = np.array([9.0, 7.0, 5.0]), np.array([8.0, 5.0])
    assert average_precision(positive, negative) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert roc_auc(positive, negative) == pytest.approx((2 + 1 + 0.5) / 6)


@pytest.mark.parametrize("num", [1, 1000])
def test_a_constant_score_gains_nothing(num):
    same = np.zeros(num, dtype=np.float32)
    assert average_precision(same, same) == 0.5
    assert roc_auc(same, same) == 0.5


def test_many_scores_of_float32():
    """Counts and products of counts are exact far beyond 2^24."""
    random = np.random.default_rng(0)
    positive = random.normal(0.5, 1, 300_000).astype(np.float32)
    negative = random.normal(0, 1, 300_000).astype(np.float32)
    expected = labelled(positive, negative)
    assert roc_auc(positive, negative) == pytest.approx(roc_auc_score(*expected), rel=1e-12)
    assert average_precision(positive, negative) == pytest.approx(
        average_precision_score(*expected), rel=1e-12
    )


@settings(max_examples=50)
@given(scores(), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(pair, random):
    shuffled = []
    for column in pair:
        order = list(range(column.size))
        random.shuffle(order)
        shuffled.append(column[order])
    assert average_precision(*shuffled) == average_precision(*pair)
    assert roc_auc(*shuffled) == roc_auc(*pair)


def test_degenerate_inputs():
    some = np.array([0.5, 1.0], dtype=np.float32)
    assert math.isnan(average_precision(NOTHING, NOTHING))
    assert math.isnan(average_precision(NOTHING, some))
    assert math.isnan(roc_auc(NOTHING, NOTHING))
    assert math.isnan(roc_auc(NOTHING, some))
    assert math.isnan(roc_auc(some, NOTHING))
    # Without negatives every recall is reached at full precision, as in scikit-learn.
    assert average_precision(some, NOTHING) == 1


# -------------------------------------------------------------------- ranks


def reciprocal_rank(positive: float, negatives: list[float]) -> float:
    """TGB's definition: the mean of the optimistic and the pessimistic rank."""
    optimistic = pessimistic = 0
    for negative in negatives:
        optimistic += negative > positive
        pessimistic += negative >= positive
    return 1 / (0.5 * (optimistic + pessimistic) + 1)


@settings(max_examples=drawn(200, 3))
@given(st.data())
def test_reciprocal_ranks_against_a_loop(data):
    values = data.draw(st.sampled_from([FEW, ANY]))
    shape = data.draw(st.tuples(st.integers(0, 15), st.integers(0, 8)))
    positive = data.draw(arrays(np.float32, shape[:1], elements=values))
    negative = data.draw(arrays(np.float32, shape, elements=values))
    expected = [
        reciprocal_rank(p, row) for p, row in zip(positive.tolist(), negative.tolist(), strict=True)
    ]
    ranks = reciprocal_ranks(positive, negative)
    assert ranks.shape == (shape[0],)
    np.testing.assert_allclose(ranks, expected, rtol=1e-15)


def test_reciprocal_ranks_by_hand():
    positive = np.array([2.0, 2.0, 2.0, 2.0])
    negative = np.array([[1, 1, 1], [3, 3, 3], [2, 2, 2], [3, 2, 1]], dtype=np.float64)
    assert reciprocal_ranks(positive, negative).tolist() == [1, 1 / 4, 1 / 2.5, 1 / 2.5]


# ---------------------------------------------------------- scores not finite

NAN = np.full(4, np.nan, dtype=np.float32)
INFINITE = np.full(4, np.inf, dtype=np.float32)


def test_average_precision_of_nan_is_no_success():
    assert math.isnan(average_precision(NAN, NAN))


def test_roc_auc_of_nan_is_no_success():
    assert math.isnan(roc_auc(NAN, NAN))


def test_reciprocal_rank_of_nan_is_no_success():
    assert np.isnan(reciprocal_ranks(NAN, np.zeros((4, 3), dtype=np.float32))).all()


def test_reciprocal_rank_among_nan_is_no_success():
    assert np.isnan(reciprocal_ranks(np.zeros(1), np.full((1, 3), np.nan))).all()


@pytest.mark.parametrize("metric", [average_precision, roc_auc])
@pytest.mark.parametrize("sign", [1, -1])
def test_infinite_scores_tie(metric, sign):
    assert metric(sign * INFINITE, sign * INFINITE) == 0.5
