"""All-to-all exchange of blocks of ids, and of packed rows.

All blocks of ids have the same capacity, so that sizes need no extra exchange. If a worker
needs more capacity, all workers read this from the headers and repeat the exchange with larger
blocks; later exchanges keep the larger size.

Shapes: W workers, U ids that this worker sends, X that it receives, K kinds of ids, C capacity of
a block in ids, Y bytes of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from pres_dist.memory.packing import Buffer, RowLayout
from pres_dist.memory.traffic import Volume

ID_BYTES = 8
_FIRST_CAPACITY = 64


class IdBlocks:
    """Exchanges one block of ids between any two workers, in one all-to-all if it is large enough.

    The header of a block holds the number of ids of each kind, the needed capacity and a flag.

    Args:
        num_kinds: K.
        group: process group; None is the default one.
    """

    def __init__(self, num_kinds: int, group: dist.ProcessGroup | None = None) -> None:
        self._num_kinds, self._group = num_kinds, group
        self._world = dist.get_world_size(group)
        self._capacity = _FIRST_CAPACITY

    def pack(self, ids_U: Tensor, sent_WK: Tensor, flag: int = 0) -> Tensor:
        """Return a block for each worker. See `swap` for the arguments."""
        num_kinds, world = self._num_kinds, self._world
        header = num_kinds + 2
        sent_W = sent_WK.sum(1)
        to_U = torch.arange(world, device=ids_U.device).repeat_interleave(
            sent_W, output_size=ids_U.numel()
        )
        start_U = (sent_W.cumsum(0) - sent_W).index_select(0, to_U)
        place_U = torch.arange(ids_U.numel(), device=ids_U.device) - start_U
        out = ids_U.new_zeros(world, header + self._capacity)
        out[:, :num_kinds] = sent_WK
        out[:, num_kinds] = sent_W.max()
        out[:, num_kinds + 1] = flag
        # If a block is too small, excess ids overwrite its last place. The block is not
        # read then, and no check has to synchronize with the device.
        out[to_U, header + place_U.clamp(max=self._capacity - 1)] = ids_U
        return out

    def swap(
        self,
        ids_U: Tensor,
        sent_WK: Tensor,
        flag: int,
        volume: Volume,
        carried: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[list[list[int]], list[list[int]], list[Tensor], list[int]]:
        """Send each worker its ids.

        Args:
            ids_U: ids, sorted by receiver and then by kind.
            sent_WK: number of ids for each worker and kind.
            flag: a number for the receivers.
            volume: counter for the ids.
            carried: blocks that another collective has sent and received for these arguments.

        Returns:
            numbers of sent and of received ids by worker and kind, the block received from each
            worker, and the workers' flags.
        """
        num_kinds, world = self._num_kinds, self._world
        header, needed_at = num_kinds + 2, num_kinds
        while True:
            if carried is None:
                out = self.pack(ids_U, sent_WK, flag)
                blocks = torch.empty_like(out)
                dist.all_to_all_single(blocks, out, group=self._group)
            else:
                (out, blocks), carried = carried, None
            volume.add_blocks(world, out.shape[1] * ID_BYTES)
            # One copy to the host gives all the sizes needed below.
            headers = torch.cat([out[:, :header], blocks[:, :header]]).tolist()
            # Every worker receives the needed capacity of every other one, so that all of them
            # repeat the exchange, or none does: a collective must have the same calls everywhere.
            needed = max(each[needed_at] for each in headers)
            if needed > out.shape[1] - header:
                self._capacity = max(self._capacity, _with_spare(needed))
                continue
            counts = [each[:num_kinds] for each in headers]
            flags = [each[needed_at + 1] for each in headers[world:]]
            received = [*blocks[:, header:].unbind()]
            return counts[:world], counts[world:], received, flags


class RowMover:
    """Exchanges packed rows between workers.

    Args:
        group: process group; None is the default one.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self._out, self._in = Buffer(), Buffer()

    def move(
        self,
        layout: RowLayout,
        columns: Sequence[Tensor],
        order_U: Tensor | None,
        sent_W: list[int],
        received_W: list[int],
    ) -> Tensor:
        """Send rows of the columns; return the received [X, Y] rows, valid until the next call.

        Args:
            layout: layout of the columns.
            columns: rows to send.
            order_U: indices of the rows in the order in which they are sent; None for all in order.
            sent_W, received_W: number of rows to and from each worker.
        """
        device, num_bytes = columns[0].device, layout.num_bytes
        sent_UY = self._out.rows(sum(sent_W), num_bytes, device)
        layout.pack(columns, order_U, sent_UY)
        received_XY = self._in.rows(sum(received_W), num_bytes, device)
        dist.all_to_all_single(received_XY, sent_UY, received_W, sent_W, group=self._group)
        return received_XY


def block_numbers(largest: float, num_kinds: int) -> float:
    """Return the int64 numbers per block after some block has held `largest` ids."""
    return num_kinds + 2 + max(_with_spare(int(largest)), _FIRST_CAPACITY)


def occurrences(key_U: Tensor, size: int) -> Tensor:
    """Count each number below `size`; `bincount` would synchronize with a GPU."""
    return key_U.new_zeros(size).index_add_(0, key_U, torch.ones_like(key_U))


def cut(blocks: Iterable[Tensor], counts_WK: list[list[int]], kinds: slice) -> Tensor:
    """Select the ids of some consecutive kinds from each worker's block, in rank order."""
    parts = []
    for block, counts_K in zip(blocks, counts_WK, strict=True):
        first = sum(counts_K[: kinds.start])
        parts.append(block[first : first + sum(counts_K[kinds])])
    return torch.cat(parts)


def _with_spare(needed: int) -> int:
    """Add a quarter, so that slowly growing requests rarely need larger blocks."""
    return needed + needed // 4
