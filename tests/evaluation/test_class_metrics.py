"""Metrics of classes against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from pres_dist.evaluation.metrics import class_metrics, macro_f1

SEEN = np.zeros(200, dtype=bool)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_metrics_against_scikit_learn(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    class_n = rng.integers(0, num_classes, 200)
    logits = rng.normal(size=(200, num_classes)) + np.eye(num_classes)[class_n]
    if num_classes == 2:
        logits = logits.round()  # ties
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    made = class_metrics(logits, class_n, SEEN)
    guess_n = logits.argmax(1)
    assert made["accuracy"] == pytest.approx(accuracy_score(class_n, guess_n))
    assert made["macro_f1"] == pytest.approx(f1_score(class_n, guess_n, average="macro"))
    if num_classes == 2:
        margin = logits[:, 1] - logits[:, 0]
        assert made["ap"] == pytest.approx(average_precision_score(class_n, margin))
        assert made["auc"] == pytest.approx(roc_auc_score(class_n, margin))
        return
    one_hot = np.eye(num_classes)[class_n]
    assert made["ap"] == pytest.approx(average_precision_score(one_hot, shares), rel=1e-6)
    assert made["auc"] == pytest.approx(roc_auc_score(class_n, shares, multi_class="ovr"), rel=1e-6)


def test_macro_f1_counts_classes_that_are_only_guessed() -> None:
    guess, truth = np.array([0, 2, 2, 0]), np.array([0, 0, 1, 0])
    assert macro_f1(guess, truth) == pytest.approx(f1_score(truth, guess, average="macro"))


def test_events_without_a_label_do_not_count() -> None:
    rng = np.random.default_rng(0)
    logits, class_n = rng.normal(size=(200, 2)), rng.integers(-1, 2, 200)
    unseen_n = rng.random(200) < 0.3
    made, labelled = class_metrics(logits, class_n, unseen_n), class_n >= 0
    expected = class_metrics(logits[labelled], class_n[labelled], unseen_n[labelled])
    assert made == expected
    assert made["num_events"] == labelled.sum()
    parts = [made["inductive"]["num_events"], made["transductive"]["num_events"]]
    assert parts == [(labelled & unseen_n).sum(), (labelled & ~unseen_n).sum()]


def test_what_cannot_be_measured_is_left_out() -> None:
    made = class_metrics(np.zeros((3, 2)), np.zeros(3, np.int64), np.ones(3, dtype=bool))
    assert made["transductive"] == {"num_events": 0}
    assert "ap" not in made
    assert "auc" not in made
    assert made["accuracy"] == 1
