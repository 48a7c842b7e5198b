"""A memory shard that many workers read and write: ordering and deduplication of writes.

This module is independent of networks and processes. All workers make the same writes in
the same order; the n-th write of all workers is *one* write to the shard, applied once
every worker's part has arrived. So a shard goes through the same states as a store to
which one worker writes whole temporal batches, in whatever order parts arrive.

Shapes: W workers, X rows of all parts, P distinct ones among them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from pres_dist.errors import StoreError
from pres_dist.failpoint import failpoint
from pres_dist.memory.local import LocalStore
from pres_dist.memory.merge import first_of_each, merge_rows
from pres_dist.memory.shard_layout import Kind, table_columns
from pres_dist.memory.state import NodeState, Pulled

Result = TypeVar("Result")

MAX_AHEAD = 64
"""Most writes that a worker may be ahead of the slowest: waiting parts use memory."""


@dataclass(frozen=True)
class Part:
    """One worker's part of a write.

    Attributes:
        kind: kind of the write; the same from all workers.
        rows_X: rows of the shard; distinct within a worker, except for a delivery.
        columns: for a push the columns of `NodeState`, for a delivery event ids and memory, for
            an observation memory and time, for a load the tables of
            `LocalStore.state_dict`, for a reset none.
        learn: flag of a push; the same from all workers.
        seen: version read before a push; the same from all workers.
    """

    kind: Kind
    rows_X: Tensor
    columns: Sequence[Tensor] = ()
    learn: bool = False
    seen: int | None = None


@dataclass
class ShardServer:
    """One shard and its W workers. Thread-safe.

    Every write and read names the incarnation of the shard that it is meant for, so that
    no request for a failed shard reaches its replacement, whose state is empty.

    Attributes:
        shard: the rows.
        world: number of workers, W.
        incarnation: incarnation of this shard.
        timeout_s: seconds that a read waits for the writes it requires.
        num_writes: number of applied writes.
        num_duplicates: number of duplicate parts, which were dropped.
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
        """Accept a worker's part of write `number`, counted from 0.

        The call that adds the last part applies the write. A duplicate part is dropped;
        an early part waits.

        Raises:
            StoreError: the part is for another incarnation or too far ahead, and is dropped;
                or the write failed, after which the shard is unusable.
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
            # The part may complete this write, and with it later ones that are already here.
            while len(self._waiting.get(self.num_writes, ())) == self.world:
                self._apply(self._waiting.pop(self.num_writes))

    def pull(self, required: int, incarnation: int, rows_X: Tensor) -> Pulled:
        """Wait for the first `required` writes, then return rows.

        Raises:
            StoreError: the incarnation differs, or the writes did not complete in time or
                can no longer complete.
        """
        return self._read(required, incarnation, lambda: self.shard.pull(rows_X))

    def dump(self, required: int, incarnation: int, rows_X: Tensor) -> list[Tensor]:
        """Return rows of all tables of the shard; wait and raise like `pull`."""

        def rows() -> list[Tensor]:
            return [t.index_select(0, rows_X) for t in table_columns(self.shard.state_dict())]

        return self._read(required, incarnation, rows)

    def leave(self, worker: int) -> None:
        """Expect no further parts from a worker: reads that need them raise."""
        with self._changed:
            self._gone.add(worker)
            self._changed.notify_all()

    def _read(self, required: int, incarnation: int, rows: Callable[[], Result]) -> Result:
        with self._changed:
            self._check(incarnation)
            self._changed.wait_for(
                lambda: (
                    self.num_writes >= required
                    or self._failure is not None
                    or self._gone.intersection(self._missing())
                ),
                self.timeout_s,
            )
            self._check(incarnation)
            if self.num_writes >= required:
                return rows()
            missing = self._missing()
            left = sorted(self._gone.intersection(missing))
            why = f"workers {missing} have not made the next within {self.timeout_s:g} s"
            if left:
                why = f"workers {left} have left without making the next"
            raise StoreError(
                f"a read needs {required} writes, and {self.num_writes} have happened: {why}"
            )

    def _apply(self, parts: dict[int, Part]) -> None:
        try:
            # In rank order, whatever the order of arrival: merges keep the first write of a row.
            apply_parts(self.shard, [parts[worker] for worker in range(self.world)])
        except Exception as error:
            # The write may be partial, so the shard refuses all further requests.
            self._failure = f"write {self.num_writes} failed: {error}"
            self._changed.notify_all()
            raise StoreError(self._failure) from error
        if parts[0].kind is Kind.PUSH:
            failpoint("during_push", self.num_writes)
        self.num_writes += 1
        self._changed.notify_all()

    def _missing(self) -> list[int]:
        """Return the workers whose part of the next write has not arrived."""
        there = self._waiting.get(self.num_writes, {})
        return [worker for worker in range(self.world) if worker not in there]

    def _check(self, incarnation: int) -> None:
        if self._failure is not None:
            raise StoreError(self._failure)
        if incarnation != self.incarnation:
            raise StoreError(
                f"a request must be for incarnation {self.incarnation} of the shard, "
                f"got one for {incarnation}"
            )


def apply_parts(shard: LocalStore, parts: Sequence[Part]) -> None:
    """Apply the parts of all workers, in rank order, as one write.

    Raises:
        StoreError: the parts are of different writes.
    """
    terms = [(part.kind, part.learn, part.seen) for part in parts]
    for worker, others in enumerate(terms):
        if others != terms[0]:
            raise StoreError(
                "all workers must make the same writes in the same order: worker 0 made "
                f"{terms[0]}, worker {worker} {others} (kind, learn, seen)"
            )
    kind, learn, seen = terms[0]
    if kind is Kind.RESET:
        shard.reset()
        return
    rows_X = torch.cat([part.rows_X for part in parts])
    columns = [torch.cat(column) for column in zip(*(part.columns for part in parts), strict=True)]
    if kind is Kind.PUSH:
        shard.push(*merge_rows(rows_X, NodeState.from_columns(columns)), learn, seen)
    elif kind is Kind.DELIVER:
        shard.deliver(rows_X, *columns)
    elif kind is Kind.OBSERVE:
        rows_P, first = first_of_each(rows_X, *columns)
        shard.observe(rows_P, *first)
    else:
        for table, column in zip(table_columns(shard.state_dict()), columns, strict=True):
            table.index_copy_(0, rows_X, column)
