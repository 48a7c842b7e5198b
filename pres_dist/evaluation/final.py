"""The figures that a run ends with."""

from __future__ import annotations

from functools import cache, partial

from pres_dist.evaluation.baselines import Baselines
from pres_dist.evaluation.config import EvaluationConfig
from pres_dist.evaluation.link_prediction import Metrics, replay, score
from pres_dist.sampling.negatives import Negatives
from pres_dist.training.setup import Parts


def final_metrics(parts: Parts, config: EvaluationConfig) -> Metrics:
    """Metrics of the validation part and then of the test part, and of what negatives.

    The store must hold the memory from the end of the training part; with
    `memory: replay` it is rebuilt, in temporal batches of evaluation's own size.
    The memory is carried through validation into the test part.
    """
    metrics = parts.world.last_replica_does(lambda: _final_metrics(parts, config))
    if config.baselines:
        _add_baselines(parts, config, metrics)
    return metrics


def _add_baselines(parts: Parts, config: EvaluationConfig, metrics: Metrics) -> None:
    """EdgeBank and popularity on both parts; the leader computes, and all wait for it."""
    data = parts.data

    @cache
    def prepared() -> tuple[Baselines, Negatives]:
        baselines = Baselines(data.stream, data.tables, data.unseen_N)
        return baselines, parts.evaluation_negatives(config)

    def measure(events: range) -> Metrics:
        baselines, negatives = prepared()
        return baselines.metrics(events, negatives, negatives.num_slots(config.num_negatives))

    for name, events in (("validation", data.split.validation), ("test", data.split.test)):
        metrics[name]["baselines"] = parts.world.leader_does(partial(measure, events))


def _final_metrics(parts: Parts, config: EvaluationConfig) -> Metrics:
    """Of the workers that share the memory at the end of the training part."""
    split, step, world = parts.data.split, parts.evaluation_step, parts.world.own_replica()
    if config.memory == "replay":
        sweep = parts.evaluation_sweep(parts.data.kept, config.batch_size)
        replay(parts.train_step, sweep, world)
    negatives = parts.evaluation_negatives(config)
    num = negatives.num_slots(config.num_negatives)
    metrics: Metrics = {"num_negatives": num, "negatives": config.negatives}
    for name, events in (("validation", split.validation), ("test", split.test)):
        sweep = parts.evaluation_sweep(events, config.batch_size)
        scored = score(step, sweep, negatives, num, world)
        drawn, found = world.add_up(negatives.counts).tolist()
        negatives.counts.zero_()
        metrics[name] = scored.metrics(parts.data.unseen_N)
        metrics[name]["negatives_found"] = found / drawn if drawn else None
    return metrics
