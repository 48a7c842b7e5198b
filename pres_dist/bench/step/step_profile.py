"""Profile steps in the middle of an epoch: once for their time, and again for their work."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from pres_dist.bench.step.device_work import DeviceWork, measure_device
from pres_dist.bench.step.machine_limits import Limits, measure_limits
from pres_dist.bench.step.work_counter import Gemm, Work, WorkCounter
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.parallel.world import World
from pres_dist.planner.calibrate import device_clock
from pres_dist.report.environment import describe_environment
from pres_dist.step.stages import STAGES
from pres_dist.training.captured import CapturedSteps
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.schedule import Schedule
from pres_dist.training.setup import Parts, assembled, choose_device
from pres_dist.training.step import TrainingStep
from pres_dist.training.totals import EpochTotals

OTHER = "other"
_WARM_UP = 3


@dataclass(frozen=True)
class Stage:
    """Measurements of a stage: medians over the steps.

    Attributes:
        seconds: CPU seconds of the host; on a GPU, wall-clock seconds until the device is done.
        flops, bytes: see `work_counter`.
        limit_seconds: seconds of its work at the machine's limits: the longer of its operations at
            the rate of matrix products, and its bytes at the rate of a copy.
    """

    name: str
    seconds: float
    flops: float
    bytes: float
    limit_seconds: float

    @property
    def of_limit(self) -> float:
        """Share of the limit that is reached; above 1 if tensors stay in caches."""
        return self.limit_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class StepReport:
    """Profile of a training step by stage.

    Attributes:
        events, nodes: events of the temporal batch and distinct nodes of a step; medians.
        steps: number of measured steps.
        stages: stages that take time, in order.
        device: measurements of the GPU; None on a CPU.
    """

    name: str
    events: float
    nodes: float
    steps: int
    stages: list[Stage]
    limits: Limits
    device: DeviceWork | None = None

    @property
    def whole(self) -> Stage:
        """Sum of all stages."""
        sums = [
            sum(getattr(stage, each) for stage in self.stages)
            for each in ("seconds", "flops", "bytes", "limit_seconds")
        ]
        return Stage("step", *sums)

    def as_record(self) -> dict[str, Any]:
        """Return the report as a record for JSON."""
        return {**asdict(self), "environment": describe_environment(seed=0)}


def measure(config: RunConfig, num_steps: int, tell: Callable[[str], None]) -> StepReport:
    """Measure the training step of one worker, with one thread on a CPU.

    Args:
        config: configuration with model, stream and temporal batch.
        num_steps: number of steps to take medians over; fewer if an epoch has fewer.
        tell: callback for progress messages.

    Raises:
        ConfigError, DataError: one worker cannot run the configuration, or its training split has
            too few temporal batches.
    """
    config = for_one_worker(config)
    device = choose_device(config)
    now = device_clock(device)
    with assembled(config, device, World()) as parts:
        parts.clock.now = now
        parts.model.train()
        tell("work")
        worked = list(_steps(parts, num_steps, counts=True))
        events = statistics.median(step.events for step in worked)
        nodes = statistics.median(step.nodes for step in worked)
        gemms: Counter[Gemm] = Counter()
        for work in worked[len(worked) // 2].work.values():
            gemms += work.gemms
        of = (gemms, (parts.data.stream.num_nodes, config.memory.dim, int(nodes)), device, now)
        tell("limits of the machine, time, limits again")  # in case load disturbs one of them
        before = measure_limits(*of)
        parts.store.reset()
        timed = list(_steps(parts, num_steps, counts=False))
        limits = before.best(measure_limits(*of))
        stages = _stages(timed, worked, limits)
        on_device = measure_device(steps_in_a_row(parts, num_steps), len(timed), device)
        name = parts.data.stream.name
        return StepReport(name, events, nodes, len(timed), stages, limits, on_device)


@dataclass(frozen=True)
class _Step:
    """One step: its sizes, seconds by stage, and work if it was counted."""

    events: int
    nodes: int
    seconds: dict[str, float]
    work: dict[str, Work]


def _steps(parts: Parts, num_steps: int, counts: bool) -> Iterator[_Step]:
    """Yield steps from the middle of a new epoch."""
    step, clock = TrainingStep(parts), parts.clock
    schedule = step.schedule
    if schedule.num_steps <= _WARM_UP:
        raise ConfigError(
            f"the training split must have more than {_WARM_UP} temporal batches, got "
            f"{schedule.num_steps} of {parts.config.training.batch_size} events"
        )
    first, num = _place(schedule, num_steps)
    for number in range(first + num):
        counter = WorkCounter(clock)
        counting: AbstractContextManager[Any] = counter if counts else nullcontext()
        clock.reset()
        start = clock.now()
        with counting if number >= first else nullcontext():
            inputs = step.prepare(StepIndex(1, number))
            step.run(inputs)
        total = clock.now() - start
        if number >= first:
            seconds = dict(clock.seconds)
            seconds[OTHER] = total - sum(seconds.values())
            events, nodes = inputs.batch.num_events, inputs.plan.nodes_V.numel()
            yield _Step(events, nodes, seconds, counter.work)


def steps_in_a_row(parts: Parts, num_steps: int, captured: bool = False) -> Callable[[], int]:
    """Return a function that runs the measured steps from empty memory, without device syncs.

    Args:
        parts: model, store and data.
        num_steps: number of steps.
        captured: whether to replay a recorded step, see `training.capture`.
    """
    parts.clock.now = time.perf_counter
    step = TrainingStep(parts)
    replays = CapturedSteps(step) if captured else None
    first, num = _place(step.schedule, num_steps)

    def run() -> int:
        parts.store.reset()
        totals = EpochTotals(parts.device)
        for index in (StepIndex(1, number) for number in range(first, first + num)):
            if replays is None:
                step.run(step.prepare(index))
            else:
                replays.train(index, totals)
        if replays is not None:
            replays.settle(totals)
        return sum(step.schedule.sizes(number)[0] for number in range(first, first + num))

    return run


def _place(schedule: Schedule, num_steps: int) -> tuple[int, int]:
    """Return the first step and the number of steps in the middle of an epoch."""
    num = min(num_steps, schedule.num_steps - _WARM_UP)
    # Early steps read emptier memory and fewer neighbors than most of an epoch does.
    return max((schedule.num_steps - num) // 2, _WARM_UP), num


def _stages(timed: list[_Step], worked: list[_Step], limits: Limits) -> list[Stage]:
    found = []
    for name in (*STAGES, OTHER):
        seconds = statistics.median(step.seconds[name] for step in timed)
        work = [step.work.get(name, Work()) for step in worked]
        flops = statistics.median(each.flops for each in work)
        moved = statistics.median(each.bytes for each in work)
        computed = flops / limits.gemm_flops if limits.gemm_flops else 0.0
        found.append(Stage(name, seconds, flops, moved, max(computed, moved / limits.copy_bytes)))
    return [stage for stage in found if stage.bytes or stage.name == OTHER]


def for_one_worker(config: RunConfig) -> RunConfig:
    """Return the configuration for one worker: one thread, one slice, and local memory."""
    if config.training.batch_size == "auto":
        raise ConfigError("training.batch_size must be a number here, got auto")
    training = config.training.model_copy(update={"num_threads": 1})
    parallel = config.parallel.model_copy(update={"slices": 1, "epochs": 1, "replicas": 1})
    memory = config.memory.model_copy(update={"store": "local", "staleness": 0})
    return config.model_copy(update={"training": training, "parallel": parallel, "memory": memory})
