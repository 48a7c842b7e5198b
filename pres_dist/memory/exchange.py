"""All-to-all exchange of node-state rows between workers and row owners.

Every exchange is a collective of the process group: all workers call it in the same
order, each with any number of rows, including none.

A request sends each owner a block of ids (`IdBlocks`), sorted by kind of later delivery, so
that a delivery sends no ids.

Shapes: W workers, U rows that this worker requests, X rows requested from it, P rows
that it delivers, K kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pres_dist.memory.all_to_all import IdBlocks, RowMover, cut, occurrences
from pres_dist.memory.packing import RowLayout
from pres_dist.memory.placement import Placement
from pres_dist.memory.traffic import Volume

KINDS = 4
"""Kinds of ids in a block: written, written and observed, observed, neither. In this order,
the written ids and the observed ids are both contiguous ranges."""
_WRITTEN, _OBSERVED, _ALL = slice(0, 2), slice(1, 3), slice(0, KINDS)


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
        if same and nodes_P.device.type == "cpu":  # comparing would synchronize with the GPU
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
        self.placement = placement
        self._blocks, self._rows = IdBlocks(KINDS, group), RowMover(group)

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
        key_U = self.placement.owner(nodes_U) * KINDS + kind_U
        order_U = torch.argsort(key_U, stable=True)
        sent_WK = occurrences(key_U, self.world * KINDS).view(self.world, KINDS)
        announced = (writes_U is not None) + 2 * (observes_U is not None)
        rows_U = self.placement.row(nodes_U).index_select(0, order_U)
        sent, received, blocks, flags = self._blocks.swap(rows_U, sent_WK, announced, volume)
        if len(set(flags)) > 1:
            raise ValueError(
                "all workers must announce the same kinds of deliveries, got "
                f"{flags} (1: writes_U, 2: observes_U, 3: both)"
            )

        def routed(kinds: slice) -> tuple[list[int], list[int], Tensor]:
            rows_X = cut(blocks, received, kinds)
            return _counts(sent, kinds), _counts(received, kinds), rows_X

        def delivery(mask_U: Tensor | None, kinds: slice) -> Delivery | None:
            if mask_U is None:
                return None
            places_P = cut(order_U.split([sum(counts) for counts in sent]), sent, kinds)
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
        rows_UY = self._rows.move(layout, columns, None, request.received_W, request.sent_W)
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
            self._rows.move(layout, columns, delivery.order_U, sent_W, delivery.received_W)
        )


def _counts(counts_WK: list[list[int]], kinds: slice) -> list[int]:
    return [sum(counts_K[kinds]) for counts_K in counts_WK]
