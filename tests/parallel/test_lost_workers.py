"""A worker that stops, and one that gets SIGTERM, under torchrun; who is late is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch.distributed as dist
from faults import torchrun
from gloo_world import GlooWorld, Worker
from small_run import habitual_stream, small_config
from test_faults import _assert_same_end, _train

from pres_dist.config.load import dump_yaml
from pres_dist.errors import WorkerLostError
from pres_dist.faults import FaultPlan
from pres_dist.parallel.lookout import Lookout, naming_the_lost

pytestmark = pytest.mark.timeout(180)

QUICK = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "2"}
"""Seconds from SIGTERM, which a process that has stopped does not hear, to SIGKILL."""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lost")
    habitual_stream(900).save(folder / "habits")
    config = small_config(folder / "habits")(
        training__checkpoint_every=3, parallel__timeout_s=4, evaluation__baselines=False
    )
    (folder / "config.yaml").write_text(dump_yaml(config))
    return folder / "config.yaml"


def test_a_stopped_worker_is_named_and_replaced(config_file: Path, tmp_path: Path) -> None:
    """And so is one that got SIGTERM, after a step at which no checkpoint was due."""
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    with torchrun(_train(config_file, undisturbed)) as launched:
        assert launched.wait() == 0, launched.errors()
    plan = FaultPlan().stop(rank=1, step=5).terminate(rank=0, step=7)
    with torchrun(
        _train(config_file, run),
        "--max-restarts=2",
        launcher="pres_dist.parallel.agent",
        environment=plan.environment(tmp_path / "marks") | QUICK,
    ) as launched:
        assert launched.wait() == 0, launched.errors()
    assert "worker 1 has not answered for 4 s (parallel.timeout_s)" in launched.errors()
    assert "SIGTERM: ended after step 8" in launched.output()
    assert "resumed at epoch 2, batch 1, step 8" in launched.output()
    _assert_same_end(run, undisturbed)


# ------------------------------------------------------------ who is at work

TIMEOUT_S = 1.0


def lookout_of(worker: Worker, number: int) -> Lookout:
    store = dist.PrefixStore(f"test-{number}", dist.distributed_c10d._get_default_store())
    return Lookout(store, worker.group, worker.rank, worker.world, TIMEOUT_S)


def work_long(worker: Worker) -> float:
    """One works for longer than the others would wait for a sign of life."""
    lookout, started = lookout_of(worker, 0), time.monotonic()
    if worker.rank == 0:
        with lookout.working():
            time.sleep(2 * TIMEOUT_S)
    else:
        lookout.wait_for(0)
    return time.monotonic() - started


def work_silently(worker: Worker) -> str:
    """One has stopped before it could give a sign of life."""
    if worker.rank == 0:
        time.sleep(3 * TIMEOUT_S)
        return ""
    with pytest.raises(WorkerLostError) as caught:
        lookout_of(worker, 1).wait_for(0)
    return str(caught.value)


def miss_one(worker: Worker) -> str:
    """All but the last find out that somebody is missing, one of them later."""
    if worker.rank == 2:
        return ""
    time.sleep(worker.rank)
    with pytest.raises(WorkerLostError) as caught, naming_the_lost(lookout_of(worker, 2)):
        raise RuntimeError("gloo: Timed out waiting 1000ms for recv operation to complete")
    return str(caught.value)


def test_who_gives_signs_of_life_is_waited_for(gloo: GlooWorld) -> None:
    assert min(gloo.run(3, work_long)) >= 2 * TIMEOUT_S


def test_who_gives_none_is_given_up(tmp_path: Path) -> None:
    with GlooWorld(3, tmp_path) as world:  # a broadcast of theirs never ends
        _, *texts = world.run(3, work_silently)
    for text in texts:
        assert text.startswith("worker 0 has not answered for 1 s")


def test_who_does_not_report_is_the_one_that_is_missing(gloo: GlooWorld) -> None:
    texts = gloo.run(3, miss_one)
    assert [text[:24] for text in texts] == ["worker 2 has not answere"] * 2 + [""]
