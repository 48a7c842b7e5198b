"""Memory update at the owners: each node once, for all time slices that read it.

Like `BatchPipeline`, with other reads and writes: `plan` exchanges requests for nodes, `read`
takes an owner's rows from the store, `update` applies their mail and sends the results to the
slices, `backward` takes the gradients back through the update, and `commit` writes each owner's
own nodes. No mail is sent: an owner knows the events of the whole batch, and reads the memory of
its nodes' partners like a slice.

Shapes: P nodes that this worker updates, E endpoints among them, F partners of these at other
workers, Y endpoints of the batch, U nodes of a slice, B events, R mailbox slots, D memory size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.memory.sharded import ShardedStore
from pres_dist.memory.state import NO_EVENT, MemoryStore, NodeState, Pulled
from pres_dist.memory.updated_rows import ReadRows, UpdatedRows, Wanted
from pres_dist.model.tgn import ReceivedMemory, UpdatedMemory
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.forward import Forward
from pres_dist.step.mail import BatchMail, collect_mail
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan
from pres_dist.step.writing import deliver_mail


@dataclass(frozen=True)
class OwnerRequest:
    """Rows that this worker requests for a step, and its endpoints; needs no other worker.

    Attributes:
        rows: nodes of its slices, and partners of its endpoints.
        nodes_Y, is_own_Y, is_partner_Y: endpoints of the batch, which of them this worker owns,
            and which partners of these it does not own.
        own_E: indices of the endpoints that this worker owns.
        mail: mail of its own endpoints; `other_PR` are endpoints of the batch.
    """

    rows: Wanted
    nodes_Y: Tensor
    is_own_Y: Tensor
    is_partner_Y: Tensor
    own_E: Tensor
    mail: BatchMail


@dataclass(frozen=True)
class OwnerPlan:
    """Nodes that this worker updates and writes in a step.

    Attributes:
        rows: nodes that the slices of all workers read.
        place_E: endpoints of the batch that this worker owns, as indices into its rows.
        mail: their mail; `other_PR` are indices into this worker's rows and then the partners'.
    """

    rows: ReadRows
    place_E: Tensor
    mail: BatchMail


@dataclass(frozen=True)
class OwnUpdate:
    """Updated memory of this worker's nodes, and of the nodes its slices read.

    Attributes:
        plan: plan of the update.
        by_shard: memory of this worker's nodes, with the graph of the update.
        sent: the memory that was sent, and if it has a gradient the incoherence, of each shard.
        received: memory of the nodes of each slice, as leaves of their own graphs.
        partners_FD: memory of the partners of endpoints.
    """

    plan: OwnerPlan
    by_shard: Sequence[UpdatedMemory]
    sent: Sequence[Sequence[Tensor]]
    received: Sequence[ReceivedMemory]
    partners_FD: Tensor


class OwnerSide:
    """Updates the memory of this worker's nodes in training steps.

    Args:
        pipeline: pipeline of the training events.
        rows: exchange of updated rows.
        learns: whether the update has trainable weights.
        coheres: whether the loss includes the incoherence.
    """

    def __init__(
        self, pipeline: BatchPipeline, rows: UpdatedRows, learns: bool, coheres: bool
    ) -> None:
        self._pipeline, self._rows = pipeline, rows
        self._learns, self._coheres = learns, learns and coheres
        store = pipeline.store
        # The shard of a sharded store is at hand; other stores are asked for the nodes.
        self._shard: MemoryStore = store.shard if isinstance(store, ShardedStore) else store

    def request(self, plan: Plan, batch: TemporalBatch) -> OwnerRequest:
        """Collect the nodes that this worker's slices read.

        Args:
            plan: plan of the slices.
            batch: the whole temporal batch.
        """
        ends_2B = torch.cat([batch.src_B, batch.dst_B])
        nodes_Y, endpoint_2B = torch.unique(ends_2B, return_inverse=True)
        num, store = nodes_Y.numel(), self._pipeline.store
        num_slots = 0 if store.rolling else store.num_slots
        mail = collect_mail(endpoint_2B, endpoint_2B, batch.events_B, num, num_slots)
        is_own_Y = self._rows.placement.owner(nodes_Y) == self._rows.rank
        own_E = is_own_Y.nonzero().flatten()
        columns = (mail.event_PR, mail.other_PR, mail.count_P)
        mail = BatchMail(*(each.index_select(0, own_E) for each in columns))
        other_ER, full_ER = mail.other_PR, mail.event_PR != NO_EVENT
        # Marks and `where`, because selections by a mask would synchronize with a GPU. An extra
        # place takes the marks of others.
        remote_ER = full_ER & ~is_own_Y[other_ER]
        is_partner_Y = is_own_Y.new_zeros(num + 1)
        is_partner_Y.index_fill_(0, torch.where(remote_ER, other_ER, num).flatten(), True)
        is_partner_Y = is_partner_Y[:-1]
        partners_F = nodes_Y.index_select(0, is_partner_Y.nonzero().flatten())
        parts = [part.gathered.nodes_U for part in plan.parts]
        rows = self._rows.wanted(parts, self._observed(plan), partners_F)
        return OwnerRequest(rows, nodes_Y, is_own_Y, is_partner_Y, own_E, mail)

    def blocks(self, request: OwnerRequest) -> Tensor:
        """Return the numbers [W, C] that tell each worker what this one requests of it."""
        return self._rows.blocks(request.rows)

    def plan(
        self, request: OwnerRequest, carried: tuple[Tensor, Tensor] | None = None
    ) -> OwnerPlan:
        """Exchange the requests of all workers; a collective that reads no state.

        Args:
            request: the request of this worker.
            carried: result of `blocks`, and the blocks received for it, if another collective
                has exchanged them.
        """
        rows, mail = self._rows.request(request.rows, carried), request.mail
        place_Y = rows.nodes_P.numel() + request.is_partner_Y.cumsum(0) - 1
        own_Y = self._rows.places(rows, request.nodes_Y)
        place_Y = torch.where(request.is_own_Y, own_Y, place_Y)
        index_ER = torch.where(mail.event_PR != NO_EVENT, place_Y[mail.other_PR], 0)
        return OwnerPlan(
            rows,
            place_Y.index_select(0, request.own_E),
            BatchMail(mail.event_PR, index_ER, mail.count_P),
        )

    def read(self, own: OwnerPlan) -> Pulled:
        """Return the state of this worker's nodes from before the batch."""
        return self._shard.pull(self._places(own.rows.nodes_P))

    def update(self, own: OwnerPlan, pulled: Pulled, now: Tensor | None) -> OwnUpdate:
        """Apply the mail of this worker's nodes, and exchange the results; a collective."""
        updated, sent, first = [], [], 0
        for size in own.rows.shards:  # a shard has the same shapes on any number of workers
            rows = slice(first, first + size)
            part = pulled if size == own.rows.nodes_P.numel() else _narrow(pulled, rows)
            one = self._pipeline.update(own.rows.nodes_P[rows], part, now)
            with torch.set_grad_enabled(self._coheres):
                incoherence_P = one.incoherence_U
            updated.append(one)
            sent.append([one.memory_UD.float(), incoherence_P])
            first += size
        with self._pipeline.clock("pull"):
            columns = [*zip(*sent, strict=True), [one.last_update_U for one in updated]]
            arrived = self._rows.send(own.rows, [_joined(column) for column in columns])
            sizes = [*own.rows.sizes, len(arrived[0]) - sum(own.rows.sizes)]
            *parts, partners = zip(*(column.split(sizes) for column in arrived), strict=True)
        received = []
        for memory_UD, incoherence_U, last_update_U in parts:
            memory_UD = memory_UD.detach().requires_grad_(self._learns)
            incoherence_U = incoherence_U.detach().requires_grad_(self._coheres)
            received.append(ReceivedMemory(memory_UD, memory_UD, last_update_U, incoherence_U))
        return OwnUpdate(own, updated, sent, received, partners[0])

    def backward(self, update: OwnUpdate) -> Iterator[None]:
        """Take the gradients of received memory back through the update; a collective.

        Yields:
            after the backward pass of each shard, whose gradients are then in the weights.
        """
        if not self._learns:
            return
        with self._pipeline.clock("push"):
            rows = update.plan.rows
            gradients = zip(*(part.gradients() for part in update.received), strict=True)
            summed = self._rows.send_back(rows, [_joined(column) for column in gradients])
        by_shard = zip(*(column.split(rows.shards) for column in summed), strict=True)
        for sent, arrived in zip(update.sent, by_shard, strict=True):
            with self._pipeline.clock("backward"):
                learned = [each for each in sent if each.requires_grad]
                if learned:  # nothing of a shard without mail has a gradient
                    torch.autograd.backward(learned, [*arrived[: len(learned)]])
            yield

    @torch.no_grad()
    def commit(
        self, plan: Plan, pulled: Pulled, update: OwnUpdate, forwards: Sequence[Forward]
    ) -> None:
        """Write this worker's endpoints, and learn from the transitions of its nodes."""
        with self._pipeline.clock("push"):
            own = update.plan
            memory_PD = torch.cat([one.memory_UD.float() for one in update.by_shard])
            last_update_P = torch.cat([one.last_update_U for one in update.by_shard])
            places_P = self._places(own.rows.nodes_P)
            if own.rows.observed_P is not None:
                # Before the push: a transition is measured from the memory of before the batch.
                observed = own.rows.observed_P.nonzero().flatten()
                self._shard.observe(
                    *(
                        each.index_select(0, observed)
                        for each in (places_P, memory_PD, last_update_P)
                    )
                )
            mail, known_XD = own.mail, torch.cat([memory_PD, update.partners_FD])
            held_ERD = known_XD.index_select(0, mail.other_PR.flatten())
            held_ERD = held_ERD.view(*mail.other_PR.shape, known_XD.shape[1])
            state = NodeState(
                memory_UD=memory_PD.index_select(0, own.place_E),
                last_update_U=last_update_P.index_select(0, own.place_E),
                mail_memory_URD=held_ERD * (mail.event_PR != NO_EVENT)[:, :, None],
                mail_event_UR=mail.event_PR,
                mail_count_U=mail.count_P,
            )
            rows_E = places_P.index_select(0, own.place_E)
            self._shard.push(rows_E, state, True, pulled.version)
            self._rows.traffic.push.local_rows += rows_E.numel()
            deliver_mail(self._pipeline.store, plan, forwards)

    def _places(self, nodes_P: Tensor) -> Tensor:
        """Return the ids by which the store of this worker's rows knows the nodes."""
        if self._shard is self._pipeline.store:
            return nodes_P
        return self._rows.placement.row(nodes_P)

    def _observed(self, plan: Plan) -> list[Tensor] | None:
        """Return masks of the negatives of each slice, if their transitions are observed."""
        if not self._shard.observes:
            return None
        marks = []
        for part in plan.parts:
            mark_U = torch.zeros_like(part.gathered.nodes_U, dtype=torch.bool)
            mark_U[part.gathered.index_BM.flatten()] = True
            marks.append(mark_U)
        return marks


def _joined(column: Sequence[Tensor]) -> Tensor:
    return column[0] if len(column) == 1 else torch.cat([*column])


def _narrow(pulled: Pulled, rows: slice) -> Pulled:
    return Pulled.from_columns([column[rows] for column in pulled.columns()], pulled.version)
