"""Remapping of saved node state to a stream with more nodes.

Shapes: N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pres_dist.events.stream import EventStream
from pres_dist.memory.state import NEVER, NO_EVENT, Tables

_EMPTY = {"last_update_U": NEVER, "mail_event_UR": NO_EVENT}
"""Values in the rows of a node without events; 0 for all other columns."""


_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class NodeNumbering:
    """Numbering of the nodes of a stream.

    Attributes:
        num_events: events of the stream.
        num_nodes: N.
        shifted: number of sources, if new sources shift the numbers of destinations; 0 if nodes
            keep their numbers.
        bipartite: whether no node is both a source and a destination.
    """

    num_events: _Count
    num_nodes: _Count
    shifted: _Count
    bipartite: bool

    @classmethod
    def of(cls, stream: EventStream) -> NodeNumbering:
        """Return the numbering of a stream."""
        moves = stream.node_ids is not None or "destination_offset" in stream.metadata
        shifted = (stream.num_sources or 0) if moves else 0
        return cls(stream.num_events, stream.num_nodes, shifted, stream.bipartite)

    def in_other(self, other: NodeNumbering) -> Tensor:
        """Return the [N] numbers of these nodes in a stream with more nodes."""
        nodes = torch.arange(self.num_nodes)
        # Sources come first, so each new source moves all destinations up by one.
        return nodes + (nodes >= self.shifted) * (other.shifted - self.shifted)


def remap_nodes(memory: Tables, old: NodeNumbering, new: NodeNumbering) -> Tables:
    """Return the state of a `LocalStore` for the nodes of a longer stream; new rows are empty."""
    places = old.in_other(new)
    remapped: Tables = {}
    for part, tables in memory.items():
        remapped[part] = dict(tables)
        for name, table in tables.items():
            if table.shape[0]:  # statistics that are not kept have no rows
                rows = table.new_full((new.num_nodes, *table.shape[1:]), _EMPTY.get(name, 0))
                remapped[part][name] = rows.index_copy(0, places.to(table.device), table)
    return remapped
