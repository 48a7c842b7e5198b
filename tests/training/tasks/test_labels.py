"""Labels as classes, and streams that have none to classify."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pres_dist.errors import DataError
from pres_dist.training.tasks.classification import MAX_CLASSES, balancing_weights, labels_of
from tests.support.small_run import habitual_stream, labelled_stream

TRAINING = range(1000)


def test_classes_are_the_sorted_labels_less_the_missing_one() -> None:
    stream = replace(habitual_stream(6), labels=np.array([7, -3, 7, 99, 20, -3]))
    labels = labels_of(stream, 99, range(4), "task")
    assert labels.values_C.tolist() == [-3, 7, 20]
    assert labels.class_E.tolist() == [1, 0, 1, -1, 2, 0]
    assert labels.shares(range(4)).tolist() == [1 / 3, 2 / 3, 0]
    assert labels.shares(range(3, 4)).tolist() == [0, 0, 0]
    assert labels.shares(range(10**15)).tolist() == labels.shares(range(6)).tolist()  # lists no ids


def test_a_missing_label_that_never_occurs_changes_nothing() -> None:
    stream = labelled_stream()
    every, none = (labels_of(stream, missing, TRAINING, "task") for missing in (None, 17))
    assert every.values_C.tolist() == [-1, 0, 1, 2]
    np.testing.assert_array_equal(every.class_E, none.class_E)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "habits: task needs a stream with labels, this one has none"),
        (np.zeros(1500, np.int64), f"needs 2 to {MAX_CLASSES} different labels, got 1"),
        (np.arange(1500), f"needs 2 to {MAX_CLASSES} different labels, got 1500"),
        ((np.arange(1500) > 1200).astype(np.int64), "2 different labels among the training events"),
    ],
)
def test_a_stream_without_classes_is_one_clear_error(labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels_of(replace(habitual_stream(), labels=labels), None, TRAINING, "task")


def test_balancing_weights_let_classes_weigh_alike() -> None:
    shares_C = np.array([0.9, 0.0, 0.1])
    weight_C = balancing_weights(shares_C)
    torch.testing.assert_close(
        weight_C * torch.tensor(shares_C).float(), torch.tensor([0.5, 0, 0.5])
    )
