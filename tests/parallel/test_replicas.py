"""Memory replicas: each sweeps its own segment, and none sees what comes after it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream
from pres_dist.memory.saved import SavedMemory, write_tensors
from pres_dist.parallel.grid import training_grid
from pres_dist.parallel.join import join_world
from pres_dist.parallel.whole_memory import begin_epoch, load_memory, own_memory
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assemble, load_data
from pres_dist.training.trainer import Trainer
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.small_run import habitual_stream

NUM_EVENTS = 300
BATCH = 20
# 210 training events are 11 batches of about 20: the second segment begins with the sixth.
BORDER = 5 * BATCH


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    with GlooWorld(2, tmp_path_factory.mktemp("two")) as world:
        yield world


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    with GlooWorld(4, tmp_path_factory.mktemp("four")) as world:
        yield world


def stream_with(signal: bool) -> EventStream:
    """From the border on, every event of the one leads elsewhere than those of the other."""
    stream = habitual_stream(num_events=NUM_EVENTS)
    dst = np.array(stream.dst)
    edges = np.array(stream.edge_features)
    if signal:
        dst[BORDER + BATCH :] = 40 + (dst[BORDER + BATCH :] - 40 + 7) % 15
        edges[BORDER + BATCH :] += 5
    return EventStream.from_arrays(
        np.array(stream.src), dst, np.array(stream.t), name="planted", edge_features=edges
    )


def make_config(stream: Path, *overrides: str) -> RunConfig:
    small = {
        "data.stream": stream,
        "data.standardize": "false",
        "memory.dim": 8,
        "model.embedding_dim": 8,
        "model.time_dim": 6,
        "sampling.num_neighbors": 4,
        "training.batch_size": BATCH,
        "training.learning_rate": 1e-30,  # weights stay: they are the one way that is meant
        "parallel.replicas": 2,
    }
    arguments = [text for name, value in small.items() for text in (f"--{name}", str(value))]
    return load_config(None, [*arguments, *overrides])


def sweep_epochs(worker: Worker, config: RunConfig, num_epochs: int) -> list[dict[str, Any]]:
    """Return the memory at the start, the scores and the memory at the end of each epoch."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    with join_world(device, partial(training_grid, config.parallel)) as world:
        parts = assemble(config, load_data(config, device), world)
        trainer = Trainer(parts, None, MetricsSink(), Progress())  # type: ignore[arg-type]
        parts.model.train()
        seen = []
        for epoch in range(1, num_epochs + 1):
            begin_epoch(parts.store, world, config.parallel.handover)
            at_start, scores, firsts = memory_of(parts.store), [], []
            indices = [StepIndex(epoch, number) for number in range(trainer.schedule.num_steps)]
            for inputs in trainer.step.prefetch.steps(indices):
                firsts.append(inputs.batch.first_event)
                done = trainer.step.run(inputs)
                scores += [forward.positive_B.detach().numpy() for forward in done.forwards]
            seen.append(
                {
                    "start": at_start,
                    "scores": np.concatenate(scores),
                    "end": memory_of(parts.store),
                    "first": firsts[0],
                }
            )
        return seen


def memory_of(store: Any) -> dict[str, np.ndarray]:
    rows = store.state_dict()["rows"]
    return {name: table.numpy().copy() for name, table in rows.items()}


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("planted")
    paths = {signal: folder / str(signal) for signal in (False, True)}
    for signal, path in paths.items():
        stream_with(signal).save(path)
    return paths


def test_the_first_segment_never_sees_a_signal_of_the_second(
    two: GlooWorld, streams: dict[bool, Path]
) -> None:
    early, late = zip(
        *(two.run(2, sweep_epochs, make_config(streams[signal]), 3) for signal in (False, True)),
        strict=True,
    )
    for without, planted in zip(*early, strict=True):
        np.testing.assert_array_equal(without["scores"], planted["scores"])
        for part in ("start", "end"):
            for name, table in without[part].items():
                np.testing.assert_array_equal(table, planted[part][name])
    # The signal is there to be found: the segment that holds it is scored otherwise.
    assert not np.array_equal(late[0][0]["scores"], late[1][0]["scores"])


def test_no_memory_holds_events_beyond_its_segment(
    four: GlooWorld, streams: dict[bool, Path]
) -> None:
    """With two workers a replica, and a last step that only one of the replicas has."""
    config = make_config(streams[True], "--parallel.slices", "2")
    workers = four.run(4, sweep_epochs, config, 2)
    border = workers[2][0]["first"]
    assert border == workers[3][0]["first"] > 0
    for worker in workers[:2]:
        for epoch in worker:
            assert epoch["start"]["mail_event_UR"].max() < 0  # the first starts from nothing
            assert epoch["end"]["mail_event_UR"].max() < border
    for worker in workers[2:]:
        assert worker[0]["start"]["mail_event_UR"].max() < 0
        assert 0 <= worker[1]["start"]["mail_event_UR"].max() < border


def test_a_warm_segment_starts_where_the_one_before_it_ended(
    four: GlooWorld, streams: dict[bool, Path]
) -> None:
    config = make_config(streams[False], "--parallel.slices", "2")
    workers = four.run(4, sweep_epochs, config, 2)
    for first, second in ((0, 2), (1, 3)):
        for name, table in workers[first][0]["end"].items():
            np.testing.assert_array_equal(workers[second][1]["start"][name], table)


def save_and_load(worker: Worker, config: RunConfig, folder: Path) -> list[str]:
    with join_world(torch.device("cpu"), partial(training_grid, config.parallel)) as world:
        parts = assemble(config, load_data(config, torch.device("cpu")), world)
        own = own_memory(parts.store, world)
        write_tensors(folder, own, dist.group.WORLD)
        load_memory(parts.store, SavedMemory.open(folder), world)
        return sorted(own)


def test_replicas_of_a_model_without_memory_have_nothing_to_hand_over(
    four: GlooWorld, streams: dict[bool, Path], tmp_path: Path
) -> None:
    config = make_config(streams[False], "--model.kind", "tgat", "--parallel.slices", "2")
    for worker in four.run(4, sweep_epochs, config, 2):
        for epoch in worker:
            assert epoch["start"] == epoch["end"] == {}
            assert np.isfinite(epoch["scores"]).all()
    assert four.run(4, save_and_load, config, tmp_path) == [[]] * 4


def test_a_cold_segment_starts_from_nothing(two: GlooWorld, streams: dict[bool, Path]) -> None:
    config = make_config(streams[False], "--parallel.handover", "cold")
    for worker in two.run(2, sweep_epochs, config, 2):
        for epoch in worker:
            assert not epoch["start"]["memory_UD"].any()
