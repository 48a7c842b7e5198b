"""Node classification (label of an event's source node) and edge classification.

An event's label is predicted from the state before the event, as a link is: the model reads
only the event's endpoints and time and, if `task.own_features` is set, its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.config.model import ModelConfig
from pres_dist.config.task import TaskConfig
from pres_dist.evaluation.label_baselines import LabelBaselines
from pres_dist.evaluation.metrics import class_metrics
from pres_dist.evaluation.scoring import classify
from pres_dist.model.decoder import Classifier, EdgeClassifier, NodeClassifier
from pres_dist.parallel.world import World
from pres_dist.records import MetricName, Metrics, Results
from pres_dist.training.loss import Targets
from pres_dist.training.tasks.labels import Labels

if TYPE_CHECKING:
    from pres_dist.training.setup import Parts


class Classification:
    """Task that learns labels, and also links if they have a weight.

    Args:
        config: node or edge classification.
        labels: labels of all events.
        training: ids of training events.
        num_negatives: negatives per training event, if links are learned.
        device: device that holds the targets.
    """

    def __init__(
        self,
        config: TaskConfig,
        labels: Labels,
        training: range | np.ndarray,
        num_negatives: int,
        device: torch.device,
    ) -> None:
        self.config, self.labels = config, labels
        self.shares_C = labels.shares(training)
        self.learns_links = config.link_weight > 0 and config.pretrained is None
        self.num_negatives = num_negatives if self.learns_links else 0
        self._class_E = torch.from_numpy(labels.class_E).to(device)
        weight_C = balancing_weights(self.shares_C) if config.class_weights == "balanced" else None
        self._weight_C = None if weight_C is None else weight_C.to(device)

    @property
    def reads_destination(self) -> bool:
        return self.config.kind == "edge_classification"

    @property
    def best_by(self) -> MetricName:
        return "auc" if self.labels.num_classes == 2 else "macro_f1"

    @property
    def losses(self) -> Sequence[str]:
        return ("link", "label") if self.learns_links else ("label",)

    def classifier(self, model: ModelConfig, edge_dim: int) -> Classifier:
        kind = EdgeClassifier if self.reads_destination else NodeClassifier
        features = edge_dim if self.config.own_features else 0
        return kind(model.embedding_dim, self.labels.num_classes, model.dropout, features)

    def targets(self, events_B: Tensor) -> Targets:
        link_weight = self.config.link_weight if self.learns_links else 0.0
        return Targets(self._class_E.index_select(0, events_B), self._weight_C, link_weight)

    def evaluator(self, parts: Parts, config: EvaluationConfig) -> ClassEvaluator:
        return ClassEvaluator(self, parts, config)


class ClassEvaluator:
    """Evaluator of label metrics, with simple baselines."""

    def __init__(self, task: Classification, parts: Parts, config: EvaluationConfig) -> None:
        self._task, self._parts, self._config = task, parts, config

    @property
    def settings(self) -> Results:
        return {"classes": self._task.labels.values_C.tolist()}

    def after_epoch(self, events: range, world: World) -> Metrics:
        """Return the metrics of all labelled events, and of those with nodes unseen in training."""
        step, labels = self._parts.evaluation_step, self._task.labels
        sweep = self._parts.evaluation_sweep(events, self._config.batch_size)
        score_nC = classify(step, sweep, labels.num_classes, world)
        return class_metrics(
            score_nC, labels.class_E[events.start : events.stop], self._unseen(events)
        )

    def final(self, events: range, world: World) -> Metrics:
        """Return the same metrics, and the metrics of the baselines."""
        labels, stream = self._task.labels, self._parts.data.stream
        class_n, unseen_n = labels.class_E[events.start : events.stop], self._unseen(events)
        metrics = self.after_epoch(events, world)
        baselines = LabelBaselines(stream, labels.class_E, self._task.shares_C)
        metrics["baselines"] = {
            name: class_metrics(score_nC, class_n, unseen_n)
            for name, score_nC in baselines.scores(events, self._task.reads_destination)
        }
        return metrics

    def _unseen(self, events: range) -> np.ndarray:
        """Return [n] bool, True if a node that the classifier reads has no training event."""
        stream, unseen_N = self._parts.data.stream, self._parts.data.unseen_N
        rows = slice(events.start, events.stop)
        unseen_n = unseen_N[stream.src[rows]]
        return unseen_n | unseen_N[stream.dst[rows]] if self._task.reads_destination else unseen_n


def balancing_weights(shares_C: np.ndarray) -> Tensor:
    """Return [C] float32 weights that balance the classes; their mean over events is 1."""
    num_present = max(int(np.count_nonzero(shares_C)), 1)
    safe_C = np.where(shares_C > 0, shares_C, 1.0)
    weight_C = np.where(shares_C > 0, 1 / (num_present * safe_C), 0.0)
    return torch.from_numpy(weight_C.astype(np.float32))
