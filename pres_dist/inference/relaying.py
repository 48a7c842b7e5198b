"""Remapping of saved node state to a stream with more nodes.

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
"""Values in the rows of a node without events; 0 for all other columns."""


@dataclass(frozen=True)
class NodeNumbers:
    """Numbering of the nodes of a stream.

    Attributes:
        num_events: events of the stream.
        num_nodes: N.
        shifted: number of sources, if new sources shift the numbers of destinations; 0 if nodes
            keep their numbers.
    """

    num_events: int
    num_nodes: int
    shifted: int

    @classmethod
    def of(cls, stream: EventStream) -> NodeNumbers:
        """Return the numbering of a stream."""
        moves = stream.node_ids is not None or "destination_offset" in stream.metadata
        shifted = (stream.num_sources or 0) if moves else 0
        return cls(stream.num_events, stream.num_nodes, shifted)

    def in_other(self, other: NodeNumbers) -> Tensor:
        """Return the [N] numbers of these nodes in a stream with more nodes."""
        nodes = torch.arange(self.num_nodes)
        return nodes + (nodes >= self.shifted) * (other.shifted - self.shifted)


def relaid(memory: Mapping[str, Any], old: NodeNumbers, new: NodeNumbers) -> dict[str, Any]:
    """Return the state of a `LocalStore` for the nodes of a longer stream; new rows are empty."""
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
