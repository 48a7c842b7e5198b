"""Node classification (label of an event's source node) and edge classification.

An event's label is predicted from the state before the event, as a link is: the model reads
only the event's endpoints and time and, if `task.own_features` is set, its features. Only losses,
metrics and baselines read labels; they are never an input of the model.

Shapes: E events of the stream, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.config.model import ModelConfig
from pres_dist.config.task import TaskConfig
from pres_dist.errors import DataError
from pres_dist.evaluation.label_baselines import LabelBaselines
from pres_dist.evaluation.metrics import class_metrics
from pres_dist.evaluation.scoring import classify
from pres_dist.events.split import as_index
from pres_dist.events.stream import EventStream
from pres_dist.model.decoder import Classifier, EdgeClassifier, NodeClassifier
from pres_dist.parallel.world import World
from pres_dist.records import MetricName, Metrics, Results
from pres_dist.training.loss import Targets

if TYPE_CHECKING:
    from pres_dist.training.setup import Parts


MAX_CLASSES = 1000
UNLABELLED = -1


@dataclass(frozen=True)
class Labels:
    """Labels of a stream.

    Attributes:
        values_C: sorted labels, as in the stream; class c has label `values_C[c]`.
        class_E: int64 class of each event, or UNLABELLED.
    """

    values_C: np.ndarray
    class_E: np.ndarray

    @property
    def num_classes(self) -> int:
        """Number of different labels."""
        return len(self.values_C)

    def shares(self, events: range | np.ndarray) -> np.ndarray:
        """Return [C] share of each class among the labelled events of `events`."""
        class_n = self.class_E[as_index(events)]
        counts = np.bincount(class_n[class_n != UNLABELLED], minlength=self.num_classes)
        return counts / max(int(counts.sum()), 1)


def labels_of(
    stream: EventStream, missing: int | None, training: range | np.ndarray, task: str
) -> Labels:
    """Number the labels of a stream.

    Args:
        stream: the events.
        missing: label that means "unlabelled"; None if every event has a label.
        training: ids of training events.
        task: task as written in the configuration, for error messages.

    Raises:
        DataError: there are no labels, fewer than two classes or too many, or fewer than
            two of them occur in the training split.
    """
    if stream.labels is None:
        raise DataError(
            f"{stream.name}: {task} needs a stream with labels, this one has none "
            "(pres-dist data import --label COLUMN)"
        )
    values_C, class_E = np.unique(np.asarray(stream.labels), return_inverse=True)
    if missing is not None:
        place = np.flatnonzero(values_C == missing)
        values_C = np.delete(values_C, place)
        class_E = np.where(
            stream.labels == missing, UNLABELLED, np.searchsorted(values_C, stream.labels)
        )
    if not 2 <= len(values_C) <= MAX_CLASSES:
        raise DataError(
            f"{stream.name}: {task} needs 2 to {MAX_CLASSES} different labels, got {len(values_C)}"
        )
    labels = Labels(values_C, class_E.astype(np.int64))
    if np.count_nonzero(labels.shares(training)) < 2:
        raise DataError(
            f"{stream.name}: {task} needs at least 2 different labels among the training events"
        )
    return labels


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
        self.reads_destination = config.kind == "edge_classification"
        self.best_by: MetricName = "auc" if labels.num_classes == 2 else "macro_f1"
        self.shares_C = labels.shares(training)
        self.learns_links = config.link_weight > 0 and config.pretrained is None
        self.losses: Sequence[str] = ("link", "label") if self.learns_links else ("label",)
        self.num_negatives = num_negatives if self.learns_links else 0
        self._class_E = torch.from_numpy(labels.class_E).to(device)
        self._weight_C: Tensor | None = None
        if config.class_weights == "balanced":
            self._weight_C = balancing_weights(self.shares_C).to(device)

    def classifier(self, model: ModelConfig, edge_dim: int) -> Classifier:
        """Return a head over the source's embedding, or over both endpoints'."""
        kind = EdgeClassifier if self.reads_destination else NodeClassifier
        features = edge_dim if self.config.own_features else 0
        return kind(model.embedding_dim, self.labels.num_classes, model.dropout, features)

    def targets(self, events_B: Tensor) -> Targets:
        """Return the classes of events."""
        link_weight = self.config.link_weight if self.learns_links else 0.0
        return Targets(self._class_E.index_select(0, events_B), self._weight_C, link_weight)

    def evaluator(self, parts: Parts, config: EvaluationConfig) -> ClassEvaluator:
        """Return an evaluator of label metrics."""
        return ClassEvaluator(self, parts, config)


class ClassEvaluator:
    """Evaluator of label metrics, with simple baselines."""

    def __init__(self, task: Classification, parts: Parts, config: EvaluationConfig) -> None:
        self._task, self._parts, self._config = task, parts, config
        self.settings: Results = {"classes": task.labels.values_C.tolist()}

    def after_epoch(self, events: range, world: World) -> Metrics:
        """Return the metrics of all labelled events, and of those with nodes unseen in training."""
        pipeline, labels = self._parts.evaluation_pipeline, self._task.labels
        loader = self._parts.evaluation_loader(events, self._config.batch_size)
        score_nC = classify(pipeline, loader, labels.num_classes, world)
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
