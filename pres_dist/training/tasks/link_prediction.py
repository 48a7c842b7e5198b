"""Link prediction: distinguish events from negatives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.config.model import ModelConfig
from pres_dist.evaluation.link_baselines import LinkBaselines
from pres_dist.evaluation.scoring import score
from pres_dist.parallel.world import World
from pres_dist.records import MetricName, Metrics, Results

if TYPE_CHECKING:
    from pres_dist.training.setup import Parts


class LinkPrediction:
    """Link-prediction task, which uses only the link decoder of the model.

    Args:
        num_negatives: negatives per training event.
    """

    best_by: MetricName = "ap"
    losses: Sequence[str] = ("link",)

    def __init__(self, num_negatives: int) -> None:
        self.num_negatives = num_negatives

    def classifier(self, model: ModelConfig, edge_dim: int) -> None:
        """Return None: there is nothing to classify."""

    def targets(self, events_B: Tensor) -> None:
        """Return None: there is nothing to classify."""

    def evaluator(self, parts: Parts, config: EvaluationConfig) -> LinkEvaluator:
        """Return an evaluator of ranking metrics."""
        return LinkEvaluator(parts, config)


class LinkEvaluator:
    """Evaluator of AP, AUC and MRR against the configured negatives."""

    def __init__(self, parts: Parts, config: EvaluationConfig) -> None:
        self._parts, self._config = parts, config
        self._negatives = parts.evaluation_negatives(config)
        self._num_negatives = num = self._negatives.num_slots(config.num_negatives)
        self.settings: Results = {"num_negatives": num, "negatives": config.negatives}

    def after_epoch(self, events: range, world: World) -> Metrics:
        """Return AP and AUC against one negative per event."""
        return without_mrr(self._measure(events, 1, world))

    def final(self, events: range, world: World) -> Metrics:
        """Return AP, AUC, MRR, the share of negatives of the requested kind, and the baselines."""
        negatives = self._negatives
        negatives.take_counts()
        metrics = self._measure(events, self._num_negatives, world)
        drawn, found = world.all_reduce(negatives.take_counts()).tolist()
        metrics["negatives_found"] = found / drawn if drawn else None
        if self._config.baselines:

            def of_baselines() -> dict[str, Metrics]:
                again = self._parts.evaluation_negatives(self._config)  # with counts of their own
                return self._baselines.metrics(events, again, self._num_negatives)

            metrics["baselines"] = world.run_on_rank0(of_baselines)
        return metrics

    @cached_property
    def _baselines(self) -> LinkBaselines:
        data = self._parts.data
        return LinkBaselines(data.stream, data.tables, data.unseen_N)

    def _measure(self, events: range, num_negatives: int, world: World) -> Metrics:
        parts = self._parts
        loader = parts.evaluation_loader(events, self._config.batch_size)
        scored = score(parts.evaluation_pipeline, loader, self._negatives, num_negatives, world)
        return scored.metrics(parts.data.unseen_N)


def without_mrr(metrics: Metrics) -> Metrics:
    """Return the metrics without MRR, which is not informative with one negative."""
    metrics = metrics.copy()
    metrics.pop("mrr", None)
    for name in ("inductive", "transductive"):
        if name in metrics:
            metrics[name] = without_mrr(metrics[name])
    return metrics
