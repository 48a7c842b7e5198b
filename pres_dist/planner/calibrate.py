"""Calibrate a machine: time steps at several local batches, and exchanges between processes.

On a CPU, CPU seconds are measured, because other load on the machine changes them little. On a
GPU, wall-clock seconds are measured, after a device synchronization.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.parallel.world import World
from pres_dist.planner.footprint import store_layout
from pres_dist.planner.link_rates import measure_links
from pres_dist.planner.machine import Machine, Rates, fit_rates, model_sizes
from pres_dist.planner.touched import waiting_messages
from pres_dist.report.environment import describe_environment
from pres_dist.step.stages import STAGES
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import Parts, assembled, choose_device
from pres_dist.training.step import TrainingStep

BATCHES = (25, 100, 400, 1600, 3200)
"""Local batches, in events."""
_STORE = ("pull", "push")
_MAIL = ("update", "backward")
"""Stages whose time depends on the number of pending messages."""
_EVENTS_EACH, _MOST_STEPS = 3200, 20
"""Events that a round trains at each local batch (in at least four steps), and the largest number
of steps."""


@dataclass(frozen=True)
class StepTime:
    """Timing of one step of one worker.

    Attributes:
        events, nodes: events that were computed, and their distinct nodes.
        messages: pending messages of these nodes, if a mailbox has several slots.
        total: seconds of the whole step.
        stages: seconds by stage.
    """

    events: int
    nodes: int
    messages: int
    total: float
    stages: dict[str, float]

    @property
    def store(self) -> float:
        """Return the seconds of the store."""
        return sum(self.stages[stage] for stage in _STORE)

    @property
    def rest(self) -> float:
        """Return the seconds outside of all stages."""
        return self.total - sum(self.stages.values())


Rounds = Sequence[Sequence[StepTime]]
"""Each item holds steps of one local batch size, from one position in the stream."""


def calibrate(
    config: RunConfig, rounds: int = 3, tell: Callable[[str], None] = lambda text: None
) -> Machine:
    """Measure this machine with the model and the stream of a configuration.

    Takes less than half a minute of CPU time.

    Raises:
        ConfigError, DataError: one worker cannot run the configuration.
    """
    # One worker with one thread and one optimizer step per batch.
    training = {"num_threads": 1, "events_per_step": 0, "batch_size": max(BATCHES)}
    parallel = {"slices": 1, "epochs": 1, "replicas": 1}
    config = config.model_copy(
        update={
            "training": config.training.model_copy(update=training),
            "parallel": config.parallel.model_copy(update=parallel),
            "memory": config.memory.model_copy(update={"store": "local", "staleness": 0}),
        }
    )
    device = choose_device(config)
    with assembled(config, device, World()) as parts:
        steps = measure_steps(parts, rounds, tell)
        tell("exchanges between processes")
        link, store = measure_links(store_layout(config))
        stream = parts.data.stream.name
    known = describe_environment(seed=0)
    hardware, versions = known["hardware"], known["versions"]
    memory = (hardware["memory_gib"] or 1) * 2**30
    workers, processor = hardware["usable_cores"] or 1, f"core of {hardware['cpu']}"
    own = memory / workers
    if device.type == "cuda":
        workers, processor = torch.cuda.device_count(), torch.cuda.get_device_name(device)
        own = torch.cuda.get_device_properties(device).total_memory
    machine = Machine(
        name=f"{workers} x {processor}",
        origin=f"calibrated {known['date'][:10]} on {stream}, torch {versions['torch']}, one "
        "thread a worker; the network is taken to be as fast as the loopback",
        device="cuda" if device.type == "cuda" else "cpu",
        workers_per_node=workers,
        worker_memory_bytes=own,
        node_memory_bytes=memory,
        loopback=link,
        network=link,
        compute=compute_rates(steps),
        update=stage_rates(steps, "update"),
        local_store=rates_of(steps, lambda step: step.store),
        sharded_store=store,
        jitter=_jitter(steps),
        calibrated_for=model_sizes(config.model_dump()),
    )
    return Machine.model_validate(_rounded(machine.model_dump()))


def measure_steps(parts: Parts, rounds: int, tell: Callable[[str], None]) -> Rounds:
    """Time steps of one worker.

    Local batch sizes are interleaved, so that a busy period of the machine affects all of them.
    """
    parts.clock.now = device_clock(parts.device)
    parts.model.train()
    usable = [batch for batch in BATCHES if batch * 4 <= parts.train_loader.num_events]
    if not usable:
        raise ConfigError(
            f"a machine is calibrated on at least {4 * min(BATCHES)} training events, "
            f"{parts.data.stream.name} has {parts.train_loader.num_events}"
        )
    steps = []
    for number in range(rounds):
        for batch in usable:
            tell(f"round {number + 1} of {rounds}, steps of {batch:,} events")
            steps.append(_round(parts, batch, number / rounds))
    return steps


def _round(parts: Parts, batch: int, place: float) -> list[StepTime]:
    """Time consecutive steps, starting at the fraction `place` of the training split.

    One warm-up step comes first and is not returned.
    """
    training = parts.config.training.model_copy(update={"batch_size": batch})
    parts = replace(parts, config=parts.config.model_copy(update={"training": training}))
    step, clock = TrainingStep(parts), parts.clock
    schedule = step.schedule
    num = min(max(_EVENTS_EACH // batch, 4), _MOST_STEPS, schedule.num_steps - 1)
    first = int(place * (schedule.num_steps - num - 1))
    measured = []
    for number in range(first, first + num + 1):
        clock.reset()
        start = clock.now()
        inputs = step.prepare(StepIndex(1, number))
        step.run(inputs)
        spent = clock.now() - start
        nodes, messages = inputs.plan.nodes_V.numel(), waiting_messages(inputs.pulled)
        events = schedule.sizes(number)[0]
        measured.append(StepTime(events, nodes, messages, spent, clock.seconds))
    return measured[1:]


def device_clock(device: torch.device) -> Callable[[], float]:
    """Return a clock in seconds: CPU time of this process, or wall time after a GPU is done."""
    if device.type == "cpu":
        return time.process_time

    def waited() -> float:
        torch.get_device_module(device).synchronize(device)
        return time.perf_counter()

    return waited


def rates_of(
    steps: Rounds, seconds: Callable[[StepTime], float], by_message: bool = False
) -> Rates:
    """Fit the rates of a part of a step to the medians of each round."""
    rows, medians = [], []
    for own in steps:
        row = [1.0, _median(own, lambda one: one.events), _median(own, lambda one: one.nodes)]
        rows.append([*row, _median(own, lambda one: one.messages)] if by_message else row)
        medians.append(max(_median(own, seconds), 1e-9))
    names = ("step_s", "event_s", "node_s", "message_s")
    return Rates(**dict(zip(names, fit_rates(rows, medians), strict=False)))


def stage_rates(steps: Rounds, stage: str) -> Rates:
    """Fit the rates of one stage."""
    return rates_of(steps, lambda step: step.stages[stage], stage in _MAIL)


def compute_rates(steps: Rounds) -> Rates:
    """Return the rates of everything but the store: the sum of the rates of each stage.

    Events, distinct nodes and messages grow together with the batch. Fitting each stage alone
    separates their effects better than fitting the summed time.
    """
    fits = [stage_rates(steps, stage) for stage in STAGES if stage not in _STORE]
    fits.append(rates_of(steps, lambda step: step.rest))
    names = Rates.model_fields
    return Rates(**{name: sum(getattr(fit, name) for fit in fits) for name in names})


def _median(steps: Sequence[StepTime], value: Callable[[StepTime], float]) -> float:
    return statistics.median(value(step) for step in steps)


def _jitter(steps: Rounds) -> float:
    """Return the relative spread of step times about their median, as a standard deviation.

    It is computed from the quartiles, so that a single interruption does not count, and is the
    median over rounds.
    """
    spreads = []
    for own in steps:
        if len(own) >= 8:
            low, middle, high = statistics.quantiles((one.total for one in own), n=4)
            spreads.append((high - low) / 1.349 / middle)  # normal: 1.349 deviations
    return statistics.median(spreads) if spreads else 0.0


def _rounded(value: Any) -> Any:
    """Round each number to four significant digits: more would suggest a precision it lacks."""
    if isinstance(value, dict):
        return {name: _rounded(own) for name, own in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
