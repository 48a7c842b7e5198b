"""Node state laid out for more nodes than it was saved for.

Shapes: N nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pres_dist.events.stream import EventStream
from pres_dist.memory.state import NEVER, NO_EVENT

_EMPTY = {"last_update_U": NEVER, "mail_event_UR": NO_EVENT}
"""What the rows of a node without events hold; 0 where nothing is said."""


@dataclass(frozen=True)
class NodeNumbers:
    """How a stream numbers its nodes.

    Attributes:
        num_events: of the stream.
        num_nodes: N.
        shifted: sources before the first destination, where new sources move these; 0 where
            nodes keep their numbers.
    """

    num_events: int
    num_nodes: int
    shifted: int

    @classmethod
    def of(cls, stream: EventStream) -> NodeNumbers:
        """Those of a stream."""
        moves = stream.node_ids is not None or "destination_offset" in stream.metadata
        shifted = (stream.num_sources or 0) if moves else 0
        return cls(stream.num_events, stream.num_nodes, shifted)

    def in_other(self, other: NodeNumbers) -> Tensor:
        """[N] the numbers that nodes have in a stream with more of them."""
        nodes = torch.arange(self.num_nodes)
        return nodes + (nodes >= self.shifted) * (other.shifted - self.shifted)


def relaid(memory: Mapping[str, Any], old: NodeNumbers, new: NodeNumbers) -> dict[str, Any]:
    """The state of a `LocalStore` for the nodes of a longer stream; new ones are empty."""
    places = old.in_other(new)
    laid: dict[str, Any] = {}
    for part, tables in memory.items():
        laid[part] = {}
        for name, table in tables.items():
            if not table.shape[0]:  # statistics that are not kept
                laid[part][name] = table
                continue
            shape = (new.num_nodes, *table.shape[1:])
            rows = torch.full(shape, _EMPTY.get(name, 0), dtype=table.dtype, device=table.device)
            laid[part][name] = rows.index_copy(0, places.to(table.device), table)
    return laid
