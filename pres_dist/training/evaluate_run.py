"""Metrics of a trained run, and of baselines on its stream without a model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pres_dist import arguments
from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.config.run import RunConfig
from pres_dist.evaluation.link_baselines import LinkBaselines
from pres_dist.evaluation.ranking_negatives import kinds_of, negatives_of
from pres_dist.evaluation.scoring import replay
from pres_dist.events.builtin import check_stream_there
from pres_dist.events.identity import check_same_events
from pres_dist.files import keep
from pres_dist.parallel.grid import evaluation_grid
from pres_dist.parallel.join import join_world
from pres_dist.records import Metrics, Results
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_record import check_same_run
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import Negatives
from pres_dist.training.checkpoint import BEST, Checkpoints
from pres_dist.training.setup import Parts, assembled, choose_device, load_data
from pres_dist.training.stores import without_servers

EVALUATION = "evaluation.json"


@arguments.checked_call
def evaluate_run(
    run_dir: Path | str, evaluation: EvaluationConfig, stream: Path | str | None = None
) -> Results:
    """Evaluate the best epoch of a run and write evaluation.json into its folder.

    If the file cannot be written, a warning is printed instead.

    Raises:
        CheckpointError: there is no usable checkpoint, or it is of other events.
        DataError: the stream cannot be used.
    """
    arguments.kind("evaluation", evaluation, EvaluationConfig, "an EvaluationConfig")
    place = arguments.path("run_dir", run_dir)
    now = None if stream is None else arguments.path("stream", stream)
    (results,) = _evaluate(place, lambda parts: [evaluation], lambda results: results[0], now)
    return results


def evaluate_negatives(
    run_dir: Path, evaluation: EvaluationConfig, stream: Path | None = None
) -> dict[str, Results]:
    """Evaluate as `evaluate_run` with every kind of negatives of the stream; results by kind."""

    def evaluations(parts: Parts) -> list[EvaluationConfig]:
        kinds = kinds_of(parts.data.stream, parts.data.split)
        return [evaluation.model_copy(update={"negatives": kind}) for kind in kinds]

    def by_kind(results: list[Results]) -> dict[str, Results]:
        return {result["negatives"]: result for result in results}

    return by_kind(_evaluate(run_dir, evaluations, by_kind, stream))


def _evaluate(
    run_dir: Path,
    evaluations: Callable[[Parts], list[EvaluationConfig]],
    written: Callable[[list[Results]], Mapping[str, object]],
    stream: Path | None,
) -> list[Results]:
    """Return the results of several evaluations, each from the memory of the best epoch."""
    config = read_config(run_dir, stream)
    check_stream_there(run_dir, config)
    device = choose_device(config, trained=True)
    results: list[Results] = []
    with join_world(
        device, partial(evaluation_grid, config.parallel), config.parallel.timeout_s
    ) as world:
        best = world.run_on_rank0(lambda: Checkpoints(run_dir).open(BEST))
        with assembled(without_servers(config), device, world) as parts:
            for evaluation in evaluations(parts):
                started = time.perf_counter()
                parts.load(best)
                results.append(
                    {
                        **final_metrics(parts, evaluation),
                        "best_epoch": best.training_state().position.epoch,
                        "seconds": time.perf_counter() - started,
                        "settings": evaluation.model_dump(mode="json"),
                    }
                )
        content = json.dumps(written(results), indent=1) + "\n"

        def publish() -> None:
            check_same_run(run_dir, best.run)
            keep(run_dir / EVALUATION, content)

        world.run_on_rank0(publish)  # a barrier, so that a rank 0 that hangs is detected
    return results


def final_metrics(parts: Parts, config: EvaluationConfig) -> Results:
    """Return the task's metrics on the validation split and then on the test split.

    The store must hold the memory at the end of the training split; with
    `memory: replay` it is rebuilt, in temporal batches of the evaluation's own size.
    The memory is carried through the validation split into the test split.
    """

    def measure() -> Results:
        split, world = parts.data.split, parts.world.own_replica()
        if config.memory == "replay" and parts.config.model.has_memory:
            loader = parts.evaluation_loader(parts.data.kept, config.batch_size)
            replay(parts.train_pipeline, loader, world)
        evaluator = parts.task.evaluator(parts, config)
        return {
            "model": parts.config.model.kind,
            **evaluator.settings,
            # In this order: the memory after the validation split is the test split's.
            "validation": evaluator.final(split.validation, world),
            "test": evaluator.final(split.test, world),
        }

    # The last replica's workers share the memory at the end of the training split.
    return parts.world.run_on_last_replica(measure)


def stream_baselines(
    config: RunConfig, expected: Mapping[str, Any] | None = None
) -> dict[str, Results]:
    """Evaluate the EdgeBank and popularity baselines on the stream of a configuration.

    Args:
        config: settings of the stream, its split and the evaluation.
        expected: identity that the stream must have, if the configuration belongs to a run.

    Returns:
        For each kind of negatives, the same keys as results.json of a run, without the model's
        metrics, and the `seconds` taken.

    Raises:
        ConfigError: a setting cannot be used here.
        DataError: the stream cannot be used.
        CheckpointError: the stream is not the expected one.
    """
    data = load_data(config, choose_device(config))
    stream, split = data.stream, data.split
    if expected is not None:
        check_same_events(stream, expected)
    adjacency = TemporalAdjacency(stream, data.tables, home=config.sampling.adjacency)
    baselines = LinkBaselines(stream, data.tables, data.unseen_N)
    results: dict[str, Results] = {}
    for kind in kinds_of(stream, split):
        started = time.perf_counter()
        evaluation = config.evaluation.model_copy(update={"negatives": kind})
        negatives = negatives_of(evaluation, stream, split, adjacency)
        num = negatives.num_slots(evaluation.num_negatives)
        results[kind] = {
            "negatives": kind,
            "num_negatives": num,
            "validation": _measured(baselines, split.validation, negatives, num),
            "test": _measured(baselines, split.test, negatives, num),
            "seconds": time.perf_counter() - started,
        }
    return results


def _measured(baselines: LinkBaselines, events: range, negatives: Negatives, num: int) -> Metrics:
    by_name = baselines.metrics(events, negatives, num)
    drawn, found = negatives.take_counts().tolist()
    return {
        "num_events": len(events),
        "baselines": by_name,
        "negatives_found": found / drawn if drawn else None,
    }
