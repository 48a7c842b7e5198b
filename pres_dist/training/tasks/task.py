"""Protocols of a task: the head of the model, the targets of the loss, the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.config.model import ModelConfig
from pres_dist.model.decoder import Classifier
from pres_dist.parallel.world import World
from pres_dist.records import MetricName, Metrics, Results
from pres_dist.training.loss import Targets

if TYPE_CHECKING:
    from pres_dist.training.setup import Parts


class Evaluator(Protocol):
    """Evaluator of parts of the stream that carries the memory through them.

    Attributes:
        settings: entries of results.json that apply to the whole evaluation.
    """

    settings: Results

    def after_epoch(self, events: range, world: World) -> Metrics:
        """Return the metrics that choose the best epoch, without further cost."""

    def final(self, events: range, world: World) -> Metrics:
        """Return all metrics, including the metrics of the baselines."""


class Task(Protocol):
    """Prediction task of a run.

    Attributes:
        best_by: metric of the validation split that chooses the best epoch.
        losses: names of the loss terms that are learned: link, label.
        num_negatives: negatives per training event.
    """

    best_by: MetricName
    losses: Sequence[str]
    num_negatives: int

    def classifier(self, model: ModelConfig, edge_dim: int) -> Classifier | None:
        """Return the head that the model needs in addition to its link decoder, or None."""

    def targets(self, events_B: Tensor) -> Targets | None:
        """Return the classification targets of events, or None if only links are learned."""

    def evaluator(self, parts: Parts, config: EvaluationConfig) -> Evaluator:
        """Return an evaluator of the trained parts."""
