"""Query states that include the pending events of their node.

The memory that a temporal batch reads is from before the batch. A query's node may have
events between that time and the query. The updater can apply them for this query only. The
written state does not change: the messages of the batch are applied when the next batch reads
them.

Shapes: U distinct nodes, Q queries, K neighbors, D memory size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pres_dist.model.neighborhood import Hop, NodeInputs
from pres_dist.model.updater import MeasuredMemory, MemoryUpdater


def apply_pending(updater: MemoryUpdater, nodes: NodeInputs, hop: Hop, num: int) -> MeasuredMemory:
    """Apply the last `num` pending events of each query's node to its memory, oldest first.

    The other endpoint's memory is from before the batch. Events are taken from the
    query's neighbors, so none is later than the query.

    Args:
        updater: applies a message.
        nodes: the distinct nodes.
        hop: the queries and their most recent neighbors.
        num: largest number of events.
    """
    state_QD = nodes.memory_UD.index_select(0, hop.index_Q)
    known_until_Q = last_update_Q = nodes.last_update_U.index_select(0, hop.index_Q)
    edges = hop.edges
    measured = MeasuredMemory(state_QD, last_update_Q)
    num_slots = hop.index_QK.shape[1]
    for slot in range(max(num_slots - num, 0), num_slots):
        pending_Q = hop.mask_QK[:, slot] & (hop.t_QK[:, slot] > known_until_Q)
        rows = pending_Q.nonzero().flatten()
        measured = updater.advance(
            measured,
            rows,
            nodes.memory_UD.index_select(0, hop.index_QK[rows, slot]),
            None if edges is None else edges.table_Xd[edges.index_QK[rows, slot]],
            hop.t_QK[rows, slot],
        )
    return measured


def with_own_rows(
    nodes: NodeInputs, hops: Sequence[Hop], own: MeasuredMemory
) -> tuple[NodeInputs, list[Hop]]:
    """Give each query of the first hop its own row.

    Args:
        nodes: the distinct nodes.
        hops: hops that the embedding reads.
        own: memory of each query's node at the time of the query.

    Returns:
        inputs with the queries' rows after the nodes' rows, and hops that read them.
    """
    index_Q = hops[0].index_Q
    num_nodes, num_queries = nodes.memory_UD.shape[0], index_Q.numel()
    own_Q = num_nodes + torch.arange(num_queries, device=index_Q.device)
    features_Ud = nodes.features_Ud
    if features_Ud is not None:
        features_Ud = torch.cat([features_Ud, features_Ud.index_select(0, index_Q)])
    both = NodeInputs(
        torch.cat([nodes.memory_UD, own.memory_UD]),
        torch.cat([nodes.last_update_U, own.last_update_U]),
        features_Ud,
    )
    return both, [
        replace(hop, index_Q=torch.cat([own_Q, hop.index_Q[num_queries:]])) for hop in hops
    ]
