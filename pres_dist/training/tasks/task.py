"""What differs between tasks: the head of the model, the targets of the loss, the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.config.model import ModelConfig
from pres_dist.model.decoder import Classifier
from pres_dist.parallel.world import World
from pres_dist.training.loss import Targets

if TYPE_CHECKING:
    from pres_dist.training.setup import Parts

Metrics = dict[str, Any]


class Evaluator(Protocol):
    """Measures parts of the stream, and carries the memory through them.

    Attributes:
        settings: what results.json says of the whole evaluation.
    """

    @property
    def settings(self) -> Metrics: ...

    def after_epoch(self, events: range, world: World) -> Metrics:
        """The metrics that choose the best epoch, and no more than these cost."""

    def final(self, events: range, world: World) -> Metrics:
        """All metrics; baselines beside them."""


class Task(Protocol):
    """What a run learns to predict.

    Attributes:
        best_by: metric of the validation split that chooses the best epoch.
        losses: names of those parts of the loss that are learned: link, label.
        num_negatives: negatives an event in training.
    """

    @property
    def best_by(self) -> str: ...

    @property
    def losses(self) -> Sequence[str]: ...

    @property
    def num_negatives(self) -> int: ...

    def classifier(self, model: ModelConfig, edge_dim: int) -> Classifier | None:
        """The head that the model needs beside its link decoder."""

    def targets(self, events_B: Tensor) -> Targets | None:
        """What is to be learned of events beside that they happened."""

    def evaluator(self, parts: Parts, config: EvaluationConfig) -> Evaluator:
        """Measures the trained parts."""
