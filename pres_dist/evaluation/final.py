"""The figures that a run ends with."""

from __future__ import annotations

from pres_dist.evaluation.baselines import Baselines
from pres_dist.evaluation.config import EvaluationConfig
from pres_dist.evaluation.link_prediction import Metrics, replay, score
from pres_dist.training.setup import Parts


def final_metrics(parts: Parts, config: EvaluationConfig) -> Metrics:
    """Metrics of the validation part and then of the test part, and of what negatives.

    The store must hold the memory from the end of the training part; with
    `memory: replay` it is rebuilt, in temporal batches of evaluation's own size.
    The memory is carried through validation into the test part.
    """
    metrics = parts.world.last_replica_does(lambda: _final_metrics(parts, config))
    if config.baselines:
        found = parts.world.leader_does(lambda: _baselines(parts, config))
        for name, baselines in found.items():
            metrics[name]["baselines"] = baselines
    return metrics


def _baselines(parts: Parts, config: EvaluationConfig) -> dict[str, Metrics]:
    """Of EdgeBank and popularity on the validation and the test part."""
    data, negatives = parts.data, parts.evaluation_negatives(config)
    baselines = Baselines(data.stream, data.tables, data.unseen_N)
    num = negatives.num_slots(config.num_negatives)
    return {
        "validation": baselines.metrics(data.split.validation, negatives, num),
        "test": baselines.metrics(data.split.test, negatives, num),
    }


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
