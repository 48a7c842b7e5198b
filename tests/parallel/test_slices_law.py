"""The law: W workers on time slices compute what one worker computes on whole batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig
from pres_dist.memory.placement import Placement
from pres_dist.memory.saved import Shard
from pres_dist.memory.shard_server import ShardServer
from pres_dist.memory.state import MemoryStore, Tables
from pres_dist.parallel.grid import training_grid
from pres_dist.parallel.whole_memory import begin_epoch
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.training import setup
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assemble, load_data
from pres_dist.training.stores import layout_of
from pres_dist.training.trainer import Trainer
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.nightly import NIGHTLY, nightly_except
from tests.support.shard_hosts import MakeServer, SlowServer, with_shards
from tests.support.small_run import habitual_stream, labelled_stream
from tests.support.store_of_all import put_together

STEPS = 12

VARIANTS = {
    "pres": [],
    "no pres": ["--pres.prediction", "false", "--pres.coherence_weight", "0"],
    "two hops": ["--model.num_layers", "2", "--sampling.num_neighbors", "2"],
    "mean of 3": ["--model.aggregator", "mean", "--memory.mailbox_slots", "3"],
    "3 in order": ["--model.aggregator", "sequential", "--memory.mailbox_slots", "3"],
    "uniform": ["--sampling.strategy", "uniform"],
    "tiny batches": ["--training.batch_size", "2"],
    "four updates": [
        *("--training.events_per_step", "8"),
        *("--pres.corrects", "lost", "--pres.clock", "event"),
        *("--model.aggregator", "sequential", "--memory.mailbox_slots", "2"),
    ],
    "apan": [
        *("--model.updater", "attention", "--model.embedding", "identity"),
        *("--model.mail_hops", "1", "--memory.mailbox_slots", "3", "--pres.clock", "event"),
    ],
    "level": ["--pres.predictor", "level"],
    "jodie": ["--model.kind", "jodie"],
    "dyrep": [
        *("--model.kind", "dyrep", "--training.events_per_step", "16"),
        *("--model.aggregator", "mean", "--memory.mailbox_slots", "3"),
    ],
    "tgat": ["--model.kind", "tgat"],
    "history": [
        *("--model.decoder", "history", "--training.events_per_step", "8"),
        *("--sampling.negatives", "random 2, historical, inductive, popular"),
        *("--sampling.num_negatives", "2"),
    ],
    "reader": ["--memory.update", "reader"],
    "two components": ["--preset", "paper"],
    "history, tiny batches": ["--model.decoder", "history", "--training.batch_size", "2"],
}
DAILY = [
    *("pres", "two hops", "uniform", "four updates"),
    *("apan", "jodie", "dyrep", "tgat", "history", "reader", "two components"),
]
"""One variant of each kind of model, sampling and update; the others run nightly."""
ADAMW = ["--training.optimizer", "adamw"]
"""For tests with a tolerance: Muon scales small singular values, and their rounding, up."""
ON_SERVERS = [variant for variant in VARIANTS if variant not in ("jodie", "tgat")]


@pytest.fixture(scope="module")
def gloo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    with GlooWorld(4, tmp_path_factory.mktemp("law")) as world:
        yield world


@pytest.fixture(scope="module")
def stream_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "habits"
    habitual_stream(num_events=600).save(path)
    return path


@pytest.mark.parametrize("variant", nightly_except(DAILY, VARIANTS))
def test_slices_equal_whole_batches(gloo: GlooWorld, stream_path: Path, variant: str) -> None:
    config = _config(stream_path, [*VARIANTS[variant], *ADAMW])
    expected = _train(config, _alone(config))
    for size in (2, 3, 4) if NIGHTLY else (3,):
        actual = gloo.run(size, _train_as, config)[0]
        _assert_close(expected, actual, f"{variant}, {size} workers")


@pytest.mark.parametrize("variant", nightly_except(DAILY, VARIANTS))
def test_the_same_slices_give_the_same_bits(
    gloo: GlooWorld, stream_path: Path, variant: str
) -> None:
    """However they are spread over workers."""
    config = _config(stream_path, [*VARIANTS[variant], "--parallel.slices", "4"])
    expected = _train(config, _alone(config))
    for size in (2, 4) if NIGHTLY else (2,):
        _assert_equal(expected, gloo.run(size, _train_as, config)[0], f"{variant}, {size} workers")


@pytest.mark.parametrize(
    "variant", nightly_except(["pres", "four updates", "apan", "history"], ON_SERVERS)
)
def test_slices_equal_whole_batches_on_memory_servers(
    gloo: GlooWorld, stream_path: Path, variant: str
) -> None:
    """Whatever the number of shards; and to the last bit what a store in the workers gives."""
    config = _config(stream_path, [*VARIANTS[variant], *ADAMW])
    expected = _train(config, _alone(config))
    for size, num_shards in ((2, 3), (3, 2), (4, 1)) if NIGHTLY else ((3, 2),):
        actual = _train_on_servers(gloo, size, num_shards, config)
        _assert_close(expected, actual, f"{variant}, {size} workers, {num_shards} shards")
        _assert_equal(gloo.run(size, _train_as, config)[0], actual, f"{variant}, {size} workers")


def test_servers_that_answer_late_are_waited_for(gloo: GlooWorld, stream_path: Path) -> None:
    """A read lags by what the bound says, and not by more."""
    for bound in ("0", "2"):
        config = _config(stream_path, ["--memory.staleness", bound, "--parallel.slices", "2"])
        expected = _train(config, _alone(config))
        actual = _train_on_servers(gloo, 2, 2, config, SlowServer)
        _assert_equal(expected, actual, f"bound {bound}")


@pytest.mark.parametrize("bound", [1, 3])
def test_reads_that_lag_lag_alike_on_all_workers(
    gloo: GlooWorld, stream_path: Path, bound: int
) -> None:
    lag = ["--memory.staleness", str(bound), "--memory.mailbox_slots", "2"]
    lag += ["--model.aggregator", "sequential", "--parallel.slices", "2"]
    config = _config(stream_path, lag)
    expected = _train(config, _alone(config))
    _assert_equal(expected, gloo.run(2, _train_as, config)[0], f"bound {bound}")
    in_time = _config(stream_path, [*lag, "--memory.staleness", "0"])
    prompt = _train(in_time, _alone(in_time))
    for step, (late, early) in enumerate(zip(expected, prompt, strict=True)):
        differs = not np.array_equal(late["rows.memory_UD"], early["rows.memory_UD"])
        assert differs == (step > 0), step  # the first read has nothing to miss


def test_owners_compute_what_readers_compute(gloo: GlooWorld, stream_path: Path) -> None:
    """Up to rounding: owners add the gradients of a row before they take them further."""
    coheres = [*ADAMW, "--pres.coherence_weight", "0.1", "--parallel.slices", "4"]
    states = []
    for update in ("reader", "owner"):
        config = _config(stream_path, [*coheres, "--memory.update", update])
        states.append(gloo.run(2, _train_as, config)[0])
    _assert_close(*states, "owner")
    assert any((states[0][-1][name] != value).any() for name, value in states[1][-1].items())


@pytest.mark.parametrize("update", ["owner", "reader"])
def test_groups_with_negatives_of_their_own_are_more_negatives(
    gloo: GlooWorld, stream_path: Path, update: str
) -> None:
    config = _config(stream_path, ["--sampling.num_negatives", "2"])
    expected = _train(config, _alone(config))
    shared = _config(stream_path, ["--parallel.epochs", "2", "--memory.update", update])
    for size in (2, 4):
        actual = gloo.run(size, _train_as, shared)[0]
        _assert_close(expected, actual, f"{size} workers in 2 groups")


@pytest.mark.parametrize("kind", ["node_classification", "edge_classification"])
@pytest.mark.parametrize("links", ["1", "0"], ids=["with links", "labels alone"])
def test_classification_on_slices(gloo: GlooWorld, tmp_path: Path, kind: str, links: str) -> None:
    labelled_stream(num_events=600).save(tmp_path / "labelled")
    task = ["--task.kind", kind, "--task.missing_label", "-1", "--task.link_weight", links]
    task += ["--task.class_weights", "balanced"]
    config = _config(tmp_path / "labelled", task)
    expected = _train(config, _alone(config))
    _assert_close(expected, gloo.run(3, _train_as, config)[0], "3 workers")
    config = _config(tmp_path / "labelled", [*task, "--parallel.slices", "4"])
    expected = _train(config, _alone(config))
    _assert_equal(expected, gloo.run(2, _train_as, config)[0], "4 slices, 2 workers")
    alone, (one, other) = _epoch(config, _alone(config)), gloo.run(2, _epoch_as, config)
    assert alone["validation"] == one["validation"] == other["validation"]
    assert alone["validation"]["num_events"] > 0
    assert one["means"]["label_loss"] == pytest.approx(alone["means"]["label_loss"], rel=1e-12)


def test_epoch_figures_and_validation_agree(gloo: GlooWorld, stream_path: Path) -> None:
    config = _config(stream_path, [])
    expected = _epoch(config, _alone(config))
    for actual in gloo.run(3, _epoch_as, config):
        for name in ("loss", "link_loss", "coherence", "gradient_norm"):
            assert actual["means"][name] == pytest.approx(expected["means"][name], abs=1e-5)
        for name in ("pending_events_mean", "pending_events_max", "pending_share"):
            assert actual["means"][name] == expected["means"][name]
        assert actual["validation"]["num_events"] == expected["validation"]["num_events"]
        for name in ("ap", "auc", "ap_per_batch", "auc_per_batch"):
            # Rounding may let two nearly equal scores change places.
            assert actual["validation"][name] == pytest.approx(
                expected["validation"][name], abs=1e-3
            )


def _config(stream_path: Path, overrides: list[str]) -> RunConfig:
    small = {
        "data.stream": stream_path,
        "memory.dim": 8,
        "model.embedding_dim": 8,
        "model.time_dim": 6,
        "sampling.num_neighbors": 4,
        "training.batch_size": 32,
        "training.learning_rate": 0.001,
        "evaluation.batch_size": 25,
    }
    arguments = [text for name, value in small.items() for text in (f"--{name}", str(value))]
    return load_config(None, [*arguments, *overrides])


def _trainer(config: RunConfig, world: World) -> Trainer:
    torch.set_num_threads(1)
    parts = assemble(config, load_data(config, torch.device("cpu")), world)
    return Trainer(parts, None, MetricsSink(), Progress())  # type: ignore[arg-type]


def _alone(config: RunConfig) -> World:
    return World(training_grid(config.parallel, 0, 1))


def _train(config: RunConfig, world: World, steps: int = STEPS) -> list[dict[str, Any]]:
    """Loss, gradients and all node state after each of a few steps."""
    trainer = _trainer(config, world)
    trainer.parts.model.train()
    begin_epoch(trainer.parts.store, world, config.parallel.handover)
    indices = [StepIndex(1, number) for number in range(steps)]
    states = []
    for inputs in trainer.step.prefetch.steps(indices):
        done = trainer.step.run(inputs)
        grads = {
            name: parameter.grad.numpy().copy()
            for name, parameter in trainer.parts.model.named_parameters()
            if parameter.grad is not None
        }
        memory = _whole_memory(trainer.parts.store, world)
        tables = {
            f"{part}.{name}": table.numpy().copy()
            for part, named in memory.items()
            for name, table in named.items()
        }
        states.append(
            {
                "loss": torch.stack([update.loss.values() for update in done.updates]).numpy(),
                **grads,
                **tables,
            }
        )
    return states


def _whole_memory(store: MemoryStore, world: World) -> Tables:
    """The memory of the last replica, at the leader."""
    shards = world.gather_to_rank0(Shard(store.kept_nodes(), store.state_dict()))
    return put_together(shards[-world.grid.memory_workers :])


def _train_as(worker: Worker, config: RunConfig) -> list[dict[str, Any]]:
    return _train(config, world_of(worker, config))


def _train_on_servers(
    gloo: GlooWorld,
    size: int,
    num_shards: int,
    config: RunConfig,
    make_server: MakeServer = ShardServer,
) -> list[dict[str, Any]]:
    data = load_data(config, torch.device("cpu"))
    placement = Placement(data.stream.num_nodes, num_shards)
    layout = layout_of(config, data.time_unit, torch.device("cpu"))
    results: list[list[dict[str, Any]]] = with_shards(
        gloo, size, placement, layout, _train_on, config, make_server=make_server
    )
    return results[0]


def _train_on(worker: Worker, store: MemoryStore, config: RunConfig) -> list[dict[str, Any]]:
    with mock.patch.object(setup, "open_store", return_value=(store, lambda: None)):
        return _train_as(worker, config)


def world_of(worker: Worker, config: RunConfig) -> World:
    """The workers of a world that share one memory."""
    grid = training_grid(config.parallel, worker.rank, worker.world)
    return World(grid, worker.group, worker.second_group)


def _epoch(config: RunConfig, world: World) -> dict[str, Any]:
    trainer = _trainer(config, world)
    trainer._save = lambda: None  # type: ignore[method-assign]
    trainer._train_epoch()
    trainer.totals.all_reduce(world)
    return {"means": trainer.totals.means(), "validation": trainer._validate()}


def _epoch_as(worker: Worker, config: RunConfig) -> dict[str, Any]:
    return _epoch(config, world_of(worker, config))


def _assert_equal(expected: list[dict[str, Any]], actual: list[dict[str, Any]], where: str) -> None:
    """To the last bit."""
    for step, (one, many) in enumerate(zip(expected, actual, strict=True)):
        assert one.keys() == many.keys()
        for name, value in many.items():
            np.testing.assert_array_equal(value, one[name], err_msg=f"{where}, step {step}: {name}")


def _assert_close(expected: list[dict[str, Any]], actual: list[dict[str, Any]], where: str) -> None:
    for step, (one, many) in enumerate(zip(expected, actual, strict=True)):
        for name, value in many.items():
            message = f"{where}, step {step}: {name}"
            if name not in one:  # a parameter that no slice touched has a gradient of zero
                assert not value.any(), message
            elif value.dtype.kind == "f":
                np.testing.assert_allclose(value, one[name], atol=2e-5, rtol=1e-4, err_msg=message)
            else:
                np.testing.assert_array_equal(value, one[name], err_msg=message)
        assert one.keys() <= many.keys(), f"{where}, step {step}"
