"""A memory shard that many workers read and write: what happens when, and how often.

Knows neither networks nor processes. All workers make the same writes in the same
order; the n-th write of all of them is *one* write to the shard, which happens when the
part of every worker is there. So a shard goes through the same states as a store that
one worker feeds with whole temporal batches, whatever comes first.

Shapes: W workers, X rows of all parts, P distinct ones among them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

import torch
from torch import Tensor

from pres_dist.errors import StoreError
from pres_dist.faults import failpoint
from pres_dist.memory.local import LocalStore
from pres_dist.memory.merge import first_of_each, merge_rows
from pres_dist.memory.shard_layout import table_columns
from pres_dist.memory.state import NodeState, Pulled

Result = TypeVar("Result")

MAX_AHEAD = 64
"""Writes that a worker may be ahead of the slowest: parts that wait take up memory."""


class WriteKind(IntEnum):
    """What a write does; the verbs of `MemoryStore`, and `LOAD`, which fills tables."""

    OBSERVE = 1
    PUSH = 2
    RESET = 3
    LOAD = 4
    DELIVER = 8


@dataclass(frozen=True)
class Part:
    """What one worker contributes to a write.

    Attributes:
        kind: the same from all workers.
        rows_X: rows of the shard; those of one worker are distinct, but for a delivery.
        columns: of a push those of `NodeState`, of a delivery event ids and memory, of an
            observation memory and time, of a load the tables of `LocalStore.state_dict`; of
            a reset none.
        learn: of a push, the same from all workers.
        seen: likewise.
    """

    kind: WriteKind
    rows_X: Tensor
    columns: Sequence[Tensor] = ()
    learn: bool = False
    seen: int | None = None

    @property
    def terms(self) -> tuple[WriteKind, bool, int | None]:
        """What all workers must agree on."""
        return self.kind, self.learn, self.seen


@dataclass
class ShardServer:
    """One shard and its W workers. Safe to call from any number of threads.

    Every write and every read names the incarnation of the shard that it is meant for,
    so that nothing meant for a shard which died reaches the one in its place, which has
    forgotten everything.

    Attributes:
        shard: the rows.
        world: workers, W.
        incarnation: of this shard.
        timeout_s: seconds that a read waits for the writes it must have seen.
        num_writes: writes that have happened.
        num_duplicates: parts that came again and were left out.
    """

    shard: LocalStore
    world: int
    incarnation: int
    timeout_s: float
    num_writes: int = 0
    num_duplicates: int = 0
    _waiting: dict[int, dict[int, Part]] = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)
    _failure: str | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def write(self, worker: int, number: int, incarnation: int, part: Part) -> None:
        """Take a worker's part of the write of that number, counted from 0.

        The write happens in the call that brings the last part. A part that came before
        is left out; one that came early waits.

        Raises:
            StoreError: the part is meant for another incarnation or is too far ahead,
                and is left out; or the write failed, after which the shard is of no use.
        """
        with self._changed:
            self._check(incarnation)
            if number >= self.num_writes + MAX_AHEAD:
                raise StoreError(
                    f"worker {worker} may be at most {MAX_AHEAD} writes ahead of the slowest "
                    f"worker, which has made {self.num_writes}; got write {number}"
                )
            parts = self._waiting.setdefault(number, {}) if number >= self.num_writes else None
            if parts is None or worker in parts:
                self.num_duplicates += 1
                return
            parts[worker] = part
            self._apply_complete()

    def pull(
        self, required: int, incarnation: int, rows_X: Tensor, with_mixture: bool = False
    ) -> Pulled:
        """Rows that have seen the first `required` writes, once these have happened.

        Raises:
            StoreError: of another incarnation, or the writes did not happen in time, or
                cannot happen any more.
        """
        return self._read(required, incarnation, lambda: self.shard.pull(rows_X, with_mixture))

    def dump(self, required: int, incarnation: int, rows_X: Tensor) -> list[Tensor]:
        """Rows of all tables of the shard, as `pull` waits for them and raises."""
        return self._read(
            required,
            incarnation,
            lambda: [t.index_select(0, rows_X) for t in table_columns(self.shard.state_dict())],
        )

    def leave(self, worker: int) -> None:
        """Expect no further parts of a worker: whoever waits for them raises."""
        with self._changed:
            self._gone.add(worker)
            self._changed.notify_all()

    def _read(self, required: int, incarnation: int, rows: Callable[[], Result]) -> Result:
        with self._changed:
            self._check(incarnation)
            self._changed.wait_for(
                lambda: self.num_writes >= required or self._hopeless(), self.timeout_s
            )
            self._check(incarnation)
            if self.num_writes < required:
                raise StoreError(self._reason(required))
            return rows()

    def _hopeless(self) -> bool:
        return self._failure is not None or bool(self._gone & set(self._missing()))

    def _missing(self) -> list[int]:
        """Workers whose part of the next write is not there."""
        there = self._waiting.get(self.num_writes, {})
        return [worker for worker in range(self.world) if worker not in there]

    def _reason(self, required: int) -> str:
        missing = self._missing()
        left = sorted(self._gone & set(missing))
        what = f"a read needs {required} writes, and {self.num_writes} have happened"
        if left:
            return f"{what}: workers {left} have left without making the next"
        return f"{what}: workers {missing} have not made the next within {self.timeout_s:g} s"

    def _check(self, incarnation: int) -> None:
        if self._failure is not None:
            raise StoreError(self._failure)
        if incarnation != self.incarnation:
            raise StoreError(
                f"a request must be for incarnation {self.incarnation} of the shard, "
                f"got one for {incarnation}"
            )

    def _apply_complete(self) -> None:
        """Let all writes happen whose parts are all there."""
        while len(self._waiting.get(self.num_writes, ())) == self.world:
            parts = self._waiting.pop(self.num_writes)
            try:
                apply_parts(self.shard, [parts[worker] for worker in range(self.world)])
            except Exception as error:
                # Some rows may be written and others not: nobody shall go on with them.
                self._failure = f"write {self.num_writes} failed: {error}"
                self._changed.notify_all()
                raise StoreError(self._failure) from error
            if parts[0].kind is WriteKind.PUSH:
                failpoint("during_push", self.num_writes)
            self.num_writes += 1
            self._changed.notify_all()


def apply_parts(shard: LocalStore, parts: Sequence[Part]) -> None:
    """Make the parts of all workers, in rank order, into one write.

    Raises:
        StoreError: the workers want different things.
    """
    kind, learn, seen = parts[0].terms
    for worker, part in enumerate(parts):
        if part.terms != parts[0].terms:
            raise StoreError(
                "all workers must make the same writes in the same order: worker 0 made "
                f"{parts[0].terms}, worker {worker} {part.terms} (kind, learn, seen)"
            )
    if kind is WriteKind.RESET:
        shard.reset()
        return
    rows_X = torch.cat([part.rows_X for part in parts])
    columns = [torch.cat(column) for column in zip(*(part.columns for part in parts), strict=True)]
    if kind is WriteKind.PUSH:
        shard.push(*merge_rows(rows_X, NodeState(*columns)), learn, seen)
    elif kind is WriteKind.DELIVER:
        shard.deliver(rows_X, *columns)
    elif kind is WriteKind.OBSERVE:
        rows_P, first = first_of_each(rows_X, *columns)
        shard.observe(rows_P, *first)
    else:
        for table, column in zip(table_columns(shard.state_dict()), columns, strict=True):
            table.index_copy_(0, rows_X, column)
