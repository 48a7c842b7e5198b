"""Write the results of a step to the memory store: memory, mail and transitions.

Shapes: B events of a part, U distinct nodes of a part, P endpoints, X mails or mail
contents, R mailbox slots, D memory size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pres_dist.memory.merge import first_of_each, joined_rows, merge_rows
from pres_dist.memory.state import NO_EVENT, MemoryStore, NodeState, Pulled
from pres_dist.model.tgn import UpdatedMemory
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.delivery import both_ends
from pres_dist.step.forward import Forward
from pres_dist.step.mail import BatchMail, collect_mail
from pres_dist.step.plan import Plan


def write_step(
    store: MemoryStore, plan: Plan, pulled: Pulled, forwards: Sequence[Forward], learn: bool
) -> list[BatchMail]:
    """Write the endpoints' memory and mail; return each part's mail.

    With `learn`, the endpoints' transitions enter the statistics. The transitions of negatives
    are observed if the plan asks for it.

    Args:
        store: store to write to.
        plan, pulled: plan and state of the step.
        forwards: forward passes of all parts of the plan.
        learn: whether to update transition statistics.

    """
    if plan.observes_V is not None:
        _observe_negatives(store, forwards)
    mails, written = [], []
    for part, forward in zip(plan.parts, forwards, strict=True):
        mail, nodes_P, state = _endpoints(store, part.batch, forward)
        mails.append(mail)
        written.append((nodes_P, state))
    nodes, state = joined_rows(written)
    if len(written) > 1:
        nodes, state = merge_rows(nodes, state)
    if not plan.writes:
        nodes, state = nodes[:0], _rows(state, slice(0))
    store.push(nodes, state, learn, pulled.version)
    _deliver(store, plan, forwards)
    return mails


def _observe_negatives(store: MemoryStore, forwards: Sequence[Forward]) -> None:
    """Pass the negatives' transitions to the store, once per node."""
    seen = []
    for forward in forwards:
        rows = torch.unique(forward.gathered.index_BM)
        columns = (
            forward.gathered.nodes_U,
            forward.updated.memory_UD,
            forward.updated.last_update_U,
        )
        seen.append([column.index_select(0, rows) for column in columns])
    nodes, memory, last_update = (torch.cat(column) for column in zip(*seen, strict=True))
    if len(forwards) > 1:
        nodes, (memory, last_update) = first_of_each(nodes, memory, last_update)
    store.observe(nodes, memory, last_update)


def _endpoints(
    store: MemoryStore, batch: TemporalBatch, forward: Forward
) -> tuple[BatchMail, Tensor, NodeState]:
    """Return the mail, nodes and new rows of the endpoints of a part."""
    gathered = forward.gathered
    rows_P, endpoint_2B = torch.unique(gathered.index_2B, return_inverse=True)
    # A node has one memory for all events of the batch, but one embedding per event.
    noted_2B, held_XD = gathered.index_2B, forward.updated.memory_UD
    if forward.endpoints_2BD is not None:
        # Created on the device: copying it with `.to` would block.
        noted_2B = torch.arange(noted_2B.numel(), device=noted_2B.device)
        held_XD = forward.endpoints_2BD
    num_slots = 0 if store.rolling else store.num_slots
    mail = collect_mail(endpoint_2B, noted_2B, batch.events_B, rows_P.numel(), num_slots)
    state = _new_state(rows_P, forward.updated, mail, held_XD)
    return mail, gathered.nodes_U.index_select(0, rows_P), state


def _new_state(
    rows_P: Tensor, updated: UpdatedMemory, mail: BatchMail, held_XD: Tensor
) -> NodeState:
    memory_UD = updated.memory_UD.float()
    mail_memory_PRD = held_XD.float().index_select(0, mail.other_PR.flatten())
    mail_memory_PRD = mail_memory_PRD.view(*mail.other_PR.shape, memory_UD.shape[1])
    return NodeState(
        memory_UD=memory_UD.index_select(0, rows_P),
        last_update_U=updated.last_update_U.index_select(0, rows_P),
        mail_memory_URD=mail_memory_PRD * (mail.event_PR != NO_EVENT)[:, :, None],
        mail_event_UR=mail.event_PR,
        mail_count_U=mail.count_P,
    )


def _deliver(store: MemoryStore, plan: Plan, forwards: Sequence[Forward]) -> None:
    """Send the mail of the events: the sum of their endpoints' updated memory."""
    mail = plan.deliveries
    if mail is None:
        return
    both_BD = torch.cat(
        [both_ends(each.updated.memory_UD.float(), each.gathered.index_2B) for each in forwards]
    )
    store.deliver(mail.nodes_X, mail.events_X, both_BD.index_select(0, mail.place_X))


def _rows(state: NodeState, rows: slice) -> NodeState:
    return NodeState(**{name: column[rows] for name, column in vars(state).items()})
