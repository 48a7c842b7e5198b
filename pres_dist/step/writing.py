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
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.forward import Forward
from pres_dist.step.mail import collect_mail
from pres_dist.step.plan import Plan


def write_step(
    store: MemoryStore, plan: Plan, pulled: Pulled, forwards: Sequence[Forward], learn: bool
) -> None:
    """Write the endpoints' memory and mail.

    With `learn`, the endpoints' transitions enter the statistics. The transitions of negatives
    are observed if the plan asks for it.

    Args:
        store: store to write to.
        plan: plan of the step.
        pulled: state that was read for it.
        forwards: forward passes of all parts of the plan.
        learn: whether to update transition statistics.
    """
    # Before the push: a transition is measured from the memory that the store still has.
    if plan.observes_V is not None:
        _observe_negatives(store, forwards)
    written = [
        _endpoints(store, part.batch, forward)
        for part, forward in zip(plan.parts, forwards, strict=True)
    ]
    nodes, state = joined_rows(written)
    if len(written) > 1:  # a node may have events in several parts
        nodes, state = merge_rows(nodes, state)
    if not plan.writes:  # all workers push, some of them nothing
        nothing = nodes.new_empty(0)
        nodes, state = nothing, state.rows(nothing)
    store.push(nodes, state, learn, pulled.version)
    deliver_mail(store, plan, forwards)


def deliver_mail(store: MemoryStore, plan: Plan, forwards: Sequence[Forward]) -> None:
    """Send mail to FIFO mailboxes: for an event, the sum of its endpoints' updated memory."""
    mail = plan.deliveries
    if mail is None:
        return
    both_BD = [
        forward.updated.memory_UD.float()
        .index_select(0, forward.gathered.index_2B)
        .view(2, -1, store.dim)
        .sum(0)
        for forward in forwards
    ]
    store.deliver(mail.nodes_X, mail.events_X, torch.cat(both_BD).index_select(0, mail.place_X))


def _observe_negatives(store: MemoryStore, forwards: Sequence[Forward]) -> None:
    """Pass the negatives' transitions to the store, once per node."""
    seen = []
    for forward in forwards:
        rows, updated = torch.unique(forward.gathered.index_BM), forward.updated
        columns = (forward.gathered.nodes_U, updated.memory_UD, updated.last_update_U)
        seen.append([column.index_select(0, rows) for column in columns])
    nodes, memory, last_update = (torch.cat(column) for column in zip(*seen, strict=True))
    if len(forwards) > 1:
        nodes, (memory, last_update) = first_of_each(nodes, memory, last_update)
    store.observe(nodes, memory, last_update)


def _endpoints(
    store: MemoryStore, batch: TemporalBatch, forward: Forward
) -> tuple[Tensor, NodeState]:
    """Return the endpoints of a part, and their new rows."""
    gathered = forward.gathered
    rows_P, endpoint_2B = torch.unique(gathered.index_2B, return_inverse=True)
    num_slots = 0 if store.rolling else store.num_slots
    state = new_rows(batch, forward, rows_P, endpoint_2B, num_slots)
    return gathered.nodes_U.index_select(0, rows_P), state


def new_rows(
    batch: TemporalBatch, forward: Forward, rows_P: Tensor, endpoint_2B: Tensor, num_slots: int
) -> NodeState:
    """Return the new rows of some distinct nodes of a part, with the mail of its events.

    Args:
        batch: events of the part.
        forward: its forward pass.
        rows_P: the nodes, as indices into the part's.
        endpoint_2B: index of each endpoint among these nodes.
        num_slots: R.
    """
    gathered, updated = forward.gathered, forward.updated
    # A node has one memory for all events of the batch, but one embedding per event.
    noted_2B, held_XD = gathered.index_2B, updated.memory_UD
    if forward.endpoints_2BD is not None:
        # Created on the device: copying it with `.to` would block.
        noted_2B = torch.arange(noted_2B.numel(), device=noted_2B.device)
        held_XD = forward.endpoints_2BD
    mail = collect_mail(
        endpoint_2B, noted_2B, batch.events_B, rows_P.numel(), num_slots, batch.valid_B
    )
    held_PRD = held_XD.float().index_select(0, mail.other_PR.flatten())
    held_PRD = held_PRD.view(*mail.other_PR.shape, held_XD.shape[1])
    return NodeState(
        memory_UD=updated.memory_UD.float().index_select(0, rows_P),
        last_update_U=updated.last_update_U.index_select(0, rows_P),
        mail_memory_URD=held_PRD * (mail.event_PR != NO_EVENT)[:, :, None],
        mail_event_UR=mail.event_PR,
        mail_count_U=mail.count_P,
    )
