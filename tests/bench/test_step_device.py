"""The GPU figures of `pres-dist bench step`, as far as they can be tested without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.autograd import DeviceType

from pres_dist.bench.step.device_work import DeviceWork, covered, kernels_of, measure_device
from pres_dist.bench.step.machine_limits import Limits
from pres_dist.bench.step.step_profile import Stage, StepReport, for_one_worker, steps_in_a_row
from pres_dist.cli.bench_step import lines
from pres_dist.parallel.world import World
from pres_dist.training.setup import assembled
from tests.support.small_run import habitual_stream, small_config


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], 0),
        ([(3, 5), (0, 1)], 3),
        ([(0, 4), (1, 2), (3, 6)], 6),  # one within another, and two that overlap
        ([(0, 2), (2, 3)], 3),
    ],
)
def test_time_that_is_covered(intervals: list[tuple[float, float]], expected: float) -> None:
    assert covered(intervals) == expected


@dataclass
class Range:
    start: float
    end: float


@dataclass
class Event:
    """As torch's profiler gives them."""

    device_type: DeviceType
    time_range: Range
    is_user_annotation: bool = False


def test_kernels_are_what_the_device_ran() -> None:
    events = [
        Event(DeviceType.CPU, Range(0, 9)),
        Event(DeviceType.CUDA, Range(1, 2)),
        Event(DeviceType.CUDA, Range(0, 5), is_user_annotation=True),
        Event(DeviceType.CUDA, Range(4, 6)),
    ]
    assert kernels_of(events) == [(1, 2), (4, 6)]


def test_steps_in_a_row_are_the_same_each_time(tmp_path: Path) -> None:
    habitual_stream(1500).save(tmp_path / "habits")
    config = for_one_worker(small_config(tmp_path / "habits")())
    with assembled(config, torch.device("cpu"), World()) as parts:
        parts.model.train()
        run = steps_in_a_row(parts, 3)
        assert run() == run() == pytest.approx(300, abs=15)  # events of one time stay together
        assert parts.store.version == 3  # memory was empty before
        assert measure_device(run, 3, torch.device("cpu")) is None


def test_what_a_gpu_did_is_told() -> None:
    stage = Stage("update", 0.001, 1e9, 1e6, 0.0005)
    report = StepReport("habits", 100, 50, 3, [stage], Limits(1e12, 1e12, 1e12))
    assert "GPU" not in "\n".join(lines(report))
    device = DeviceWork(1_000_000, 812.5, 0.625, 3 * 2**30)
    told = lines(StepReport("habits", 100, 50, 3, [stage], report.limits, device))[-1]
    assert told.startswith("GPU: 1,000,000 events/s")
    assert "812 kernels a step, busy 62% of the time, at most 3,072 MiB" in told
