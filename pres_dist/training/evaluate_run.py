"""`evaluate`: compute the metrics of a trained run, with its own or other settings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pres_dist import arguments
from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.evaluation.ranking_negatives import kinds_of
from pres_dist.events.builtin import check_stream_there
from pres_dist.files import keep
from pres_dist.parallel.grid import evaluation_grid
from pres_dist.parallel.join import join_world
from pres_dist.records import Results
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_record import check_same_run
from pres_dist.training.checkpoint import BEST, Checkpoints
from pres_dist.training.final_evaluation import final_metrics
from pres_dist.training.identity import load_model
from pres_dist.training.setup import Parts, assembled, choose_device
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
                load_model(parts, best)
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
