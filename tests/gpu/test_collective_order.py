"""Workers on GPUs enqueue collectives by NCCL's rules, however late each of them is.

Random delays before each collective let workers and threads overtake each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from pres_dist.config.run import RunConfig
from pres_dist.parallel.grid import training_grid
from pres_dist.parallel.world import World
from tests.gpu.collective_order import Enqueued, faults
from tests.gpu.sharded_steps import Trained, train_on_gpus, train_steps
from tests.support import gloo_world
from tests.support.gloo_world import GlooWorld
from tests.support.small_run import small_config

Train = Callable[..., list[Trained]]
JITTER_S = 0.01
CASES: dict[str, dict[str, Any]] = {
    "owners": {"parallel__slices": 4},
    "stale": {"parallel__slices": 2, "memory__staleness": 1, "training__events_per_step": 20},
    "replicas": {"parallel__replicas": 2, "memory__staleness": 2},
}

WAITS = {"pull": 3, "optimizer": 1}
"""Waits of a step with owner updates that was planned beside the kernels of the previous step."""


@pytest.fixture(scope="module", params=[2, 4])
def workers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GlooWorld]:
    folder = tmp_path_factory.mktemp("workers")
    with mock.patch.object(gloo_world, "CALL_S", 300), GlooWorld(request.param, folder) as world:
        yield world


@pytest.fixture
def trained(habits: Path, sim: torch.device) -> Callable[..., list[Trained]]:
    """Trains a case by all workers."""

    def train(workers: GlooWorld, case: str, planted: bool = False) -> list[Trained]:
        config = config_of(case, habits)
        return workers.run(workers.size, train_on_gpus, config, JITTER_S, planted)

    return train


def config_of(case: str, habits: Path) -> RunConfig:
    return small_config(habits)(training__batch_size=40, training__optimizer="adamw", **CASES[case])


@pytest.mark.parametrize(
    ("workers", "case"), [(2, "owners"), (2, "stale"), (4, "replicas")], indirect=["workers"]
)
def test_workers_enqueue_in_one_order(
    workers: GlooWorld, case: str, trained: Train, habits: Path
) -> None:
    found = trained(workers, case)
    assert not faults([each.collectives for each in found])
    if case == "owners":
        assert found[0].waits == WAITS, found[0].listed
    config = config_of(case, habits)
    if config.parallel.replicas == 1:
        alone = World(training_grid(config.parallel, 0, 1))
        expected = train_steps(config, alone, torch.device("cpu")).losses
        assert all(each.losses == pytest.approx(expected, abs=1e-5) for each in found)


@pytest.mark.parametrize("workers", [2], indirect=True)
def test_a_thread_that_reads_is_found(workers: GlooWorld, trained: Train) -> None:
    found = faults([each.collectives for each in trained(workers, "stale", planted=True)])
    for rank in (0, 1):
        threads = f"worker {rank} enqueues collectives in threads MainThread, prefetch_0"
        assert found[rank] == threads
    assert found[2].startswith("workers 0 and 1 enqueue ")


def test_orders_are_compared_over_common_communicators() -> None:
    everyone, pair = Enqueued("all", (0, 1, 2), "allreduce"), Enqueued("pair", (0, 1), "allreduce")
    assert not faults([[everyone, pair], [everyone, pair], [everyone]])
    (swapped,) = faults([[everyone, pair], [pair, everyone], [everyone]])
    assert swapped.startswith("workers 0 and 1 enqueue ('all', 'allreduce') and ('pair', ")
    (missing,) = faults([[pair], [pair, pair]])
    assert "None" in missing
    other = replace(everyone, what="broadcast")
    assert len(faults([[everyone], [other], [everyone]])) == 2
