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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pres_dist.memory.packing import Buffer, RowLayout
from pres_dist.memory.placement import Placement
from pres_dist.memory.traffic import Volume

ID_BYTES = 8

_KINDS = 4
"""Kinds of ids in a block: written, written and observed, observed, neither. In this order,
the written ids and the observed ids are both contiguous ranges."""
_WRITTEN, _OBSERVED, _ALL = slice(0, 2), slice(1, 3), slice(0, _KINDS)
_HEADER = _KINDS + 2
"""Header length of a block: number of ids of each kind, needed capacity, announced kinds."""
_NEEDED, _ANNOUNCED = _KINDS, _KINDS + 1
_FIRST_CAPACITY = 64


@dataclass(frozen=True)
class Route:
    """All-to-all routing of rows between this worker and their owners.

    Attributes:
        order_U: indices of this worker's rows, sorted by owner.
        sent_W: number of this worker's rows that each owner stores.
        received_W: number of each worker's rows that this one stores.
        rows_X: the rows of this shard, in rank order.
    """

    order_U: Tensor
    sent_W: list[int]
    received_W: list[int]
    rows_X: Tensor


@dataclass(frozen=True)
class Delivery(Route):
    """Rows that workers have announced for delivery; `nodes_P` are this worker's, by owner."""

    nodes_P: Tensor

    def check(self, nodes_P: Tensor) -> None:
        """Raise ValueError unless the ids are the announced ones (on a GPU, only as many)."""
        same = nodes_P.numel() == self.nodes_P.numel()
        if same and not nodes_P.is_cuda:  # comparing would synchronize with the GPU
            same = torch.equal(nodes_P.index_select(0, self.order_U), self.nodes_P)
        if not same:
            raise ValueError(
                f"rows must be delivered for the {self.nodes_P.numel()} nodes that the pull "
                f"announced, in its order, got {nodes_P.numel()} or others"
            )


@dataclass(frozen=True)
class Request(Route):
    """Rows that workers have requested, and those announced for a later delivery, if any."""

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
        self._capacity = _FIRST_CAPACITY
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
        no_U = torch.zeros_like(nodes_U, dtype=torch.bool)
        written_U = (no_U if writes_U is None else writes_U).long()
        observed_U = no_U if observes_U is None else observes_U
        kind_U = torch.where(observed_U, 2 - written_U, 3 - 3 * written_U)
        # Sorted by owner and, within an owner, by kind: the ids of each later delivery are one
        # range of each block.
        key_U = self.placement.owner(nodes_U) * _KINDS + kind_U
        order_U = torch.argsort(key_U, stable=True)
        sent_WK = torch.bincount(key_U, minlength=self.world * _KINDS).view(self.world, _KINDS)
        announced = (writes_U is not None) + 2 * (observes_U is not None)
        sent, received, blocks_WC = self._swap_blocks(
            nodes_U, key_U, order_U, sent_WK, announced, volume
        )

        def routed(kinds: slice) -> tuple[list[int], list[int], Tensor]:
            rows_X = _cut(blocks_WC.unbind(), received, kinds)
            return _counts(sent, kinds), _counts(received, kinds), rows_X

        def delivery(mask_U: Tensor | None, kinds: slice) -> Delivery | None:
            if mask_U is None:
                return None
            places_P = _cut(order_U.split([sum(counts) for counts in sent]), sent, kinds)
            order_P = (mask_U.cumsum(0) - 1).index_select(0, places_P)
            return Delivery(order_P, *routed(kinds), nodes_U.index_select(0, places_P))

        written, observed = delivery(writes_U, _WRITTEN), delivery(observes_U, _OBSERVED)
        return Request(order_U, *routed(_ALL), written, observed)

    def reply(self, request: Request, columns: Sequence[Tensor], volume: Volume) -> list[Tensor]:
        """Send the X requested rows back; their types and row shapes are the same everywhere.

        Returns:
            columns of the U rows that this worker requested, in request order.
        """
        layout = RowLayout(columns)
        volume.add_rows(request.sent_W, self.rank, layout.num_bytes)
        rows_UY = self._move(layout, columns, None, request.received_W, request.sent_W)
        return layout.unpack(rows_UY, torch.argsort(request.order_U))

    def announce(self, nodes_P: Tensor, volume: Volume) -> Delivery:
        """Announce the rows of the next delivery to their owners."""
        everything = torch.ones_like(nodes_P, dtype=torch.bool)
        delivery = self.request(nodes_P, volume, writes_U=everything).written
        assert delivery is not None
        return delivery

    def deliver(
        self, delivery: Delivery, columns: Sequence[Tensor], volume: Volume
    ) -> list[Tensor]:
        """Send the P announced rows to their owners, in one exchange.

        Returns:
            columns [X, ...] of `delivery.rows_X`, valid until the next exchange.
        """
        layout, sent_W = RowLayout(columns), delivery.sent_W
        volume.add_rows(sent_W, self.rank, layout.num_bytes)
        return layout.columns(
            self._move(layout, columns, delivery.order_U, sent_W, delivery.received_W)
        )

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
        sent_WK: Tensor,
        announced: int,
        volume: Volume,
    ) -> tuple[list[list[int]], list[list[int]], Tensor]:
        """Send each owner its block of rows; repeat with larger blocks if any worker needs them.

        Returns:
            numbers of sent and of received ids by worker and kind, and the received blocks
            [W, C] without headers.
        """
        owner_U = key_U.index_select(0, order_U) // _KINDS
        sent_W = sent_WK.sum(1)
        start_U = (sent_W.cumsum(0) - sent_W).index_select(0, owner_U)
        place_U = torch.arange(nodes_U.numel(), device=nodes_U.device) - start_U
        rows_U = self.placement.row(nodes_U).index_select(0, order_U)
        while True:
            out = nodes_U.new_zeros(self.world, _HEADER + self._capacity)
            out[:, :_KINDS] = sent_WK
            out[:, _NEEDED] = sent_W.max()
            out[:, _ANNOUNCED] = announced
            # If a block is too small, excess ids overwrite its last place. The block is not
            # read then, and no check has to synchronize with the device.
            out[owner_U, _HEADER + place_U.clamp(max=self._capacity - 1)] = rows_U
            blocks = torch.empty_like(out)
            dist.all_to_all_single(blocks, out, group=self._group)
            volume.add_blocks(self.world, out.shape[1] * ID_BYTES)
            # One copy to the host gives all the sizes needed below.
            headers = torch.cat([out[:, :_HEADER], blocks[:, :_HEADER]]).tolist()
            # Every worker receives the needed capacity of every other one, so that all of them
            # repeat the exchange, or none does: a collective must have the same calls everywhere.
            needed = max(header[_NEEDED] for header in headers)
            if needed > self._capacity:
                self._capacity = _with_spare(needed)
                continue
            kinds = [header[_ANNOUNCED] for header in headers[self.world :]]
            if len(set(kinds)) > 1:
                raise ValueError(
                    "all workers must announce the same kinds of deliveries, got "
                    f"{kinds} (1: writes_U, 2: observes_U, 3: both)"
                )
            counts = [header[:_KINDS] for header in headers]
            return counts[: self.world], counts[self.world :], blocks[:, _HEADER:]


def block_numbers(largest: float) -> float:
    """Return the int64 numbers per request block after some block has held `largest` ids."""
    return _HEADER + max(_with_spare(int(largest)), _FIRST_CAPACITY)


def _with_spare(needed: int) -> int:
    """Add a quarter, so that slowly growing requests rarely need larger blocks."""
    return needed + needed // 4


def _counts(counts_WK: list[list[int]], kinds: slice) -> list[int]:
    return [sum(counts_K[kinds]) for counts_K in counts_WK]


def _cut(blocks: Iterable[Tensor], counts_WK: list[list[int]], kinds: slice) -> Tensor:
    """Select the ids of some kinds from each worker's block, in rank order."""
    parts = []
    for block, counts_K in zip(blocks, counts_WK, strict=True):
        first = sum(counts_K[: kinds.start])
        parts.append(block[first : first + sum(counts_K[kinds])])
    return torch.cat(parts)
