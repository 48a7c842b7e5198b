"""The figures that a run ends with."""

from __future__ import annotations

from pres_dist.evaluation.config import EvaluationConfig
from pres_dist.evaluation.link_prediction import Metrics, replay, score
from pres_dist.training.setup import Parts


def final_metrics(parts: Parts, config: EvaluationConfig) -> Metrics:
    """Metrics of the validation part and then of the test part, and of what negatives.

    The store must hold the memory from the end of the training part; with
    `memory: replay` it is rebuilt, in temporal batches of evaluation's own size.
    The memory is carried through validation into the test part.
    """
    split, step = parts.data.split, parts.evaluation_step
    if config.memory == "replay":
        replay(
            parts.train_step,
            parts.evaluation_sweep(parts.data.kept, config.batch_size),
            parts.world,
        )
    negatives = parts.evaluation_negatives(config)
    metrics: Metrics = {
        "num_negatives": config.num_negatives,
        "negatives": config.negatives,
    }
    for name, events in (("validation", split.validation), ("test", split.test)):
        sweep = parts.evaluation_sweep(events, config.batch_size)
        scored = score(step, sweep, negatives, config.num_negatives, parts.world)
        drawn, found = parts.world.add_up(negatives.counts).tolist()
        negatives.counts.zero_()
        metrics[name] = scored.metrics(parts.data.unseen_N)
        metrics[name]["negatives_found"] = found / drawn if drawn else None
    return metrics
