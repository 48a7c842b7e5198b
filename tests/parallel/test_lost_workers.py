"""A worker that stops, and one that gets SIGTERM, under torchrun; who is late is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from pres_dist.config.load import dump_yaml, load_config
from pres_dist.errors import WorkerLostError
from pres_dist.parallel.failure_detector import FailureDetector, naming_lost_workers
from pres_dist.training.run import train
from tests.support.fault_plan import FaultPlan
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.launched import torchrun
from tests.support.lives import end_of
from tests.support.small_run import habitual_stream, small_config

QUICK = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "2"}
"""Seconds from SIGTERM, which a process that has stopped does not hear, to SIGKILL."""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lost")
    habitual_stream(900).save(folder / "habits")
    config = small_config(folder / "habits")(
        training__checkpoint_every=3,
        parallel__slices=2,
        parallel__timeout_s=8,
        evaluation__baselines=False,
    )
    (folder / "config.yaml").write_text(dump_yaml(config))
    return folder / "config.yaml"


def test_a_stopped_worker_is_named_and_replaced(config_file: Path, tmp_path: Path) -> None:
    """And so is one that got SIGTERM, after a step at which no checkpoint was due."""
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    train(load_config(config_file, []), undisturbed)  # one worker ends in the same bits
    plan = FaultPlan().stop(rank=1, step=5).terminate(rank=0, step=7)
    with torchrun(
        ["train", str(config_file), "--run-dir", str(run)],
        "--max-restarts=2",
        launcher="pres_dist.parallel.agent",
        environment=plan.environment(tmp_path / "marks") | QUICK,
    ) as launched:
        assert launched.wait() == 0, launched.errors()
    assert "worker 1 has not answered for 8 s (parallel.timeout_s)" in launched.errors()
    assert "SIGTERM: ended after step 8" in launched.output()
    assert "resumed at epoch 2, batch 1, step 8" in launched.output()
    assert end_of(run) == end_of(undisturbed)


# ------------------------------------------------------------ who is at work

TIMEOUT_S = 2.0


@pytest.fixture(scope="module")
def gloo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    with GlooWorld(3, tmp_path_factory.mktemp("gloo")) as world:
        yield world


def detector_of(worker: Worker) -> FailureDetector:
    """On a store that worker 0 keeps; all call this."""
    leads, port = worker.rank == 0, [0]
    if leads:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        worker.kept["store"], port = store, [store.port]
    dist.broadcast_object_list(port, group_src=0, group=worker.group)
    if not leads:
        store = dist.TCPStore("127.0.0.1", port[0], wait_for_workers=False)
    return FailureDetector(store, worker.group, worker.rank, worker.world, TIMEOUT_S)


def work_long(worker: Worker) -> bool:
    """One works for longer than the others would wait for a sign of life."""
    detector = detector_of(worker)
    if worker.rank == 0:
        with detector.working():
            time.sleep(2 * TIMEOUT_S)
            detector._store.set("finished", "")
    else:
        detector.wait_for(0)
    return detector._store.check(["finished"])


def work_silently(worker: Worker) -> str:
    """One has stopped before it could give a sign of life."""
    detector = detector_of(worker)
    if worker.rank == 0:
        time.sleep(3 * TIMEOUT_S)
        return ""
    with pytest.raises(WorkerLostError) as caught:
        detector.wait_for(0)
    return str(caught.value)


def miss_one(worker: Worker) -> str:
    """All but the last find out that somebody is missing, one of them later."""
    detector = detector_of(worker)
    if worker.rank == 2:
        return ""
    time.sleep(worker.rank)
    with pytest.raises(WorkerLostError) as caught, naming_lost_workers(detector):
        raise RuntimeError("gloo: Timed out waiting 1000ms for recv operation to complete")
    return str(caught.value)


def test_who_gives_signs_of_life_is_waited_for(gloo: GlooWorld) -> None:
    assert gloo.run(3, work_long) == [True] * 3


def test_who_gives_none_is_given_up(tmp_path: Path) -> None:
    with GlooWorld(3, tmp_path) as world:  # a broadcast of theirs never ends
        _, *texts = world.run(3, work_silently)
    for text in texts:
        assert text.startswith("worker 0 has not answered for 2 s")


def test_who_does_not_report_is_the_one_that_is_missing(gloo: GlooWorld) -> None:
    texts = gloo.run(3, miss_one)
    assert [text[:24] for text in texts] == ["worker 2 has not answere"] * 2 + [""]
