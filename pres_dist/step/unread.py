"""Events that the memory of a node does not include yet."""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.events.tables import EventTables
from pres_dist.memory.state import NEVER
from pres_dist.model.pending import Unread
from pres_dist.sampling.adjacency import TemporalAdjacency


def unread_events(
    adjacency: TemporalAdjacency,
    tables: EventTables,
    nodes_Q: Tensor,
    before_Q: Tensor,
    last_update_Q: Tensor,
) -> Unread:
    """Return the events of nodes after their last update and before an event id.

    A node whose memory was never written has none: there is no state that they could change.

    Args:
        adjacency: histories that may be read.
        tables: times of events.
        nodes_Q: int64 nodes.
        before_Q: int64 event ids.
        last_update_Q: int64 time of the newest event in each node's memory.
    """
    written_Q = last_update_Q != NEVER
    seen_Q = adjacency.first_event_at(torch.where(written_Q, last_update_Q + 1, 0))
    _, start_Q = adjacency.history(nodes_Q, torch.minimum(seen_Q, before_Q))
    _, end_Q = adjacency.history(nodes_Q, before_Q)
    count_Q = torch.where(written_Q, end_Q - start_Q, 0)
    newest_Q = adjacency.event_at(nodes_Q, torch.where(count_Q > 0, end_Q - 1, 0))
    t_Q = tables.times(torch.where(count_Q > 0, newest_Q, 0))
    return Unread(torch.where(count_Q > 0, t_Q - last_update_Q, 0), count_Q)
