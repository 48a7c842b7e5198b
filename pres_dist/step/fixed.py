"""Write the results of a step of fixed shapes (`training/fixed_step.py`).

Shapes: U distinct nodes and padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.memory.local import LocalStore
from pres_dist.memory.state import NodeState, Pulled, elapsed_since
from pres_dist.pres.statistics import NEGATIVE, POSITIVE
from pres_dist.step.forward import Forward
from pres_dist.step.plan import Plan
from pres_dist.step.writing import new_rows


@torch.no_grad()
def write_masked(
    store: LocalStore, plan: Plan, pulled: Pulled, forward: Forward, ok: Tensor
) -> None:
    """Write the results of a plan of one part, as `write_step` with `learn` does.

    All nodes of the plan are written; those that are not endpoints as they were. Transitions of
    length 0 do not count, so the others get this length.

    Args:
        store: store to write to.
        plan: plan of the step.
        pulled: state that was read for it, after all writes of earlier steps.
        forward: forward pass of its part.
        ok: bool scalar; nothing changes if it is False.
    """
    before, updated, nodes_U = pulled.state, forward.updated, plan.nodes_V
    row_U = torch.arange(nodes_U.numel(), device=nodes_U.device)
    index_2B, batch = forward.gathered.index_2B, plan.parts[0].batch
    after = new_rows(batch, forward, row_U, index_2B, store.num_slots)
    writes_U = plan.writes_V & ok
    statistics = store.statistics
    if statistics is not None:
        # Before the rows are written, as in `write_step`.
        observed = [(POSITIVE, writes_U)]
        if plan.observes_V is not None:
            observed.insert(0, (NEGATIVE, plan.observes_V & ok))
        elapsed_U = elapsed_since(before.last_update_U, updated.last_update_U)
        for component, counts_U in observed:
            statistics.observe(
                nodes_U,
                component,
                before.memory_UD,
                after.memory_UD,
                torch.where(counts_U, elapsed_U, 0),
                before.mail_count_U,
            )
    columns = zip(after.columns(), before.columns(), strict=True)
    store.put_back(
        nodes_U,
        NodeState.from_columns(
            torch.where(writes_U.view(-1, *[1] * (new.dim() - 1)), new, old) for new, old in columns
        ),
    )
