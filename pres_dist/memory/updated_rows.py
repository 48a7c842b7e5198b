"""Exchange of updated rows: from their owners to readers, and gradients back.

The owner of a node updates its memory once for all readers of a step. A reader is a time slice:
a worker that computes several slices reads for each of them, because gradients of a row are
added in the order of slices. So sums have the same bits however slices are assigned to workers.

Shapes: W workers, L slices of each worker, U rows that this worker's slices read, one slice after
the other, X rows that all slices read from this worker, P distinct rows among them, F rows that
this worker reads without gradient, D row size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from pres_dist.memory.all_to_all import IdBlocks, RowMover, cut, occurrences
from pres_dist.memory.packing import RowLayout
from pres_dist.memory.placement import Placement
from pres_dist.memory.traffic import Traffic


@dataclass(frozen=True)
class Wanted:
    """Rows that this worker will request.

    Attributes:
        sizes: number of rows of each slice of this worker.
        order_UF: indices of all rows, sorted by owner and then by slice.
        ids_UF: their ids, in this order.
        sent_WK: number of them by owner and kind.
        is_marked: whether slices mark rows.
    """

    sizes: list[int]
    order_UF: Tensor
    ids_UF: Tensor
    sent_WK: Tensor
    is_marked: bool


@dataclass(frozen=True)
class ReadRows:
    """Rows that slices of all workers read in a step, as seen by one worker.

    Attributes:
        order_U: indices of the rows that this worker's slices read, sorted by owner and then by
            slice.
        order_UF: the same for all rows it reads: those of slices, then those without gradient.
        sent_W, received_W: number of rows that each worker reads from this one, and this one
            from it, with gradient.
        all_sent_W, all_received_W: number of all such rows.
        sizes: number of rows of each slice of this worker.
        nodes_P: distinct ids that are read from this worker, by shard and then by id.
        shards: number of them in each shard.
        place_X: the row of `nodes_P` at each place that slices read, by rank and then by slice.
        place_XF: the same for all places.
        readers: number of places of each slice of all workers, in this order.
        observed_P: bool, rows that a slice marked; None if no marks were given.
    """

    order_U: Tensor
    order_UF: Tensor
    sent_W: list[int]
    received_W: list[int]
    all_sent_W: list[int]
    all_received_W: list[int]
    sizes: list[int]
    nodes_P: Tensor
    shards: list[int]
    place_X: Tensor
    place_XF: Tensor
    readers: list[int]
    observed_P: Tensor | None


class UpdatedRows:
    """Moves updated rows and their gradients between owners and readers.

    `request`, `send` and `send_back` are collectives if there are several workers.

    Args:
        placement: owner and shard of each node; each worker has as many shards as slices.
        rank: rank of this worker.
        group: process group; None is the default one. A single worker needs none.
        traffic: counter of the rows and of their gradients, as pulled; None counts nothing.
    """

    def __init__(
        self,
        placement: Placement,
        rank: int,
        group: dist.ProcessGroup | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.placement, self.rank = placement, rank
        self._num_slices, self.traffic = placement.each, traffic or Traffic()
        self._blocks: IdBlocks | None = None
        if placement.world > 1:
            # Unmarked and marked rows of each slice, then rows without gradient.
            self._blocks = IdBlocks(2 * self._num_slices + 1, group)
            self._rows = RowMover(group)

    def wanted(
        self, slices: Sequence[Tensor], marks: Sequence[Tensor] | None, others_F: Tensor
    ) -> Wanted:
        """Sort the rows that this worker reads by owner.

        Args:
            slices: distinct ids that each slice of this worker reads.
            marks: bool for each of them, passed on to the owners; None marks none.
            others_F: distinct ids to read without gradient.
        """
        num_kinds, world = 2 * self._num_slices + 1, self.placement.world
        sizes = [part.numel() for part in slices]
        nodes_UF = torch.cat([*slices, others_F])
        kind_UF = torch.cat(
            [torch.full_like(part, 2 * number) for number, part in enumerate([*slices, others_F])]
        )
        if marks is not None:
            kind_UF[: sum(sizes)] += torch.cat([*marks])
        key_UF = self.placement.owner(nodes_UF) * num_kinds + kind_UF
        order_UF = torch.argsort(key_UF, stable=True)
        sent_WK = occurrences(key_UF, world * num_kinds).view(world, num_kinds)
        ids_UF = nodes_UF.index_select(0, order_UF)
        return Wanted(sizes, order_UF, ids_UF, sent_WK, marks is not None)

    def blocks(self, wanted: Wanted) -> Tensor:
        """Return the numbers [W, C] that tell each worker which of its rows this one reads."""
        if self._blocks is None:
            return wanted.sent_WK[:, :0]
        return self._blocks.pack(wanted.ids_UF, wanted.sent_WK)

    def request(self, wanted: Wanted, carried: tuple[Tensor, Tensor] | None = None) -> ReadRows:
        """Tell the owners which rows this worker reads.

        Args:
            wanted: the rows.
            carried: result of `blocks`, and the blocks that were received for it. Then this is a
                collective only if some block was too small.
        """
        sizes, order_UF, num_kinds = wanted.sizes, wanted.order_UF, wanted.sent_WK.shape[1]
        if self._blocks is None:
            sent = received = wanted.sent_WK.tolist()
            blocks = [wanted.ids_UF]
        else:
            ids_UF, sent_WK, volume = wanted.ids_UF, wanted.sent_WK, self.traffic.pull
            sent, received, blocks, _ = self._blocks.swap(ids_UF, sent_WK, 0, volume, carried)
        everything, of_slices = slice(0, num_kinds), slice(0, num_kinds - 1)
        nodes_XF = cut(blocks, received, everything)
        nodes_P, shards, place_XF = self._distinct(nodes_XF)
        place_X = cut(place_XF.split([sum(counts) for counts in received]), received, of_slices)
        return ReadRows(
            order_U=cut(order_UF.split([sum(counts) for counts in sent]), sent, of_slices),
            order_UF=order_UF,
            sent_W=[sum(counts[of_slices]) for counts in received],
            received_W=[sum(counts[of_slices]) for counts in sent],
            all_sent_W=[sum(counts) for counts in received],
            all_received_W=[sum(counts) for counts in sent],
            sizes=sizes,
            nodes_P=nodes_P,
            shards=shards,
            place_X=place_X,
            place_XF=place_XF,
            readers=[
                sum(counts[2 * number : 2 * number + 2])
                for counts in received
                for number in range(self._num_slices)
            ],
            observed_P=_marked(received, place_X, nodes_P.numel()) if wanted.is_marked else None,
        )

    def send(self, read: ReadRows, columns: Sequence[Tensor]) -> list[Tensor]:
        """Send columns [P, ...] of this worker's rows to their readers.

        Returns:
            columns [U + F, ...] of the rows that this worker reads, in the order of its request.
        """
        back_UF = torch.argsort(read.order_UF)
        if self._blocks is None:
            place_UF = read.place_XF.index_select(0, back_UF)
            return [column.detach().index_select(0, place_UF) for column in columns]
        layout = RowLayout(columns)
        self.traffic.pull.add_rows(read.all_received_W, self.rank, layout.num_bytes)
        rows = self._rows.move(layout, columns, read.place_XF, read.all_sent_W, read.all_received_W)
        return layout.unpack(rows, back_UF)

    def send_back(self, read: ReadRows, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Send gradients [U, ...] of the rows that slices read to the owners.

        Returns:
            columns [P, ...], the sums over the readers of each row, in the order of slices.
        """
        if self._blocks is None:
            arrived = [each.index_select(0, read.order_U) for each in gradients]
        else:
            layout = RowLayout(gradients)
            self.traffic.pull.add_rows(read.received_W, self.rank, layout.num_bytes)
            arrived = layout.columns(
                self._rows.move(layout, gradients, read.order_U, read.received_W, read.sent_W)
            )
        bounds = [*pairwise(accumulate(read.readers, initial=0))]
        summed = []
        for gradient_X in arrived:
            total_P = gradient_X.new_zeros(read.nodes_P.numel(), *gradient_X.shape[1:])
            # A slice reads a row at most once, so that each addition is one per row, in order.
            for start, stop in bounds:
                total_P.index_add_(0, read.place_X[start:stop], gradient_X[start:stop])
            summed.append(total_P)
        return summed

    def places(self, read: ReadRows, nodes_X: Tensor) -> Tensor:
        """Return the rows of `nodes_P` that hold the given nodes; any number for other nodes."""
        return torch.searchsorted(self._key(read.nodes_P), self._key(nodes_X))

    def _distinct(self, nodes_X: Tensor) -> tuple[Tensor, list[int], Tensor]:
        """Return distinct nodes by shard and id, their number by shard, and each node's place."""
        keys_P, place_X = torch.unique(self._key(nodes_X), return_inverse=True)
        if self._num_slices == 1:
            return keys_P, [keys_P.numel()], place_X
        num_nodes = self.placement.num_nodes
        shards = occurrences(keys_P // num_nodes, self._num_slices).tolist()
        return keys_P % num_nodes, shards, place_X

    def _key(self, nodes_X: Tensor) -> Tensor:
        """Return a key that sorts nodes by shard and then by id."""
        if self._num_slices == 1:
            return nodes_X
        return self.placement.shard(nodes_X) * self.placement.num_nodes + nodes_X


def _marked(received: list[list[int]], place_X: Tensor, num_rows: int) -> Tensor:
    """Return a mask of the rows at places whose kind is odd."""
    marked_P = torch.zeros(num_rows, dtype=torch.bool, device=place_X.device)
    first = 0
    for counts_K in received:
        for kind, count in enumerate(counts_K[:-1]):
            if kind % 2:
                marked_P.index_fill_(0, place_X[first : first + count], True)
            first += count
    return marked_P
