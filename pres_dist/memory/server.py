"""Memory store whose rows are held by separate shard processes.

Each node's row is stored by one of S memory shards, which W workers read and write. There
may be more or fewer shards than workers.

Shapes: N nodes of the stream, U nodes of a request, S shards.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pres_dist.errors import StoreError
from pres_dist.memory.local import check_tables
from pres_dist.memory.packing import (
    frame_bytes,
    pack_columns,
    to_device,
    to_host,
    unpack_columns,
)
from pres_dist.memory.placement import Placement
from pres_dist.memory.shard_group import Group
from pres_dist.memory.shard_layout import Kind, MessageColumns, ShardLayout, table_columns
from pres_dist.memory.state import NodeState, Pulled, Tables
from pres_dist.memory.traffic import Traffic, Volume
from pres_dist.memory.wire import Header, Link
from pres_dist.pres.statistics import NEGATIVE

_GRACE_S = 5.0
"""Extra seconds to wait for a shard, so that a shard that times out can report the reason."""
_CHUNK_BYTES = 32 << 20
"""Approximate size of the messages in which the whole memory is saved or loaded."""


class ServerStore:
    """Node state held by memory shards. See `MemoryStore` for the methods.

    All workers call `push`, `deliver`, `observe`, `reset` and `load_state_dict` in the same order,
    with the same flags, each with its own distinct ids, which may be none. Workers pull
    independently: a pull returns the state after exactly the writes that this worker has
    made so far, and waits for the same writes of all other workers. Writes are
    asynchronous; a later pull raises their errors.

    A pull may run in another thread while no write runs. Tensors are accepted and
    returned on the device of the ids; the shards use host memory.

    In one push several workers may write the same node: see `merge_rows`.

    Args:
        group: this worker's process group of W workers and S shards, in this order.
        placement: shard and row of each node; its world is S.
        layout: sizes of the rows.
        incarnation: incarnation of the shards.
        timeout_s: seconds to wait for a shard, and for the writes of other workers.

    Raises:
        StoreError: from any method, if a shard failed, does not answer, or refuses.
    """

    def __init__(
        self,
        group: Group,
        placement: Placement,
        layout: ShardLayout,
        incarnation: int,
        timeout_s: float,
    ) -> None:
        self.num_nodes, self.dim, self.num_slots = placement.num_nodes, layout.dim, layout.num_slots
        self.rolling = layout.rolling
        self.version = 0
        self.traffic = Traffic()
        self._placement, self._layout, self._incarnation = placement, layout, incarnation
        self._columns = MessageColumns(layout)
        self._num_writes = 0
        self._rank, num_shards = group.rank(), placement.world
        self._num_workers = group.size() - num_shards
        self._links = [
            Link(
                group,
                self._num_workers + shard,
                f"memory shard {shard} of {num_shards}",
                timeout_s + _GRACE_S,
            )
            for shard in range(num_shards)
        ]
        self._turn = threading.Lock()

    def pull(
        self,
        nodes_U: Tensor,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Pulled:
        # Announcements are ignored: ids are only a hundredth of a push's bytes.
        with self._turn:
            found = self._read(Kind.PULL, nodes_U, self._columns.pulled, self.traffic.pull)
            return Pulled.from_columns(found, self.version)

    def push(self, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None = None) -> None:
        columns, version = state.columns(), -1 if seen is None else seen
        with self._turn:
            self._write(Kind.PUSH, nodes_U, columns, self.traffic.push, learn, version)
            self.version += 1

    def deliver(self, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
        with self._turn:
            self._write(Kind.DELIVER, nodes_X, [events_X, memory_XD], self.traffic.push)

    @property
    def observes(self) -> bool:
        return self._layout.num_components > NEGATIVE

    def observe(self, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor) -> None:
        if not self.observes:
            return  # on all workers alike
        with self._turn:
            columns = [memory_UD, last_update_U]
            self._write(Kind.OBSERVE, nodes_U, columns, self.traffic.observe)

    def reset(self) -> None:
        with self._turn:
            self._write(Kind.RESET, torch.empty(0, dtype=torch.int64), [], Volume())
            self.version = 0

    def kept_nodes(self) -> Tensor:
        return torch.arange(self._rank, max(self.num_nodes, self._rank), self._num_workers)

    def state_dict(self) -> Tables:
        like = self._columns.tables
        own = self._layout.make(len(self.kept_nodes())).state_dict()
        first = 0
        for nodes_U in self._chunks():
            with self._turn:
                found = self._read(Kind.DUMP, nodes_U, like, Volume())
            for table, column in zip(table_columns(own), found, strict=True):
                table[first : first + len(nodes_U)] = column
            first += len(nodes_U)
        return own

    def load_state_dict(self, state: Tables) -> None:
        check_tables(self._layout.make(1).state_dict(), state, len(self.kept_nodes()))
        tables, first = table_columns(state), 0
        self.reset()
        for nodes_U in self._chunks():
            part = [table[first : first + len(nodes_U)].cpu() for table in tables]
            with self._turn:
                self._write(Kind.LOAD, nodes_U, part, Volume())
                # Wait for the other workers: a shard keeps only so many early writes.
                self._read(Kind.PULL, nodes_U[:1], self._columns.pulled, Volume())
            first += len(nodes_U)

    def leave(self) -> None:
        """Send a leave message to all shards. A shard exits once all workers have left."""
        for link in self._links:
            try:
                link.send(Header(Kind.LEAVE, self._incarnation, self._num_writes))
                link.settle()
            except StoreError:  # already gone
                continue

    def _chunks(self) -> Iterator[Tensor]:
        """Yield the kept nodes in chunks that fit a message; all workers yield equally many."""
        rows = max(_CHUNK_BYTES // frame_bytes(self._columns.tables, 1), 1)
        most = -(-self.num_nodes // self._num_workers)
        yield from self.kept_nodes().tensor_split(max(-(-most // rows), 1))

    def _read(
        self,
        kind: Kind,
        nodes_U: Tensor,
        like: Sequence[Tensor],
        volume: Volume,
    ) -> list[Tensor]:
        """Read the rows of the nodes [U, ...], with the types and row shapes of `like`."""
        nodes = nodes_U.cpu()
        header = Header(kind, self._incarnation, self._num_writes)
        row_U = self._placement.row(nodes)
        # All shards look up their rows in parallel: ask all of them before the first wait.
        asked = []
        for link, places in zip(self._links, self._places(nodes), strict=True):
            if num_rows := len(places):
                request = replace(header, num_rows=num_rows)
                rows = pack_columns([row_U.index_select(0, places)])
                asked.append((places, link.request(request, rows, frame_bytes(like, num_rows))))
        answers, errors = [], []
        for places, wait in asked:
            # Even if one shard fails, so that no answer is still under way at the next read.
            try:
                answers.append((places, *wait()))
            except StoreError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        columns = [each.new_empty(len(nodes), *each.shape[1:]) for each in like]
        for places, version, frame in answers:
            _count(volume, len(places), len(frame) + 8 * len(places))
            if version != self.version:
                raise StoreError(
                    f"a memory shard must be at version {self.version}, which is what this "
                    f"worker has pushed, got one at version {version}"
                )
            parts = unpack_columns(frame, like, len(places))
            if len(answers) == 1:  # of one shard, in the order of the request
                columns = parts
                break
            # Four times faster than concatenating and reordering.
            for column, part in zip(columns, parts, strict=True):
                column.index_copy_(0, places, part)
        return to_device(columns, nodes_U.device)

    def _write(
        self,
        kind: Kind,
        nodes_U: Tensor,
        columns: Sequence[Tensor],
        volume: Volume,
        flag: bool = False,
        seen: int = -1,
    ) -> None:
        """Send each shard its rows, even if there are none."""
        nodes, *columns = to_host([nodes_U, *columns])
        header = Header(kind, self._incarnation, self._num_writes, flag=flag, seen=seen)
        columns = [self._placement.row(nodes), *columns]
        for link, places in zip(self._links, self._places(nodes), strict=True):
            payload = pack_columns(columns, places)
            _count(volume, len(places), len(payload))
            link.send(replace(header, num_rows=len(places)), payload)
        self._num_writes += 1

    def _places(self, nodes_U: Tensor) -> list[Tensor]:
        """Return, for each shard, the request indices of the nodes that it stores."""
        owner_U, num_shards = self._placement.owner(nodes_U), len(self._links)
        counts = torch.bincount(owner_U, minlength=num_shards).tolist()
        return [*torch.argsort(owner_U, stable=True).split(counts)]


def _count(volume: Volume, num_rows: int, num_bytes: int) -> None:
    volume.remote_rows += num_rows
    volume.remote_bytes += num_bytes
