"""All-to-all exchange of node-state rows between workers and row owners.

Every exchange is a collective of the process group: all workers call it in the same
order, each with any number of rows, including none.

A request sends each owner a block of ids with a header. All blocks have the same
capacity, so that sizes need no extra exchange. If a worker needs more capacity, all
workers read this from the headers and repeat the request with larger blocks; later
requests keep the larger size. Ids in a block are sorted by kind of later delivery, so
that a delivery sends no ids.

Shapes: W workers, U rows that this worker requests, X rows requested from it, P rows
that it delivers, C capacity of a block in ids, Y bytes of a row.
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
"""Header length of a block: number of ids of each kind, needed capacity, announced kinds."""
_NEED, _ANNOUNCED = _PARTS, _PARTS + 1
_FIRST_ROOM = 64


@dataclass(frozen=True)
class Route:
    """All-to-all routing between this worker and the row owners.

    Attributes:
        order_U: indices of this worker's rows, sorted by owner.
        sent_W: number of this worker's rows that each owner stores.
        received_W: number of each worker's rows that this one stores.
    """

    order_U: Tensor
    sent_W: list[int]
    received_W: list[int]


@dataclass(frozen=True)
class Delivery:
    """Rows that workers have announced for delivery.

    Attributes:
        nodes_P: ids that this worker will deliver, sorted by owner.
        route: their routing.
        rows_X: rows of this shard that will be delivered, in rank order.
    """

    nodes_P: Tensor
    route: Route
    rows_X: Tensor

    def check(self, nodes_P: Tensor) -> None:
        """Check that the ids are the announced ones; on a GPU, check only their number.

        Raises:
            ValueError: the ids differ.
        """
        same = nodes_P.numel() == self.nodes_P.numel()
        if same and not nodes_P.is_cuda:  # comparing would synchronize with the GPU
            same = torch.equal(nodes_P.index_select(0, self.route.order_U), self.nodes_P)
        if not same:
            raise ValueError(
                f"rows must be delivered for the {self.nodes_P.numel()} nodes that the pull "
                f"announced, in its order, got {nodes_P.numel()} or others"
            )


@dataclass(frozen=True)
class Request:
    """Rows that workers have requested.

    Attributes:
        route: routing of the request; the reply uses it in reverse.
        rows_X: requested rows of this shard, in rank order.
        written: rows announced for a later write, or None.
        observed: rows announced for a later observation, or None.
    """

    route: Route
    rows_X: Tensor
    written: Delivery | None
    observed: Delivery | None


class RowExchange:
    """Moves rows between workers and the owners of nodes, over a process group.

    Calls must be sequential, on one stream of the device, but may come from any thread.

    Args:
        placement: owner and row of each node.
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
        """Request rows from their owners, in one exchange if the blocks are large enough.

        Args:
            nodes_U: distinct ids.
            volume: counter for the ids.
            writes_U: bool, rows that this worker will deliver for writing.
            observes_U: bool, rows that this worker will deliver for observation.

        Raises:
            ValueError: workers announce different kinds of deliveries.
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
        """Send the requested rows back.

        Args:
            request: requests of all workers.
            columns: the X rows of this shard; types and row shapes are the same on all
                workers.
            volume: counter for the rows that this worker receives.

        Returns:
            columns of the U rows that this worker requested, in request order.
        """
        route, layout = request.route, RowLayout(columns)
        volume.add_rows(route.sent_W, self.rank, layout.num_bytes)
        rows_UY = self._move(layout, columns, None, route.received_W, route.sent_W)
        return layout.unpack(rows_UY, torch.argsort(route.order_U))

    def announce(self, nodes_P: Tensor, volume: Volume) -> Delivery:
        """Announce the rows of the next delivery to their owners."""
        everything = torch.ones_like(nodes_P, dtype=torch.bool)
        delivery = self.request(nodes_P, volume, writes_U=everything).written
        assert delivery is not None
        return delivery

    def deliver(
        self, delivery: Delivery, columns: Sequence[Tensor], volume: Volume
    ) -> list[Tensor]:
        """Send announced rows to their owners, in one exchange.

        Args:
            delivery: the announced delivery.
            columns: the rows [P, ...]; types and row shapes are the same on all workers.
            volume: counter for the rows.

        Returns:
            columns [X, ...] of `delivery.rows_X`, valid until the next exchange.
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
        """Exchange rows of the columns; return the received [X, Y] rows, held in the buffer."""
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
        """Send each owner its block of rows; repeat with larger blocks if any worker needs them.

        Returns:
            the received blocks [W, C] without headers, and the W sent headers followed by the
            W received ones, as lists of numbers.
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
            # If a block is too small, excess ids overwrite its last place. The block is not
            # read then, and no check has to synchronize with the device.
            told[owner_U, _HEADER + place_U.clamp(max=self._room - 1)] = rows_U
            heard = torch.empty_like(told)
            dist.all_to_all_single(heard, told, group=self._group)
            volume.add_blocks(self.world, told.shape[1] * ID_BYTES)
            # One copy to the host gives all the sizes needed below.
            headers = torch.cat([told[:, :_HEADER], heard[:, :_HEADER]]).tolist()
            if not self._grow(max(header[_NEED] for header in headers)):
                _check_alike(headers)
                return heard[:, _HEADER:], headers

    def _grow(self, need: int) -> bool:
        """Enlarge blocks that are too small for `need` ids; return True if they were."""
        if need <= self._room:
            return False
        self._room = _room_for(need)
        return True


def block_numbers(largest: float) -> float:
    """Return the int64 numbers per request block after some block has held `largest` ids."""
    return _HEADER + max(_room_for(int(largest)), _FIRST_ROOM)


def _room_for(need: int) -> int:
    """Add a quarter to spare, so that slowly growing requests rarely need larger blocks."""
    return need + need // 4


def _kinds(nodes_U: Tensor, writes_U: Tensor | None, observes_U: Tensor | None) -> Tensor:
    """Return the kind of each id; written and observed ids are contiguous ranges of kinds."""
    no = torch.zeros_like(nodes_U, dtype=torch.bool)
    writes_U = no if writes_U is None else writes_U
    observes_U = no if observes_U is None else observes_U
    return torch.where(observes_U, 2 - writes_U.long(), 3 - 3 * writes_U.long())


def _check_alike(headers: list[list[int]]) -> None:
    """Raise unless all workers announce the same kinds; all see the same headers."""
    announced = [header[_ANNOUNCED] for header in headers]
    if len(set(announced)) > 1:
        raise ValueError(
            "all workers must announce the same kinds of deliveries, got "
            f"{announced[len(announced) // 2 :]} (1: writes_U, 2: observes_U, 3: both)"
        )


def _counts(counts_WK: list[list[int]], kinds: slice) -> list[int]:
    return [sum(counts_K[kinds]) for counts_K in counts_WK]


def _cut_rows(rows_U: Tensor, counts_WK: list[list[int]], kinds: slice) -> Tensor:
    """Select the rows of some kinds from rows sorted by owner and kind."""
    parts, start = [], 0
    for counts_K in counts_WK:
        first = start + sum(counts_K[: kinds.start])
        parts.append(rows_U[first : first + sum(counts_K[kinds])])
        start += sum(counts_K)
    return torch.cat(parts)


def _cut_blocks(blocks_WC: Tensor, counts_WK: list[list[int]], kinds: slice) -> Tensor:
    """Select the ids of some kinds from blocks, in rank order."""
    parts = []
    for block_C, counts_K in zip(blocks_WC, counts_WK, strict=True):
        first = sum(counts_K[: kinds.start])
        parts.append(block_C[first : first + sum(counts_K[kinds])])
    return torch.cat(parts)
