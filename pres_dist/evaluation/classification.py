"""Classification of the events of a split.

Shapes: n events of the split, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pres_dist.evaluation.metrics import accuracy, average_precision, macro_f1, roc_auc
from pres_dist.evaluation.sweep import sweep_forwards
from pres_dist.parallel.world import World
from pres_dist.step.batches import Sweep, TemporalBatch
from pres_dist.step.compute import TemporalStep

Metrics = dict[str, Any]


def classify(step: TemporalStep, sweep: Sweep, num_classes: int, world: World) -> np.ndarray:
    """Return [n, C] float32 logits of the events of a sweep, updating memory along the way.

    Each worker classifies its time slices of every batch; every worker gets all logits.

    Args:
        step: model and store.
        sweep: the split, in temporal batches.
        num_classes: C.
        world: the workers that share the store.

    Raises:
        NonFiniteError: a logit is nan or infinite.
    """

    def none(part: TemporalBatch) -> Tensor:
        return part.events_B.new_empty(part.num_events, 0)

    own = []
    for _, forwards in sweep_forwards(step, sweep, none, world):
        logits = [forward.class_BC for forward in forwards if forward.class_BC is not None]
        own.append(torch.cat(logits).cpu())
    batches = [torch.cat(slices) for slices in zip(*world.gather(own), strict=True)]
    return torch.cat(batches).numpy() if batches else np.empty((0, num_classes), np.float32)


def metrics_of(score_nC: np.ndarray, class_n: np.ndarray, unseen_n: np.ndarray) -> Metrics:
    """Return metrics of all labeled events, and of those with and without an unseen node.

    Args:
        score_nC: higher is more likely; comparable between the classes of an event.
        class_n: class of each event; negative without a label.
        unseen_n: bool, events with a node that has no training event.
    """
    labelled_n = class_n >= 0
    return {
        **_metrics(score_nC[labelled_n], class_n[labelled_n]),
        "inductive": _metrics(score_nC[labelled_n & unseen_n], class_n[labelled_n & unseen_n]),
        "transductive": _metrics(score_nC[labelled_n & ~unseen_n], class_n[labelled_n & ~unseen_n]),
    }


def _metrics(score_nC: np.ndarray, class_n: np.ndarray) -> Metrics:
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
    ranked = _class_scores(score_nC)
    for name, metric in (("ap", average_precision), ("auc", roc_auc)):
        values = [metric(score[class_n == c], score[class_n != c]) for c, score in ranked.items()]
        there = [value for value in values if not math.isnan(value)]
        if there:
            metrics[name] = float(np.mean(there))
    return metrics


def _class_scores(score_nC: np.ndarray) -> dict[int, np.ndarray]:
    """Return the score that ranks events by their probability of each class."""
    score_nC = score_nC.astype(np.float64)
    if score_nC.shape[1] == 2:
        return {1: score_nC[:, 1] - score_nC[:, 0]}
    share_nC = score_nC - score_nC.max(1, keepdims=True)
    share_nC -= np.log(np.exp(share_nC).sum(1, keepdims=True))
    return dict(enumerate(share_nC.T))
