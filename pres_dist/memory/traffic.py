"""Counts of what moves between a worker and the owners of nodes.

Shapes: W workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Volume:
    """Rows that one worker sent or asked for, and the bytes that moved for it.

    Bytes are those of the ids and of the rows, with all that travels beside them:
    headers of id blocks and the empty places in them.

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
        self.local_bytes += counts_W[rank] * bytes_per_row
        self.remote_bytes += (sum(counts_W) - counts_W[rank]) * bytes_per_row

    def add_blocks(self, world: int, bytes_per_block: int) -> None:
        """Count a block of ids to every worker."""
        self.local_bytes += bytes_per_block
        self.remote_bytes += (world - 1) * bytes_per_block


@dataclass
class Traffic:
    """What one worker sent and asked for, by the verb of the store."""

    pull: Volume = field(default_factory=Volume)
    push: Volume = field(default_factory=Volume)
    observe: Volume = field(default_factory=Volume)

    @property
    def local_bytes(self) -> int:
        return sum(volume.local_bytes for volume in vars(self).values())

    @property
    def remote_bytes(self) -> int:
        return sum(volume.remote_bytes for volume in vars(self).values())

    def reset(self) -> None:
        for verb in vars(self):
            setattr(self, verb, Volume())
