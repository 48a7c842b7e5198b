"""Final evaluation of a run."""

from __future__ import annotations

from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.evaluation.scoring import replay
from pres_dist.records import Results
from pres_dist.training.setup import Parts


def final_metrics(parts: Parts, config: EvaluationConfig) -> Results:
    """Return the task's metrics on the validation split and then on the test split.

    The store must hold the memory at the end of the training split; with
    `memory: replay` it is rebuilt, in temporal batches of the evaluation's own size.
    The memory is carried through the validation split into the test split.
    """
    return parts.world.run_on_last_replica(lambda: _final_metrics(parts, config))


def _final_metrics(parts: Parts, config: EvaluationConfig) -> Results:
    """Evaluate on the workers that share the memory at the end of the training split."""
    split, world = parts.data.split, parts.world.own_replica()
    if config.memory == "replay" and parts.config.model.has_memory:
        sweep = parts.evaluation_sweep(parts.data.kept, config.batch_size)
        replay(parts.train_step, sweep, world)
    evaluator = parts.task.evaluator(parts, config)
    return {
        "model": parts.config.model.kind,
        **evaluator.settings,
        # In this order: the memory after the validation split is the test split's.
        "validation": evaluator.final(split.validation, world),
        "test": evaluator.final(split.test, world),
    }
