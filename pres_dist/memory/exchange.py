"""How rows of node state get from one worker to another.

Every exchange is a collective of the process group: all workers take part in it,
in the same order, with as many rows as they have, none included.

Shapes: N nodes of the stream, W workers, U rows that this worker sends or asks for,
X rows that arrive, S rows of this worker's shard, Y bytes of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

ID_BYTES = 8


class Placement(Protocol):
    """Which worker keeps the row of a node, and where. The same on all workers."""

    @property
    def num_nodes(self) -> int:
        """Nodes of the stream, N."""

    @property
    def world(self) -> int:
        """Workers, W."""

    def owner(self, nodes_U: Tensor) -> Tensor:
        """Rank of the worker that keeps each node."""

    def row(self, nodes_U: Tensor) -> Tensor:
        """Each node's row in the shard of its owner."""

    def nodes_of(self, rank: int) -> Tensor:
        """Ids of the nodes in a shard, in row order [S]."""


@dataclass(frozen=True)
class ModuloPlacement:
    """Deals the nodes out in turn: node n is row n // W of worker n % W."""

    num_nodes: int
    world: int

    def owner(self, nodes_U: Tensor) -> Tensor:
        return nodes_U % self.world

    def row(self, nodes_U: Tensor) -> Tensor:
        return nodes_U // self.world

    def nodes_of(self, rank: int) -> Tensor:
        return torch.arange(rank, max(self.num_nodes, rank), self.world)


@dataclass
class Volume:
    """Rows that one worker sent or asked for, and their bytes, ids included.

    Attributes:
        local_rows: those of its own shard; they do not leave the process.
        remote_rows: those of other workers' shards.
    """

    local_rows: int = 0
    remote_rows: int = 0
    local_bytes: int = 0
    remote_bytes: int = 0

    def add_rows(self, counts_W: Sequence[int], rank: int, bytes_per_row: int) -> None:
        """Count rows, given by owner, and their bytes."""
        self.local_rows += counts_W[rank]
        self.remote_rows += sum(counts_W) - counts_W[rank]
        self.add_bytes(counts_W, rank, bytes_per_row)

    def add_bytes(self, counts_W: Sequence[int], rank: int, bytes_per_row: int) -> None:
        """Count more bytes of rows that are counted elsewhere."""
        self.local_bytes += counts_W[rank] * bytes_per_row
        self.remote_bytes += (sum(counts_W) - counts_W[rank]) * bytes_per_row


@dataclass
class Traffic:
    """What one worker sent and asked for, by the verb of the store."""

    pull: Volume = field(default_factory=Volume)
    push: Volume = field(default_factory=Volume)
    observe: Volume = field(default_factory=Volume)

    def reset(self) -> None:
        for verb in vars(self):
            setattr(self, verb, Volume())


def pack_rows(columns: Sequence[Tensor]) -> Tensor:
    """Columns [U, ...] of any types, side by side as the bytes of one row [U, Y]."""
    return torch.cat([_bytes(column.detach()) for column in columns], dim=1)


def unpack_rows(rows_UY: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Columns out of packed rows, as copies, with the types and row shapes of `like`."""
    parts = rows_UY.split([_row_bytes(column) for column in like], dim=1)
    # A copy starts at an aligned address; a part of a row need not.
    return [
        part.clone(memory_format=torch.contiguous_format)
        .view(column.dtype)
        .view(len(part), *column.shape[1:])
        for part, column in zip(parts, like, strict=True)
    ]


def _bytes(column: Tensor) -> Tensor:
    flat = column.reshape(len(column), math.prod(column.shape[1:]))
    # `contiguous` would keep the odd strides of a single row.
    return flat.clone(memory_format=torch.contiguous_format).view(torch.uint8)


def _row_bytes(column: Tensor) -> int:
    return math.prod(column.shape[1:]) * column.element_size()


@dataclass(frozen=True)
class Route:
    """The way of U rows to their owners, and of X rows to this one.

    Attributes:
        order_U: places of the rows in the request, owner by owner.
        sent_W: rows of this worker that each owner keeps.
        received_W: rows of each worker that this one keeps.
    """

    order_U: Tensor
    sent_W: list[int]
    received_W: list[int]


@dataclass(frozen=True)
class Request:
    """Rows that workers asked for.

    Attributes:
        nodes_U: ids that this worker asked for.
        route: their way to the owners.
        rows_X: rows of this shard that were asked for, in rank order.
    """

    nodes_U: Tensor
    route: Route
    rows_X: Tensor


class RowExchange:
    """Moves rows between workers and the owners of nodes, over a process group.

    Args:
        placement: who keeps what.
        group: process group; None is the default one.
    """

    def __init__(self, placement: Placement, group: dist.ProcessGroup | None = None) -> None:
        self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)
        if placement.world != self.world:
            raise ValueError(
                f"the placement must be for the {self.world} workers of the process group, "
                f"got one for {placement.world}"
            )
        self.placement, self._group = placement, group
        self._last: Request | None = None

    def deliver(
        self, nodes_U: Tensor, columns: Sequence[Tensor], volume: Volume
    ) -> tuple[Tensor, list[Tensor]]:
        """Send rows to their owners.

        Args:
            nodes_U: whose rows.
            columns: the rows [U, ...]; types and row shapes are the same on all workers.
            volume: where to count them.

        Returns:
            rows of this shard that came, rank by rank [X], and their columns [X, ...].
        """
        route, _ = self._route(nodes_U, repeated=False)
        columns = [self.placement.row(nodes_U), *columns]
        packed_UY = pack_rows(columns).index_select(0, route.order_U)
        volume.add_rows(route.sent_W, self.rank, packed_UY.shape[1])
        packed_XY = self._all_to_all(packed_UY, route.sent_W, route.received_W)
        rows_X, *received = unpack_rows(packed_XY, columns)
        return rows_X, received

    def request(self, nodes_U: Tensor, volume: Volume) -> Request:
        """Ask the owners for rows. Ids do not travel again when no worker's have changed."""
        last = self._last
        repeated = last is not None and torch.equal(last.nodes_U, nodes_U)
        route, all_repeated = self._route(nodes_U, repeated)
        if last is not None and all_repeated:
            return last
        rows_U = self.placement.row(nodes_U).index_select(0, route.order_U)
        volume.add_bytes(route.sent_W, self.rank, ID_BYTES)
        rows_X = self._all_to_all(rows_U, route.sent_W, route.received_W)
        self._last = Request(nodes_U.clone(), route, rows_X)
        return self._last

    def reply(self, request: Request, columns: Sequence[Tensor], volume: Volume) -> list[Tensor]:
        """Send the rows that were asked for back.

        Args:
            request: who asked for what.
            columns: the X rows of this shard.
            volume: where to count the rows that this worker gets.

        Returns:
            columns of the U rows that this worker asked for, in the order of its request.
        """
        route, packed_XY = request.route, pack_rows(columns)
        volume.add_rows(route.sent_W, self.rank, packed_XY.shape[1])
        packed_UY = self._all_to_all(packed_XY, route.received_W, route.sent_W)
        # Not `index_copy_`, which is ten times slower than `index_select` on bytes.
        return unpack_rows(packed_UY.index_select(0, torch.argsort(route.order_U)), columns)

    def _route(self, nodes_U: Tensor, repeated: bool) -> tuple[Route, bool]:
        """Tell all workers how many rows will come; whether all of them repeat themselves.

        Whether ids must travel is for all workers to know together: one that left an
        exchange out by itself would hang the others.
        """
        owner_U = self.placement.owner(nodes_U)
        sent_W = torch.bincount(owner_U, minlength=self.world)
        told_W2 = torch.stack([sent_W, torch.full_like(sent_W, repeated)], dim=1)
        heard_W2 = torch.empty_like(told_W2)
        dist.all_to_all_single(heard_W2, told_W2, group=self._group)
        # One copy to the host for both: the sizes of the exchanges that follow.
        counts = torch.cat([sent_W, heard_W2.flatten()]).tolist()
        sent, heard = counts[: self.world], counts[self.world :]
        route = Route(torch.argsort(owner_U, stable=True), sent, heard[::2])
        return route, all(heard[1::2])

    def _all_to_all(self, rows: Tensor, sent_W: list[int], received_W: list[int]) -> Tensor:
        received = rows.new_empty(sum(received_W), *rows.shape[1:])
        dist.all_to_all_single(received, rows, received_W, sent_W, group=self._group)
        return received
