"""Link prediction: distinguish events from negatives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
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
        return None

    def targets(self, events_B: Tensor) -> None:
        return None

    def evaluator(self, parts: Parts, config: EvaluationConfig) -> LinkEvaluator:
        return LinkEvaluator(parts, config)


class LinkEvaluator:
    """Evaluator of AP, AUC and MRR against the configured negatives."""

    def __init__(self, parts: Parts, config: EvaluationConfig) -> None:
        self._parts, self._config = parts, config
        self._negatives = parts.evaluation_negatives(config)
        self._num_negatives = self._negatives.num_slots(config.num_negatives)

    @property
    def settings(self) -> Results:
        return {"num_negatives": self._num_negatives, "negatives": self._config.negatives}

    def after_epoch(self, events: range, world: World) -> Metrics:
        """Return AP and AUC against one negative per event."""
        return without_mrr(self._measure(events, 1, world))

    def final(self, events: range, world: World) -> Metrics:
        """Return AP, AUC, MRR, the share of negatives of the requested kind, and the baselines."""
        negatives = self._negatives
        negatives.counts.zero_()
        metrics = self._measure(events, self._num_negatives, world)
        drawn, found = world.all_reduce(negatives.counts).tolist()
        metrics["negatives_found"] = found / drawn if drawn else None
        if self._config.baselines:
            metrics["baselines"] = world.run_on_rank0(partial(self._of_baselines, events))
        return metrics

    def _of_baselines(self, events: range) -> dict[str, Metrics]:
        """Return the metrics of EdgeBank and popularity on the same events and negatives."""
        negatives = self._parts.evaluation_negatives(self._config)
        return self._baselines.metrics(events, negatives, self._num_negatives)

    @cached_property
    def _baselines(self) -> LinkBaselines:
        data = self._parts.data
        return LinkBaselines(data.stream, data.tables, data.unseen_N)

    def _measure(self, events: range, num_negatives: int, world: World) -> Metrics:
        parts = self._parts
        sweep = parts.evaluation_sweep(events, self._config.batch_size)
        scored = score(parts.evaluation_step, sweep, self._negatives, num_negatives, world)
        return scored.metrics(parts.data.unseen_N)


def without_mrr(metrics: Metrics) -> Metrics:
    """Return the metrics without MRR, which is not informative with one negative."""
    metrics = metrics.copy()
    metrics.pop("mrr", None)
    for name in ("inductive", "transductive"):
        if name in metrics:
            metrics[name] = without_mrr(metrics[name])
    return metrics
