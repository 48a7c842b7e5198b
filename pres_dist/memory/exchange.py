"""How rows of node state get from one worker to another.

Every exchange is a collective of the process group: all workers take part in it,
in the same order, with as many rows as they have, none included.

A request goes to each owner as a block of ids with a header. All blocks have room for
as many ids, so that nobody must be told first how many will come. Where some worker
needs more room, all learn it from the headers and ask again with larger blocks; later
requests find the room. Within a block, ids stand in the order of what the worker will
deliver for them later, so that a delivery needs no ids of its own.

Shapes: W workers, U rows that this worker asks for, X rows that it is asked for, P rows
that it delivers, C ids that a block has room for, Y bytes of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pres_dist.memory.packing import Buffer, RowLayout
from pres_dist.memory.placement import Placement
from pres_dist.memory.traffic import Volume

ID_BYTES = 8

_PARTS = 4
"""Kinds of ids in a block: written, written and observed, observed, neither."""
_WRITTEN, _OBSERVED = slice(0, 2), slice(1, 3)
_HEADER = _PARTS + 2
"""Numbers before the ids of a block: ids of each kind, room needed, what is announced."""
_NEED, _ANNOUNCED = _PARTS, _PARTS + 1
_FIRST_ROOM = 64


@dataclass(frozen=True)
class Route:
    """The way of rows of this worker to their owners, and of others' rows to this one.

    Attributes:
        order_U: places of the rows in what this worker has, owner by owner.
        sent_W: rows of this worker that each owner keeps.
        received_W: rows of each worker that this one keeps.
    """

    order_U: Tensor
    sent_W: list[int]
    received_W: list[int]


@dataclass(frozen=True)
class Delivery:
    """Rows that workers have told that they will deliver.

    Attributes:
        nodes_P: ids that this worker will deliver, owner by owner.
        route: their way.
        rows_X: rows of this shard that will be delivered, in rank order.
    """

    nodes_P: Tensor
    route: Route
    rows_X: Tensor

    def check(self, nodes_P: Tensor) -> None:
        """Whether these ids are the announced ones; on a GPU only as many.

        Raises:
            ValueError: they are not.
        """
        same = nodes_P.numel() == self.nodes_P.numel()
        if same and not nodes_P.is_cuda:  # there, looking would wait for the device
            same = torch.equal(nodes_P.index_select(0, self.route.order_U), self.nodes_P)
        if not same:
            raise ValueError(
                f"rows must be delivered for the {self.nodes_P.numel()} nodes that the pull "
                f"announced, in its order, got {nodes_P.numel()} or others"
            )


@dataclass(frozen=True)
class Request:
    """Rows that workers asked for.

    Attributes:
        route: their way to the owners, which the rows come back by.
        rows_X: rows of this shard that were asked for, in rank order.
        written: what was announced to be written, if anything was.
        observed: what was announced to be observed, if anything was.
    """

    route: Route
    rows_X: Tensor
    written: Delivery | None
    observed: Delivery | None


class RowExchange:
    """Moves rows between workers and the owners of nodes, over a process group.

    Calls must come one at a time, on one stream of the device; from which thread does
    not matter.

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
        self._room = _FIRST_ROOM
        self._out, self._in = Buffer(), Buffer()

    def request(
        self,
        nodes_U: Tensor,
        volume: Volume,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Request:
        """Ask the owners for rows: one exchange, once the blocks have room enough.

        Args:
            nodes_U: distinct ids.
            volume: where to count the ids.
            writes_U: bool, which of the rows this worker will deliver to be written.
            observes_U: bool, likewise to be observed.

        Raises:
            ValueError: not all workers announce alike.
        """
        # By owner and, within an owner, by kind.
        key_U = self.placement.owner(nodes_U) * _PARTS + _kinds(nodes_U, writes_U, observes_U)
        order_U = torch.argsort(key_U, stable=True)
        own_WK = torch.bincount(key_U, minlength=self.world * _PARTS).view(self.world, _PARTS)
        announced = (writes_U is not None) + 2 * (observes_U is not None)
        blocks, headers = self._swap_blocks(nodes_U, key_U, order_U, own_WK, announced, volume)
        heard_WK = [header[:_PARTS] for header in headers[self.world :]]
        sent_WK = [header[:_PARTS] for header in headers[: self.world]]
        whole = slice(0, _PARTS)
        route = Route(order_U, _counts(sent_WK, whole), _counts(heard_WK, whole))
        rows_X = _cut_blocks(blocks, heard_WK, whole)

        def delivery(mask_U: Tensor | None, kinds: slice) -> Delivery | None:
            if mask_U is None:
                return None
            places_P = _cut_rows(order_U, sent_WK, kinds)
            order_P = (mask_U.cumsum(0) - 1).index_select(0, places_P)
            way = Route(order_P, _counts(sent_WK, kinds), _counts(heard_WK, kinds))
            nodes_P = nodes_U.index_select(0, places_P)
            return Delivery(nodes_P, way, _cut_blocks(blocks, heard_WK, kinds))

        return Request(route, rows_X, delivery(writes_U, _WRITTEN), delivery(observes_U, _OBSERVED))

    def reply(self, request: Request, columns: Sequence[Tensor], volume: Volume) -> list[Tensor]:
        """Send the rows that were asked for back.

        Args:
            request: who asked for what.
            columns: the X rows of this shard; types and row shapes are the same on all
                workers.
            volume: where to count the rows that this worker gets.

        Returns:
            columns of the U rows that this worker asked for, in the order of its request.
        """
        route, layout = request.route, RowLayout(columns)
        volume.add_rows(route.sent_W, self.rank, layout.num_bytes)
        rows_UY = self._move(layout, columns, None, route.received_W, route.sent_W)
        return layout.unpack(rows_UY, torch.argsort(route.order_U))

    def announce(self, nodes_P: Tensor, volume: Volume) -> Delivery:
        """Tell the owners which rows the next delivery will bring."""
        everything = torch.ones_like(nodes_P, dtype=torch.bool)
        delivery = self.request(nodes_P, volume, writes_U=everything).written
        assert delivery is not None
        return delivery

    def deliver(
        self, delivery: Delivery, columns: Sequence[Tensor], volume: Volume
    ) -> list[Tensor]:
        """Send rows that were announced to their owners: one exchange.

        Args:
            delivery: what was announced.
            columns: the rows [P, ...]; types and row shapes are the same on all workers.
            volume: where to count them.

        Returns:
            columns [X, ...] of `delivery.rows_X`; they last until the next exchange.
        """
        route, layout = delivery.route, RowLayout(columns)
        volume.add_rows(route.sent_W, self.rank, layout.num_bytes)
        rows_XY = self._move(layout, columns, route.order_U, route.sent_W, route.received_W)
        return layout.columns(rows_XY)

    def _move(
        self,
        layout: RowLayout,
        columns: Sequence[Tensor],
        order_U: Tensor | None,
        sent_W: list[int],
        received_W: list[int],
    ) -> Tensor:
        """Rows of these columns to other workers; those that came [X, Y], in the buffer."""
        device, num_bytes = columns[0].device, layout.num_bytes
        sent_UY = self._out.rows(sum(sent_W), num_bytes, device)
        layout.pack(columns, order_U, sent_UY)
        received_XY = self._in.rows(sum(received_W), num_bytes, device)
        dist.all_to_all_single(received_XY, sent_UY, received_W, sent_W, group=self._group)
        return received_XY

    def _swap_blocks(
        self,
        nodes_U: Tensor,
        key_U: Tensor,
        order_U: Tensor,
        own_WK: Tensor,
        announced: int,
        volume: Volume,
    ) -> tuple[Tensor, list[list[int]]]:
        """Send each owner its block of rows, again with more room if any worker needs it.

        Returns:
            the blocks that came [W, C] without their headers, and the headers that were
            sent and then those that came, [W + W] lists of numbers.
        """
        owner_U = key_U.index_select(0, order_U) // _PARTS
        sent_W = own_WK.sum(1)
        start_U = (sent_W.cumsum(0) - sent_W).index_select(0, owner_U)
        place_U = torch.arange(nodes_U.numel(), device=nodes_U.device) - start_U
        rows_U = self.placement.row(nodes_U).index_select(0, order_U)
        while True:
            told = nodes_U.new_zeros(self.world, _HEADER + self._room)
            told[:, :_PARTS] = own_WK
            told[:, _NEED] = sent_W.max()
            told[:, _ANNOUNCED] = announced
            # Where the room does not do, what is cut off goes over the last place: no one
            # will read it, and no one must wait for the device to know.
            told[owner_U, _HEADER + place_U.clamp(max=self._room - 1)] = rows_U
            heard = torch.empty_like(told)
            dist.all_to_all_single(heard, told, group=self._group)
            volume.add_blocks(self.world, told.shape[1] * ID_BYTES)
            # One copy to the host: the sizes of all that follows.
            headers = torch.cat([told[:, :_HEADER], heard[:, :_HEADER]]).tolist()
            if not self._grow(max(header[_NEED] for header in headers)):
                _check_alike(headers)
                return heard[:, _HEADER:], headers

    def _grow(self, need: int) -> bool:
        """Whether blocks had too little room for what some worker needed; if so, make it."""
        if need <= self._room:
            return False
        self._room = _room_for(need)
        return True


def block_numbers(largest: float) -> float:
    """int64 numbers in each block of a request, once the fullest has needed room for so many."""
    return _HEADER + max(_room_for(int(largest)), _FIRST_ROOM)


def _room_for(need: int) -> int:
    """A quarter to spare, so that requests which grow slowly do not meet it each time."""
    return need + need // 4


def _kinds(nodes_U: Tensor, writes_U: Tensor | None, observes_U: Tensor | None) -> Tensor:
    """Kind of each id, such that those written and those observed are runs of kinds."""
    no = torch.zeros_like(nodes_U, dtype=torch.bool)
    writes_U = no if writes_U is None else writes_U
    observes_U = no if observes_U is None else observes_U
    return torch.where(observes_U, 2 - writes_U.long(), 3 - 3 * writes_U.long())


def _check_alike(headers: list[list[int]]) -> None:
    """All workers raise or none does: they see the same headers."""
    announced = [header[_ANNOUNCED] for header in headers]
    if len(set(announced)) > 1:
        raise ValueError(
            "all workers must announce the same kinds of deliveries, got "
            f"{announced[len(announced) // 2 :]} (1: writes_U, 2: observes_U, 3: both)"
        )


def _counts(counts_WK: list[list[int]], kinds: slice) -> list[int]:
    return [sum(counts_K[kinds]) for counts_K in counts_WK]


def _cut_rows(rows_U: Tensor, counts_WK: list[list[int]], kinds: slice) -> Tensor:
    """Rows of some kinds, out of rows in the order of owners and kinds."""
    parts, start = [], 0
    for counts_K in counts_WK:
        first = start + sum(counts_K[: kinds.start])
        parts.append(rows_U[first : first + sum(counts_K[kinds])])
        start += sum(counts_K)
    return torch.cat(parts)


def _cut_blocks(blocks_WC: Tensor, counts_WK: list[list[int]], kinds: slice) -> Tensor:
    """Ids of some kinds out of blocks, in rank order."""
    parts = []
    for block_C, counts_K in zip(blocks_WC, counts_WK, strict=True):
        first = sum(counts_K[: kinds.start])
        parts.append(block_C[first : first + sum(counts_K[kinds])])
    return torch.cat(parts)
