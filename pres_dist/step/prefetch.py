"""Prefetch the state of the next steps while the current one computes.

With a bound of k, the state for step s + k is read before step s is written: it lacks
exactly the last k pushes, whatever the speed of the workers. With a bound of 0, each step
is read after the previous step's push.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pres_dist.memory.state import Pulled
from pres_dist.step.compute import TemporalStep
from pres_dist.step.plan import Plan

MakePlan = Callable[[], Plan]


class Prefetch:
    """Plans and reads the steps of a sweep, up to `bound` of them ahead.

    Reads happen in step order and, if the bound is above 0, on a separate thread. `settle`
    waits for the reads in flight, so that none sees a partial push.

    Args:
        step: reads the state.
        bound: number of steps that a read may lag; 0 reads on demand.
    """

    def __init__(self, step: TemporalStep, bound: int) -> None:
        self._step, self._bound = step, bound
        self._under_way: deque[Future[tuple[Plan, Pulled]]] = deque()
        self.staleness: Counter[int] = Counter()
        """Number of steps by the number of pushes that their read lacked."""

    def steps(self, plans: Iterable[MakePlan]) -> Iterator[tuple[Plan, Pulled]]:
        """Yield each step's plan and state. Push each step before requesting the next."""
        if not self._bound:
            for make_plan in plans:
                yield self._noted(self._read(make_plan))
            return
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as reader:
            for make_plan in plans:
                self._under_way.append(reader.submit(self._read, make_plan))
                if len(self._under_way) > self._bound:
                    yield self._next()
            while self._under_way:
                yield self._next()

    def settle(self) -> None:
        """Wait for the reads in flight; call before a push."""
        with self._step.clock("wait"):
            for read in self._under_way:
                read.result()

    def _next(self) -> tuple[Plan, Pulled]:
        with self._step.clock("wait"):
            found = self._under_way[0].result()
        self._under_way.popleft()
        return self._noted(found)

    def _noted(self, found: tuple[Plan, Pulled]) -> tuple[Plan, Pulled]:
        self.staleness[self._step.store.version - found[1].version] += 1
        return found

    def _read(self, make_plan: MakePlan) -> tuple[Plan, Pulled]:
        with self._step.clock("sample"):
            plan = make_plan()
        with self._step.clock("pull"):
            return plan, self._step.read(plan)
