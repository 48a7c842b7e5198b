"""A GPU computes what the CPU computes; where there is none, a simulated one stands for it.

Needs torch, numpy and pytest alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pres_dist.cli.main import main
from pres_dist.config.run import RunConfig
from pres_dist.parallel.world import World
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.run import resume, train
from pres_dist.training.setup import Parts, assembled, choose_device
from pres_dist.training.step import StepResult, TrainingStep
from tests.support.small_run import habitual_stream, small_config, train_until
from tests.support.states import epochs_of, tensors_of

MODELS = {
    "default": {},
    "paper": {"preset": "paper"},
    "jodie": {"model__kind": "jodie"},
    "apan": {"model__kind": "apan", "preset": "paper"},
    "dyrep": {"model__kind": "dyrep", "preset": "paper"},
    "historical": {"sampling__negatives": "historical"},
    "adjacency on disk": {"sampling__adjacency": "disk"},
}
_STEPS = 4


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    habitual_stream(1500).save(tmp_path / "habits")
    return tmp_path / "habits"


@contextmanager
def steps(
    config: RunConfig, device: torch.device, num: int = _STEPS
) -> Iterator[tuple[Parts, list[StepResult]]]:
    """The first steps of an epoch."""
    with assembled(config, device, World()) as parts:
        parts.model.train()
        step = TrainingStep(parts)
        done = [step.run(step.prepare(StepIndex(1, number))) for number in range(num)]
        yield parts, done


@pytest.mark.parametrize("name", MODELS)
def test_steps_are_those_of_the_cpu(name: str, stream: Path, device: torch.device) -> None:
    config = small_config(stream)(**MODELS[name])
    # Sums on a GPU are in no fixed order; those of the simulation are nearly the CPU's.
    loose = 1e-4 if device.type == "sim" else 1e-2
    with steps(config, torch.device("cpu")) as (parts, expected):
        memory = dict(tensors_of(parts.store.state_dict()))
    with steps(config, device) as (parts, done):
        found = {name: table.cpu() for name, table in tensors_of(parts.store.state_dict())}
        assert all(value.device.type == device.type for value in parts.model.parameters())
    for one, other in zip(done, expected, strict=True):
        for update, reference in zip(one.updates, other.updates, strict=True):
            found_loss, expected_loss = update.loss.values().cpu(), reference.loss.values()
            torch.testing.assert_close(
                found_loss, expected_loss, rtol=0.1 * loose, atol=0.01 * loose
            )
    assert memory.keys() == found.keys()
    assert {"rows/memory_UD", "rows/mail_event_UR", "statistics/count"} <= memory.keys()
    assert memory["rows/memory_UD"].count_nonzero()
    for column, expected_rows in memory.items():
        if expected_rows.is_floating_point():
            torch.testing.assert_close(found[column], expected_rows, rtol=loose, atol=0.1 * loose)
        else:  # times, events and counts: whatever the weights, they are the same
            assert torch.equal(found[column], expected_rows), column


DETERMINISTIC = {
    **{name: MODELS[name] for name in ("default", "paper", "apan", "dyrep")},
    "tgat": {"model__kind": "tgat"},
}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_equal_runs_give_equal_bits(name: str, habits: Path, device: torch.device) -> None:
    """On a GPU, with sums in a fixed order; the simulated one refuses all others."""
    config = small_config(habits)(
        training__deterministic=True, training__device=device, **DETERMINISTIC[name]
    )
    found = []
    try:
        for _ in range(1 if device.type == "sim" else 2):
            choose_device(config)
            with steps(config, device, 2) as (parts, done):
                found.append(
                    [dict(tensors_of(parts.store.state_dict())), done[-1].updates[-1].loss.values()]
                )
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(found[0], found[-1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_samples_are_those_of_the_cpu(stream: Path, device: torch.device) -> None:
    config = small_config(stream)(sampling__strategy="uniform")
    plans = []
    for where in (torch.device("cpu"), device):
        with assembled(config, where, World()) as parts:
            step = TrainingStep(parts)
            plans.append([step.prepare(StepIndex(1, number)).plan for number in (3, 7)])
    for one, other in zip(*plans, strict=True):
        assert torch.equal(one.nodes_V, other.nodes_V.cpu())
        for part, reference in zip(other.parts, one.parts, strict=True):
            for hop, expected in zip(part.gathered.hops, reference.gathered.hops, strict=True):
                assert torch.equal(hop.index_QK.cpu(), expected.index_QK)


@pytest.mark.gpu
def test_bf16_learns(stream: Path, gpu: torch.device, tmp_path: Path) -> None:
    losses = {}
    for precision in ("float32", "bf16"):
        config = small_config(stream)(training__device=gpu, training__precision=precision)
        train(config, tmp_path / precision)
        losses[precision] = [epoch["loss"] for epoch in epochs_of(tmp_path / precision)]
    assert losses["bf16"][1] < losses["bf16"][0]
    # On a CPU they are 2e-4 apart, and the epochs 1e-2.
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=3e-3)


def test_a_run_goes_on_from_its_checkpoint(
    habits: Path, device: torch.device, tmp_path: Path
) -> None:
    config = small_config(habits)(
        training__device=device, training__checkpoint_every=2, training__epochs=1
    )
    whole = train(config, tmp_path / "whole")
    train_until(config, tmp_path / "half", 3)
    resumed = resume(tmp_path / "half")
    # Sums on a GPU are in no fixed order.
    runs = [epochs_of(tmp_path / name) for name in ("half", "whole")]
    losses, expected = ([epoch["loss"] for epoch in epochs] for epochs in runs)
    assert losses == pytest.approx(expected, rel=1e-3)
    assert resumed["test"]["ap"] == pytest.approx(whole["test"]["ap"], abs=0.01)


def test_step_report(habits: Path, device: torch.device, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{stream: {habits}}}\ntraining: {{batch_size: 50}}\n")
    out = tmp_path / "step.json"
    arguments = ["bench", "step", str(config), "--steps", "1", "--json", str(out)]
    assert main([*arguments, f"--training.device={device}"]) == 0
    told = json.loads(out.read_text())["device"]
    if device.type == "cuda":
        assert told["kernels"] > 100
        assert 0 < told["busy"] <= 1
        assert told["events_per_s"] > 0
        assert told["peak_bytes"] > 0
    else:
        assert told is None
