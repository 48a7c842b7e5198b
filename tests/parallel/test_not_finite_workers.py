"""A number that is not finite at one worker stops all of them, with the same words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from pres_dist.config.run import RunConfig
from pres_dist.parallel.grid import training_grid
from pres_dist.parallel.join import join_world
from pres_dist.training.setup import assemble, load_data
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.poison import make_trainer, poisoned, run_step, stopped
from tests.support.small_run import MakeConfig


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    with GlooWorld(2, tmp_path_factory.mktemp("two")) as world:
        yield world


def stop(
    worker: Worker, config: RunConfig, kind: str, spoilt: int, validates: bool
) -> tuple[str, list[str]]:
    """Message and what has changed, where one worker alone meets the number."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    with join_world(device, partial(training_grid, config.parallel)) as world:
        parts = assemble(config, load_data(config, device), world)
        trainer = make_trainer(parts)
        run_step(trainer, 0, 0)
        here = poisoned(parts, kind) if worker.rank == spoilt else nullcontext()
        with here:
            if validates:
                return stopped(parts, trainer._validate)
            return stopped(parts, lambda: run_step(trainer, 1, 4))


@pytest.mark.parametrize("kind", ["score", "memory", "refreshed memory"])
@pytest.mark.parametrize("spoilt", [0, 1])
def test_a_step_stops_everywhere(
    two: GlooWorld, make_config: MakeConfig, kind: str, spoilt: int
) -> None:
    each = 25 if kind == "refreshed memory" else 0
    config = make_config(training__events_per_step=each)
    (message, changed), (same, changed_too) = two.run(2, stop, config, kind, spoilt, False)
    assert message == same
    assert "events 10" in message
    assert [
        name for name in changed + changed_too if not name.startswith("model/") or not each
    ] == []


@pytest.mark.parametrize("replicas", [1, 2])
def test_an_evaluation_stops_everywhere(
    two: GlooWorld, make_config: MakeConfig, replicas: int
) -> None:
    config = make_config(parallel__replicas=replicas)
    (message, changed), (same, changed_too) = two.run(2, stop, config, "score", 1, True)
    assert message == same
    assert message.startswith("scores and memory must be finite, those of events 1050 to 1")
    assert changed == changed_too == []
