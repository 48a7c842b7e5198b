"""Reading ahead: in order, by a fixed number of steps, and never in the middle of a push."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from pres_dist.step.stages import StageClock
from pres_dist.training.prefetch import Prefetch


@dataclass
class Store:
    version: int = 0


@dataclass
class Read:
    number: int
    version: int


@dataclass
class Inputs:
    index: int
    pulled: Read


class Step:
    """Stands for a TrainingStep; an index is the number of its step. Reads may take a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.store, self.clock, self._seconds = Store(), StageClock(), seconds
        self.pushing = False
        self.threads: set[str] = set()

    def prefetch(self, bound: int) -> Prefetch:
        def prepare(index: Any) -> Any:
            return self.prepare(index)

        store: Any = self.store
        return Prefetch(prepare, bound, store, self.clock, torch.device("cpu"))

    def prepare(self, index: Any) -> Inputs:
        self.threads.add(threading.current_thread().name)
        for _ in range(5):
            assert not self.pushing
            time.sleep(self._seconds / 5)
        return Inputs(index, Read(index, self.store.version))

    def push(self) -> None:
        self.pushing = True
        time.sleep(self._seconds / 10)
        self.pushing = False
        self.store.version += 1


def sweep(prefetch: Prefetch, step: Step, num: int) -> list[int]:
    """Return the number of pushes that each step's read lacked."""
    lags = []
    indices: Any = range(num)
    for number, inputs in enumerate(prefetch.steps(indices)):
        read: Any = inputs.pulled
        assert inputs.index == read.number == number  # type: ignore[comparison-overlap]
        lags.append(step.store.version - read.version)
        prefetch.settle()
        step.push()
    return lags


@pytest.mark.parametrize("seconds", [0.0, 0.01])
@pytest.mark.parametrize("bound", [0, 1, 2, 5])
def test_reads_lag_by_the_bound_and_never_by_more(bound: int, seconds: float) -> None:
    step: Any = Step(seconds)
    prefetch = step.prefetch(bound)
    lags = sweep(prefetch, step, 8)
    # The first steps have fewer pushes before them than the bound allows to lack.
    assert lags == [min(number, bound) for number in range(8)]
    assert prefetch.staleness == {lag: lags.count(lag) for lag in set(lags)}


def test_a_bound_of_nothing_reads_on_the_thread_that_computes() -> None:
    step: Any = Step()
    sweep(step.prefetch(0), step, 3)
    assert step.threads == {threading.current_thread().name}


def test_a_second_sweep_reads_afresh() -> None:
    """Nothing is read ahead over a checkpoint."""
    step: Any = Step()
    prefetch = step.prefetch(2)
    assert sweep(prefetch, step, 4) == [0, 1, 2, 2]
    assert sweep(prefetch, step, 4) == [0, 1, 2, 2]


def test_what_a_read_raises_is_raised_where_its_step_is_due() -> None:
    step: Any = Step()

    def broken(index: int) -> Inputs:
        if index == 2:
            raise OSError("the store is gone")
        return Inputs(index, Read(index, step.store.version))

    step.prepare = broken
    with pytest.raises(OSError, match="gone"):
        sweep(step.prefetch(1), step, 5)
    assert step.store.version == 1  # settling before the second push finds out
