"""Metrics of link prediction and of classification.

Shapes: n events, M negatives an event, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from pres_dist.records import Metrics


def link_metrics(
    positive_n: np.ndarray,
    negative_n: np.ndarray,
    reciprocal_n: np.ndarray,
    unseen_n: np.ndarray,
) -> Metrics:
    """Return AP, AUC and MRR of all events, and of those with and without an unseen node.

    Args:
        positive_n: scores of events.
        negative_n: score of one negative per event.
        reciprocal_n: reciprocal rank of each event among all its negatives.
        unseen_n: bool, events with a node that has no training event.
    """

    def of(events: np.ndarray) -> Metrics:
        positive, negative = positive_n[events], negative_n[events]
        if positive.size == 0:
            return {"num_events": 0}
        return {
            "num_events": int(positive.size),
            "ap": average_precision(positive, negative),
            "auc": roc_auc(positive, negative),
            "mrr": float(reciprocal_n[events].mean()),
        }

    everything = of(np.ones(positive_n.size, dtype=bool))
    return {**everything, "inductive": of(unseen_n), "transductive": of(~unseen_n)}


def class_metrics(score_nC: np.ndarray, class_n: np.ndarray, unseen_n: np.ndarray) -> Metrics:
    """Return metrics of all labeled events, and of those with and without an unseen node.

    Args:
        score_nC: higher is more likely; comparable between the classes of an event.
        class_n: class of each event; negative without a label.
        unseen_n: bool, events with a node that has no training event.
    """

    def of(chosen_n: np.ndarray) -> Metrics:
        return _class_metrics(score_nC[chosen_n], class_n[chosen_n])

    labeled_n = class_n >= 0
    return {
        **of(labeled_n),
        "inductive": of(labeled_n & unseen_n),
        "transductive": of(labeled_n & ~unseen_n),
    }


def _class_metrics(score_nC: np.ndarray, class_n: np.ndarray) -> Metrics:
    """Return the metrics; AP and AUC are of class 1 if there are two, else class means.

    For class means, each class is ranked against all others by its softmax probability. A
    metric is left out if it is undefined, because one side has no events.
    """
    if class_n.size == 0:
        return {"num_events": 0}
    guess_n = score_nC.argmax(1)
    metrics: Metrics = {
        "num_events": int(class_n.size),
        "accuracy": accuracy(guess_n, class_n),
        "macro_f1": macro_f1(guess_n, class_n),
    }
    score_nC = score_nC.astype(np.float64)
    if score_nC.shape[1] == 2:
        ranked = {1: score_nC[:, 1] - score_nC[:, 0]}
    else:
        # Softmax is compared between events, for which raw logits are not comparable; the maximum
        # is subtracted so that exp does not overflow.
        share_nC = score_nC - score_nC.max(1, keepdims=True)
        share_nC -= np.log(np.exp(share_nC).sum(1, keepdims=True))
        ranked = dict(enumerate(share_nC.T))
    rankings: dict[Literal["ap", "auc"], Callable[[np.ndarray, np.ndarray], float]] = {
        "ap": average_precision,
        "auc": roc_auc,
    }
    for name, metric in rankings.items():
        values = [metric(score[class_n == c], score[class_n != c]) for c, score in ranked.items()]
        there = [value for value in values if not math.isnan(value)]
        if there:
            metrics[name] = float(np.mean(there))
    return metrics


def average_precision(positive_n: np.ndarray, negative_m: np.ndarray) -> float:
    """Return average precision, as a sum over thresholds; nan without positives.

    AP = sum_i (R_i - R_{i-1}) P_i over the distinct scores, highest first: equal
    scores count as one threshold (as in scikit-learn). A score that is nan makes
    the metric nan.
    """
    true_positives, false_positives = _cumulated(positive_n, negative_m)
    if true_positives.size == 0 or true_positives[-1] == 0:
        return float("nan")
    precision = true_positives / (true_positives + false_positives)
    return float(np.sum(np.diff(true_positives, prepend=0) * precision) / true_positives[-1])


def roc_auc(positive_n: np.ndarray, negative_m: np.ndarray) -> float:
    """Return the probability that a positive outscores a negative; ties count one half.

    The result is nan without positives or without negatives, or if a score is nan.
    """
    true_positives, false_positives = _cumulated(positive_n, negative_m)
    if true_positives.size == 0 or true_positives[-1] == 0 or false_positives[-1] == 0:
        return float("nan")
    # Trapezoids between thresholds count ties as one half.
    height = true_positives + np.concatenate([[0], true_positives[:-1]])
    area = np.sum(np.diff(false_positives, prepend=0) * height) / 2
    return float(area / (true_positives[-1] * false_positives[-1]))


def reciprocal_ranks(positive_n: np.ndarray, negative_nM: np.ndarray) -> np.ndarray:
    """Return the [n] values of 1 / rank of each event among its own negatives.

    The rank is the mean of the best and the worst that ties allow (TGB, Huang et
    al., NeurIPS 2023), so that a model that gives equal scores gains nothing. The
    result is nan if a score is nan: every comparison with it would favor the model.
    """
    better_n = (negative_nM > positive_n[:, None]).sum(1)
    not_worse_n = (negative_nM >= positive_n[:, None]).sum(1)
    undefined_n = np.isnan(positive_n) | np.isnan(negative_nM).any(1)
    return np.where(undefined_n, np.nan, 1 / (1 + (better_n + not_worse_n) / 2))


def hits(positive_n: np.ndarray, negative_nM: np.ndarray, num: int) -> np.ndarray:
    """Return the [n] probabilities that each event ranks in the top `num`, ties in random order.

    The value is 1 or 0 without ties, and nan if a score is nan.
    """
    better_n = (negative_nM > positive_n[:, None]).sum(1)
    alike_n = 1 + (negative_nM == positive_n[:, None]).sum(1)
    undefined_n = np.isnan(positive_n) | np.isnan(negative_nM).any(1)
    return np.where(undefined_n, np.nan, ((num - better_n) / alike_n).clip(0, 1))


def accuracy(guess_n: np.ndarray, class_n: np.ndarray) -> float:
    """Return the share of correctly classified events; nan without events."""
    return float((guess_n == class_n).mean()) if class_n.size else float("nan")


def macro_f1(guess_n: np.ndarray, class_n: np.ndarray) -> float:
    """Return the mean F1 score over classes; nan without events.

    F1 = 2 TP / (2 TP + FP + FN), over the classes that occur or are predicted (as in
    scikit-learn).
    """
    present = np.union1d(guess_n, class_n)
    if present.size == 0:
        return float("nan")
    true_C = np.array([np.sum((guess_n == c) & (class_n == c)) for c in present])
    either_C = np.array([np.sum(guess_n == c) + np.sum(class_n == c) for c in present])
    return float(np.mean(2 * true_C / either_C))


def _cumulated(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count positives and negatives at or above each distinct score, highest first.

    The result is empty if a score is nan, since nan cannot be ordered.
    """
    scores = np.concatenate([positive, negative]).astype(np.float64)
    if np.isnan(scores).any():
        return np.empty(0), np.empty(0)
    is_positive = np.concatenate([np.ones(positive.size), np.zeros(negative.size)])
    order = np.argsort(-scores, kind="stable")
    # Equal scores are one threshold: only the counts at the last of them are points of the curve.
    last_of_score = np.ones(scores.size, dtype=bool)
    last_of_score[:-1] = scores[order][1:] != scores[order][:-1]
    true_positives = np.cumsum(is_positive[order])[last_of_score]
    false_positives = np.cumsum(1 - is_positive[order])[last_of_score]
    return true_positives, false_positives
