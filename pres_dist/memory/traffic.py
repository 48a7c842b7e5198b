"""Counters of the traffic between a worker and the owners of nodes.

Shapes: W workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Volume:
    """Rows that one worker sent or requested, and the bytes transferred for them.

    Bytes include ids, rows, the headers of id blocks and unused places in the blocks.

    Attributes:
        local_rows: rows of its own shard, which do not leave the process.
        remote_rows: rows of other workers' shards.
    """

    local_rows: int = 0
    remote_rows: int = 0
    local_bytes: int = 0
    remote_bytes: int = 0

    def add_rows(self, counts_W: Sequence[int], rank: int, bytes_per_row: int) -> None:
        """Count rows, given per owner, and their bytes."""
        self.local_rows += counts_W[rank]
        self.remote_rows += sum(counts_W) - counts_W[rank]
        self.local_bytes += counts_W[rank] * bytes_per_row
        self.remote_bytes += (sum(counts_W) - counts_W[rank]) * bytes_per_row

    def add_blocks(self, world: int, bytes_per_block: int) -> None:
        """Count one block of ids to every worker."""
        self.local_bytes += bytes_per_block
        self.remote_bytes += (world - 1) * bytes_per_block


@dataclass
class Traffic:
    """Traffic of one worker, by method of the store."""

    pull: Volume = field(default_factory=Volume)
    push: Volume = field(default_factory=Volume)
    observe: Volume = field(default_factory=Volume)

    @property
    def local_bytes(self) -> int:
        """Bytes of this worker's own shard."""
        return sum(volume.local_bytes for volume in vars(self).values())

    @property
    def remote_bytes(self) -> int:
        """Bytes to and from other workers' shards."""
        return sum(volume.remote_bytes for volume in vars(self).values())

    def reset(self) -> None:
        """Set all counters to 0."""
        for verb in vars(self):
            setattr(self, verb, Volume())
