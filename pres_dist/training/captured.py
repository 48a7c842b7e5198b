"""Training by replays of a recorded step, with the exact step where a batch does not fit.

On a GPU the host launches a step with hundreds of kernels more slowly than the device computes it.
A recorded step (`fixed_step.py`, `recording.py`) is one launch.

A batch that does not fit, or whose results are not finite, changes nothing and turns a flag off,
and with it all later replays. The host reads the flag while the next replay runs, trains both
batches with the exact step, and makes more room if it was missing.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.memory.local import LocalStore
from pres_dist.training.fixed_step import FixedStep
from pres_dist.training.loss import Loss
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.recording import Replay, record
from pres_dist.training.setup import Parts
from pres_dist.training.step import TrainingStep, Update
from pres_dist.training.totals import EpochTotals

_log = logging.getLogger(__name__)

_MARGIN = 1.25
"""Room for events and nodes, relative to the requested and the counted number."""
_COUNTED_BATCHES = 8
"""Batches of an epoch whose distinct nodes are counted before the first recording."""


def refusal(parts: Parts) -> str | None:
    """Return the setting that a recorded step does not support; None if it supports all."""
    config, store = parts.config, parts.store
    unsupported = {
        f"{parts.world.size} workers": parts.world.size > 1,
        f"model.kind {config.model.kind}": not isinstance(store, LocalStore) or store.rolling,
        f"model.embedding {config.model.embedding}": config.model.embedding.startswith("dgl."),
        f"task.kind {config.task.kind}": config.task.kind != "link_prediction",
        f"memory.store {config.memory.store}": config.memory.store == "server",
        f"memory.staleness {config.memory.staleness}": config.memory.staleness > 0,
        f"training.events_per_step {config.training.events_per_step}": (
            config.training.events_per_step > 0
        ),
        "training.compile true": config.training.compile,
    }
    return next((setting for setting, applies in unsupported.items() if applies), None)


@dataclass(eq=False)
class _Launch:
    """A replay, and pinned memory that serves it; reused after the next replay.

    Attributes:
        given: inputs of the step, copied to the device.
        flags: flags of the step, copied from the device.
        copied: event after the copy of the flags; None on a CPU.
        index: the trained step.
    """

    given: Tensor
    flags: Tensor
    copied: torch.cuda.Event | None
    index: StepIndex | None = None


class CapturedSteps:
    """Trains steps by replays; up to one of them is unconfirmed until `settle`.

    Args:
        exact: the exact step, for batches that do not fit.

    Attributes:
        trained: number of steps in this epoch, by `replayed` and reasons for the exact step.
    """

    def __init__(self, exact: TrainingStep) -> None:
        assert isinstance(exact.parts.store, LocalStore)
        self._exact, self._parts, self._store = exact, exact.parts, exact.parts.store
        device, pinned = self._parts.device, self._parts.device.type == "cuda"
        requested = self._parts.config.training.events_per_batch
        largest = self._parts.train_loader.largest_batch
        self._num_events = min(largest, math.ceil(_MARGIN * requested))
        self._num_nodes = self._with_margin(self._count_nodes())
        self._given = torch.zeros(4, dtype=torch.float64, device=device)
        self._ok = torch.ones((), dtype=torch.bool, device=device)
        self._replay: Replay | None = None
        self._free = deque(
            _Launch(
                torch.zeros(4, dtype=torch.float64, pin_memory=pinned),
                torch.zeros(2, dtype=torch.int64, pin_memory=pinned),
                torch.cuda.Event() if pinned else None,
            )
            for _ in range(2)
        )
        self._unconfirmed: deque[_Launch] = deque()
        self._last: Update | None = None
        self.trained: Counter[str] = Counter()

    def train(self, index: StepIndex, totals: EpochTotals) -> None:
        """Train a temporal batch, and add its sums to `totals`."""
        start, stop = self._parts.train_loader.bounds(index.number)
        if stop - start > self._num_events:
            self.settle(totals)
            self._train_exactly(index, totals, "events")
            return
        with self._parts.clock("update"):
            self._launch(index, start, stop, totals)
        if len(self._unconfirmed) > 1:
            self._confirm(totals)

    def settle(self, totals: EpochTotals) -> None:
        """Confirm the last replay; call before its results are read."""
        while self._unconfirmed:
            self._confirm(totals)

    def fixed_step(self) -> FixedStep:
        """Return the step to record."""
        return FixedStep(self._exact, self._num_events, self._num_nodes)

    @property
    def last(self) -> Update:
        """Losses of the last step; call `settle` first."""
        assert self._last is not None
        return self._last

    def _launch(self, index: StepIndex, start: int, stop: int, totals: EpochTotals) -> None:
        if self._replay is None:
            self._ok.fill_(False)  # recording runs the step, which must not change anything
            self._given[:2] = torch.tensor([start, stop])
            self._replay = record(self.fixed_step(), self._given, self._ok)
            for parameter in self._parts.model.parameters():
                parameter.grad = None
            self._ok.fill_(True)
        launch, rate = self._free.popleft(), self._exact.learning_rate(index)
        launch.index = index
        launch.given.copy_(torch.tensor([start, stop, index.epoch, rate], dtype=torch.float64))
        self._given.copy_(launch.given, non_blocking=True)
        sums, most, losses, flags = self._replay()
        totals.add_sums(sums, most)
        self._last = Update(Loss(*losses[:4]), losses[4], rate)
        launch.flags.copy_(flags, non_blocking=True)
        if launch.copied is not None:
            launch.copied.record()
        self._unconfirmed.append(launch)
        self._exact.num_updates += 1
        self._store.version += 1

    def _confirm(self, totals: EpochTotals) -> None:
        """Wait for the oldest replay; if it failed, train all unconfirmed batches exactly."""
        launch = self._unconfirmed[0]
        with self._parts.clock("wait"):
            if launch.copied is not None:
                launch.copied.synchronize()
        ok, num_nodes = launch.flags.tolist()
        if ok:
            self._free.append(self._unconfirmed.popleft())
            self._exact.prefetch.staleness[0] += 1
            self.trained["replayed"] += 1
            return
        failed = [each.index for each in self._unconfirmed if each.index is not None]
        self._free.extend(self._unconfirmed)
        self._unconfirmed.clear()
        self._exact.num_updates -= len(failed)
        self._store.version -= len(failed)
        self._ok.fill_(True)
        reason = "not_finite"
        if num_nodes > self._num_nodes:
            _log.info(
                "training.capture: epoch %d, step %d has %d distinct nodes, more than the %d of "
                "the recorded step, which is recorded again",
                *(failed[0].epoch, failed[0].number, num_nodes, self._num_nodes),
            )
            reason, self._num_nodes, self._replay = "nodes", self._with_margin(num_nodes), None
        for index in failed:
            self._train_exactly(index, totals, reason)

    def _train_exactly(self, index: StepIndex, totals: EpochTotals, reason: str) -> None:
        for inputs in self._exact.prefetch.steps([index]):
            done = self._exact.run(inputs)
            totals.add(done)
            self._last = done.updates[-1]
        self.trained[reason] += 1

    def _count_nodes(self) -> int:
        """Return the largest number of distinct nodes of some batches of the first epoch."""
        parts, loader = self._parts, self._parts.train_loader
        num = len(loader)
        numbers = {num - 1 - place * num // _COUNTED_BATCHES for place in range(_COUNTED_BATCHES)}
        counts = []
        for number in numbers:
            batch = loader.batch(parts.data.tables, number)
            ends = batch.src_B, batch.dst_B, batch.events_B
            negatives_BM = parts.train_negatives.sample(*ends, parts.task.num_negatives, epoch=1)
            plan = parts.train_pipeline.plan([batch], [negatives_BM], epoch=1)
            counts.append(plan.nodes_V.numel())
        return max(counts)

    def _with_margin(self, num_nodes: int) -> int:
        return min(math.ceil(_MARGIN * num_nodes), self._store.num_nodes)
