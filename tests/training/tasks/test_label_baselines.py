"""Baselines against loops over the events that each may know."""

from __future__ import annotations

import numpy as np
import pytest

from pres_dist.evaluation.label_baselines import LabelBaselines
from pres_dist.events.stream import EventStream

CLASSES = 3


def ties_and_gaps(num_events: int = 120) -> tuple[EventStream, np.ndarray]:
    """Few nodes, many equal times, some events without a label."""
    rng = np.random.default_rng(3)
    src, dst = rng.integers(0, 5, (2, num_events))
    stream = EventStream.from_arrays(src, dst, np.cumsum(rng.integers(0, 2, num_events)))
    return stream, rng.integers(-1, CLASSES, num_events)


@pytest.mark.parametrize("events", [range(0, 120), range(70, 110)], ids=["all", "part"])
def test_baselines_know_the_labels_of_earlier_times(events: range) -> None:
    stream, class_E = ties_and_gaps()
    shares_C = np.array([0.5, 0.3, 0.2])
    made = {
        name: np.exp(score_nC)
        for name, score_nC in LabelBaselines(stream, class_E, shares_C).scores(events, True)
    }
    for row, event in enumerate(events):
        earlier = (stream.t < stream.t[event]) & (class_E >= 0)
        of_source = earlier & (stream.src == stream.src[event])
        of_target = earlier & (stream.dst == stream.dst[event])
        last, frequency = guess(class_E[of_source], shares_C, shares_C)
        np.testing.assert_allclose(made["class prior"][row], shares_C)
        np.testing.assert_allclose(made["last label of source"][row], last)
        np.testing.assert_allclose(made["label frequency of source"][row], frequency)
        _, expected = guess(class_E[of_target], shares_C, shares_C)
        np.testing.assert_allclose(made["label frequency of destination"][row], expected)
        last, frequency = guess(class_E[of_source & of_target], last, frequency)
        np.testing.assert_allclose(made["last label of pair"][row], last)
        np.testing.assert_allclose(made["label frequency of pair"][row], frequency)


def guess(
    known: np.ndarray, last_C: np.ndarray, frequency_C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if known.size == 0:
        return last_C, frequency_C
    counts_C = np.bincount(known, minlength=CLASSES)
    return np.eye(CLASSES)[known[-1]], (counts_C + frequency_C) / (known.size + 1)


def test_labels_of_nodes_have_no_pairs() -> None:
    stream, class_E = ties_and_gaps()
    names = [
        name for name, _ in LabelBaselines(stream, class_E, np.ones(3) / 3).scores(range(9), False)
    ]
    assert names == ["class prior", "last label of source", "label frequency of source"]
