"""`evaluate`: the metrics of a trained run, under its own or other settings."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from pres_dist.evaluation.config import EvaluationConfig
from pres_dist.evaluation.final import final_metrics
from pres_dist.files import write_atomically
from pres_dist.parallel.grid import evaluation_grid
from pres_dist.parallel.world import join_world
from pres_dist.report.run_folder import read_config
from pres_dist.training.checkpoint import BEST, Checkpoints
from pres_dist.training.identity import load_model
from pres_dist.training.setup import assembled, choose_device
from pres_dist.training.stores import without_servers

EVALUATION = "evaluation.json"

Results = dict[str, Any]


def evaluate_run(run_dir: Path, evaluation: EvaluationConfig) -> Results:
    """Evaluate the best epoch of a run; also writes evaluation.json into its folder.

    Raises:
        CheckpointError: no usable checkpoint, or one of other events.
        DataError: the stream cannot be opened.
    """
    started = time.perf_counter()
    config = read_config(run_dir).model_copy(update={"evaluation": evaluation})
    device = choose_device(config)
    with join_world(device, partial(evaluation_grid, config.parallel)) as world:
        state = world.leader_does(lambda: Checkpoints(run_dir).load(BEST))
        with assembled(without_servers(config), device, world) as parts:
            load_model(parts, state)
            metrics = final_metrics(parts, evaluation)
    results: Results = {
        **metrics,
        "best_epoch": state["position"]["epoch"],
        "seconds": time.perf_counter() - started,
        "settings": evaluation.model_dump(mode="json"),
    }
    if world.leads:
        write_atomically(run_dir / EVALUATION, json.dumps(results, indent=1) + "\n")
    return results
