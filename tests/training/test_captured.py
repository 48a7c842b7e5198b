"""A step of fixed shapes and its replays, against the exact step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pres_dist.bench.step.recorded_work import work_of
from pres_dist.config.run import RunConfig
from pres_dist.errors import NonFiniteError
from pres_dist.events.stream import EventStream
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.training import captured, trainer
from pres_dist.training.captured import CapturedSteps, refusal
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.fixed_step import FixedStep
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.recording import trace
from pres_dist.training.setup import Parts, assemble, assembled, split_data
from pres_dist.training.step import TrainingStep
from pres_dist.training.totals import EpochTotals
from pres_dist.training.trainer import Trainer
from tests.support.small_run import MakeConfig, habitual_stream, small_config

CPU = torch.device("cpu")
Outputs = tuple[Tensor, ...]
SETTINGS: dict[str, dict[str, object]] = {
    "default": {},
    "rates": {"preset": "paper", "training__gradient_clip": 0.5, "training__optimizer": "adamw"},
    "paper": {"preset": "paper", "training__weight_decay": 0.1, "model__aggregator": "mean"},
    "none": {"preset": "none", "model__decoder": "embeddings", "sampling__num_negatives": 3},
    "jodie": {"model__kind": "jodie", "sampling__strategy": "uniform"},
    "dyrep": {"model__kind": "dyrep"},
    "two layers": {"model__num_layers": 2, "model__time_encoding": "learnable"},
    "held out": {"data__held_out_share": 0.1, "model__embedding": "sum"},
    "inductive": {"sampling__negatives": "inductive, popular"},
}


@pytest.fixture(scope="module")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> MakeConfig:
    folder = tmp_path_factory.mktemp("habits") / "habits"
    habitual_stream(400).save(folder)
    return small_config(folder)


@contextmanager
def eager_recording() -> Iterator[None]:
    """Run the function instead of a recording, which takes seconds."""

    def record(function: Callable[..., Outputs], *inputs: Tensor) -> Callable[[], Outputs]:
        return lambda: function(*inputs)

    with mock.patch.object(captured, "record", record):
        yield


def tensors(parts: Parts, step: TrainingStep) -> dict[str, Tensor]:
    """Return copies of the store's tables, weights and optimizer state, by name."""
    tables = parts.store.state_dict()
    found = {f"{part}.{name}": each for part in tables for name, each in tables[part].items()}
    found |= parts.model.state_dict()
    for number, state in step.optimizer.state_dict()["state"].items():
        found |= {f"{number}.{name}": each for name, each in state.items()}
    return {name: each.detach().clone() for name, each in found.items()}


def assert_close(
    own: dict[str, Tensor], other: dict[str, Tensor], of_weights: float = 1e-4
) -> None:
    """Check that integers are equal and tables within 1e-6.

    Adam divides a tiny gradient by itself, and Muon divides small singular values by themselves:
    weights may differ by more than rounding.
    """
    assert own.keys() == other.keys()
    for name, mine in own.items():
        close = 1e-6 if name.startswith(("rows", "statistics")) else 1e-4
        if mine.is_floating_point():
            torch.testing.assert_close(mine, other[name], rtol=1e-5, atol=close, msg=name)
        else:
            assert torch.equal(mine, other[name]), name


class Pair:
    """The same run twice: by exact steps, and by steps of fixed shapes."""

    def __init__(self, exact: Parts, fixed: Parts) -> None:
        self.exact, self.fixed = TrainingStep(exact), TrainingStep(fixed)
        self.totals = EpochTotals(CPU), EpochTotals(CPU)
        for parts in (exact, fixed):
            parts.model.train()

    def inputs(self, number: int) -> Tensor:
        start, stop = self.fixed.parts.train_loader.bounds(number)
        rate = self.fixed.learning_rate(StepIndex(1, number))
        return torch.tensor([start, stop, 1, rate], dtype=torch.float64)

    def step(self, number: int, replay: Callable[[Tensor, Tensor], Outputs]) -> None:
        """Train a batch both ways, and compare losses and sizes."""
        inputs = self.exact.prepare(StepIndex(1, number))
        done = self.exact.run(inputs)
        sums, most, losses, flags = replay(self.inputs(number), torch.tensor(True))
        self.fixed.num_updates += 1
        self.totals[0].add(done)
        self.totals[1].add_sums(sums, most)
        update = done.updates[0]
        expected = torch.cat([update.loss.values(), update.norm[None]])
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
        assert flags.tolist() == [1, inputs.plan.nodes_V.numel()]

    def check(self) -> None:
        assert_close(tensors(self.exact.parts, self.exact), tensors(self.fixed.parts, self.fixed))
        exact, fixed = (each.state_dict() for each in self.totals)
        torch.testing.assert_close(fixed, exact, rtol=1e-4, atol=1e-4)


@contextmanager
def pair(config: RunConfig) -> Iterator[Pair]:
    with assembled(config, CPU, World()) as exact, assembled(config, CPU, World()) as fixed:
        yield Pair(exact, fixed)


@pytest.mark.parametrize("name", SETTINGS)
def test_fixed_shapes_change_nothing(name: str, make_config: MakeConfig) -> None:
    with pair(make_config(training__batch_size=60, **SETTINGS[name])) as both:
        assert refusal(both.fixed.parts) is None
        nodes = both.fixed.parts.store.num_nodes
        step = FixedStep(both.fixed, num_events=70, num_nodes=nodes)
        for number in range(4):
            both.step(number, step)
        both.check()


@st.composite
def streams(draw: st.DrawFn) -> EventStream:
    """Draw streams between five nodes, with self-loops and ties."""
    num = draw(st.integers(20, 40))
    ends = st.lists(st.integers(0, 4), min_size=num, max_size=num)
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 9]), min_size=num, max_size=num))
    src, dst = np.array(draw(ends)), np.array(draw(ends))
    dst[:2] = 0, 1  # negatives need two destinations
    gaps[-8:] = [1] * 8  # every split needs a time of its own
    return EventStream.from_arrays(src, dst, np.cumsum(gaps), num_nodes=6)


@settings(max_examples=12, deadline=None)
@given(streams(), st.sampled_from([1, 3, 8]), st.sampled_from([0, 2]))
def test_fixed_shapes_of_any_stream(stream: EventStream, batch: int, spare: int) -> None:
    with ExitStack() as stack:
        config = CONFIG(training__batch_size=batch)
        parts = [assemble(config, split_data(stream, config, CPU)) for _ in range(2)]
        for each in parts:
            stack.callback(each.close)
        both = Pair(*parts)
        largest = parts[0].train_loader.largest_batch
        step = FixedStep(both.fixed, largest + spare, num_nodes=6)
        for number in range(min(len(parts[0].train_loader), 4)):
            both.step(number, step)
        both.check()


CONFIG = small_config(Path("stream"))


@pytest.mark.parametrize("fault", ["nodes", "nan"])
def test_a_step_that_fails_changes_nothing(fault: str, make_config: MakeConfig) -> None:
    with assembled(make_config(preset="paper"), CPU, World()) as parts:
        exact = TrainingStep(parts)
        exact.run(exact.prepare(StepIndex(1, 0)))
        step = FixedStep(exact, 130, 20 if fault == "nodes" else parts.store.num_nodes)
        if fault == "nan":  # its tables share memory with the store
            parts.store.state_dict()["rows"]["memory_UD"].fill_(torch.nan)
        before, ok = tensors(parts, exact), torch.tensor(True)
        for number in (1, 2):  # the flag stays off
            start, stop = parts.train_loader.bounds(number)
            inputs = torch.tensor([start, stop, 1, 0.01], dtype=torch.float64)
            sums, most, _, flags = step(inputs, ok)
            assert not flags[0]
            assert not ok
            assert not sums.any()
            assert not most
        assert fault == "nan" or flags[1] > 20
        after = tensors(parts, exact)
        for name, one in before.items():
            torch.testing.assert_close(after[name], one, rtol=0, atol=0, equal_nan=True, msg=name)


def test_replays_of_a_trace(make_config: MakeConfig) -> None:
    """A trace of one batch trains others, in another epoch, without waiting for a value."""
    with pair(make_config(training__batch_size=60)) as both:
        step = FixedStep(both.fixed, 70, both.fixed.parts.store.num_nodes)
        inputs, ok = both.inputs(0), torch.tensor(False)
        traced = trace(step, inputs.clone(), ok)

        def replay(*given: Tensor) -> Outputs:
            with torch.no_grad():
                outputs: Outputs = traced(*given)
            return outputs

        for number in (0, 3, 1):
            both.step(number, replay)
        both.check()
    work = work_of(traced)
    assert work.waits == 0
    assert work.operations <= 1060


def run_epochs(config: RunConfig, devices: tuple[str, ...]) -> tuple[Trainer, list[dict[str, Any]]]:
    """Train a run; return its trainer and the records of its log."""
    log = mock.create_autospec(MetricsSink, instance=True)
    with (
        assembled(config, CPU, World()) as parts,
        eager_recording(),
        mock.patch.object(trainer, "RECORDED_DEVICES", devices),
        mock.patch.object(trainer, "_LOG_SHARE", 1),  # a record waits for the last replay
    ):
        done = Trainer(parts, NoCheckpoints(), log, Progress())
        done.fit()
    return done, [call.args[0] for call in log.write.call_args_list]


@pytest.mark.parametrize("fault", [None, "nodes", "events"])
def test_a_run_by_replays_equals_an_exact_one(
    fault: str | None, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(training__batch_size=30, training__capture="auto")
    exact, expected = run_epochs(config, ())
    with ExitStack() as stack:
        if fault == "nodes":  # the first batch of an epoch fits, without neighbors
            few = mock.patch.object(CapturedSteps, "_count_nodes", return_value=34)
            stack.enter_context(few)
            stack.enter_context(caplog.at_level(logging.INFO))
        if fault == "events":  # 29 places, for batches of up to 30
            stack.enter_context(mock.patch.object(captured, "_MARGIN", 0.96))
            many = mock.patch.object(CapturedSteps, "_count_nodes", return_value=1000)
            stack.enter_context(many)
        replayed, found = run_epochs(config, ("cpu",))
    assert_close(tensors(exact.parts, exact.step), tensors(replayed.parts, replayed.step))
    for record, own in zip(expected, found, strict=True):
        assert own["loss"] == pytest.approx(record["loss"], rel=1e-5)
        for name in ("step", "optimizer_steps", "staleness", "pending_events_max"):
            assert own.get(name) == record.get(name)
    counts = [record["captured"] for record in found if record["kind"] == "epoch"]
    steps = exact.schedule.num_steps
    assert [sum(each.values()) for each in counts] == [steps, steps]
    assert counts[1].get("replayed", 0) > 0
    if fault is None:
        assert counts == [{"replayed": steps}] * 2
    else:
        assert counts[0][fault] > 0
    if fault == "nodes":
        assert counts[0]["nodes"] == 2  # the step that did not fit and the one after it
        assert "distinct nodes, more than the 43 of the recorded step" in caplog.text


def test_a_run_by_replays_names_the_step_that_is_not_finite(make_config: MakeConfig) -> None:
    config = make_config(training__batch_size=60, training__capture="auto")
    with (
        assembled(config, CPU, World()) as parts,
        eager_recording(),
        mock.patch.object(trainer, "RECORDED_DEVICES", ("cpu",)),
    ):
        run = Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())
        train_step = Trainer._train_step

        def poisoned(self: Trainer, *inputs: Any) -> None:
            if self.state.step == 3:
                self._settle()
                parts.store.state_dict()["rows"]["memory_UD"].fill_(torch.nan)
            train_step(self, *inputs)

        with (
            mock.patch.object(Trainer, "_train_step", poisoned),
            pytest.raises(NonFiniteError, match="epoch 1, step 3, events 18"),
        ):
            run.fit()
        assert run.step.num_updates == 3


@pytest.mark.parametrize(
    ("override", "setting"),
    [
        ({"model__kind": "apan"}, "model.kind apan"),
        ({"model__kind": "tgat"}, "model.kind tgat"),
        ({"memory__staleness": 1}, "memory.staleness 1"),
        ({"training__events_per_step": 50}, "training.events_per_step 50"),
    ],
)
def test_settings_without_recorded_steps(
    override: dict[str, object], setting: str, make_config: MakeConfig
) -> None:
    with assembled(make_config(**override), CPU, World()) as parts:
        assert refusal(parts) == setting
        progress = mock.create_autospec(Progress, instance=True)
        run = Trainer(parts, NoCheckpoints(), MetricsSink(), progress)
        run._capture()
    assert run.captured is None
    progress.note.assert_called_once_with(f"training.capture: no recorded steps with {setting}")
