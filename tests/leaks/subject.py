"""Subjects of probes, and the register of probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream
from pres_dist.parallel.grid import training_grid
from pres_dist.parallel.join import join_world
from tests.leaks.recording import Record, record_run
from tests.leaks.variants import config_of, small_stream
from tests.support.gloo_world import GlooWorld, Worker

Plant = Callable[[], AbstractContextManager[object]]

NUM_WORKERS = 2


class Subject:
    """Runs of a configuration to probe, perhaps with a leak planted.

    Args:
        overrides: of the small configuration.
        plant: makes the leak; a context in which runs leak.
        workers: processes to run in; None runs in this one.
    """

    def __init__(
        self,
        overrides: dict[str, object],
        plant: Plant = nullcontext,
        workers: GlooWorld | None = None,
    ) -> None:
        self.overrides, self._plant, self._workers = overrides, plant, workers
        self.config = config_of(overrides)
        self.stream = small_stream()
        self._kept: dict[str, list[Record]] = {}

    def run(
        self,
        stream: EventStream | None = None,
        company: bool = False,
        **changes: object,
    ) -> list[Record]:
        """Return the record of each worker's run; over the true stream when none is given."""
        key = f"{company} {sorted(changes.items())}"
        if stream is None and key in self._kept:
            return self._kept[key]
        config = config_of(self.overrides | changes)
        run = partial(_run, config, stream or self.stream, company, self._plant)
        records = [run()] if self._workers is None else self._workers.run(NUM_WORKERS, _one, run)
        if stream is None:
            self._kept[key] = records
        return records


def _one(worker: Worker, run: Callable[[], Record]) -> Record:
    """The run of one of several workers, which find each other in the default group."""
    return run()


def _run(config: RunConfig, stream: EventStream, company: bool, plant: Plant) -> Record:
    grid_of = partial(training_grid, config.parallel)
    with plant(), join_world(torch.device("cpu"), grid_of) as world:
        return record_run(config, stream, world, company)


Look = Callable[[Subject], Iterator[str]]


@dataclass(frozen=True)
class Probe:
    """A way to look for leaks.

    Attributes:
        name: short.
        demands: what holds where nothing leaks.
        look: goes through what it finds in a subject; nothing where all is well.
        applies: whether the demand makes sense for a configuration.
    """

    name: str
    demands: str
    look: Look
    applies: Callable[[RunConfig], bool]


PROBES: dict[str, Probe] = {}


def probe(
    name: str, applies: Callable[[RunConfig], bool] = lambda config: True
) -> Callable[[Look], Look]:
    """Enter a function among the probes; its docstring is what it demands."""

    def enter(look: Look) -> Look:
        PROBES[name] = Probe(name, " ".join((look.__doc__ or "").split()), look, applies)
        return look

    return enter
