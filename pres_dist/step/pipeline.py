"""The pipeline of one temporal batch: plan, read, compute, write.

Training, evaluation and replay all use this module, so their queries see the same data. Only
training adds a backward pass between `forward` and `commit`.

Shapes: B events, M negatives an event, U distinct nodes of a part, V of all parts, D memory
size, R mailbox slots, A embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pres_dist.events.tables import EventTables
from pres_dist.memory.state import NEVER, MemoryStore, Pulled
from pres_dist.model.history import Past
from pres_dist.model.neighborhood import NodeInputs
from pres_dist.model.shapes import Room
from pres_dist.model.tgn import (
    TGN,
    NodeMemory,
    ReceivedMemory,
    Unread,
    UpdatedMemory,
    predict_unread,
)
from pres_dist.model.updater import MailContext
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.counter_rng import Key
from pres_dist.sampling.event_log import EventLog, PairLog
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import TemporalBatch, joined
from pres_dist.step.forward import Forward, score_part
from pres_dist.step.gather import Gathered, gather, gather_endpoints, gather_queries
from pres_dist.step.history import Queries, around_hop, candidates_of, past_of
from pres_dist.step.mail import plan_deliveries
from pres_dist.step.plan import Plan, plan_parts, written_of
from pres_dist.step.stages import StageClock
from pres_dist.step.writing import write_step


@dataclass(eq=False, kw_only=True)
class BatchPipeline:
    """Runs temporal batches of one stream through a model and a memory store.

    Attributes:
        model: turns state and events into new state and scores.
        store: node state; read in `read`, written in `commit`.
        tables: columns of the stream.
        sampler: samples temporal neighbors.
        num_hops: number of hops that the embedding reads.
        mail_hops: number of hops over which mail is delivered, with FIFO mailboxes.
        reads_lag: whether state may be read before the previous batches are written.
        log: event log, for a decoder that reads it.
        room: fixed number of distinct nodes of a batch; None for as many as there are.
        clock: accumulates the time of each stage.
    """

    model: TGN
    store: MemoryStore
    tables: EventTables
    sampler: NeighborSampler
    num_hops: int
    mail_hops: int = 0
    reads_lag: bool = False
    log: EventLog | None = None
    room: Room | None = None
    clock: StageClock = field(default_factory=StageClock)

    def over(
        self, tables: EventTables, adjacency: TemporalAdjacency, pairs: PairLog | None = None
    ) -> BatchPipeline:
        """Return a pipeline that uses the same model and store on other events.

        Args:
            tables: columns of the events.
            adjacency: their adjacency.
            pairs: pair log of the events; required if the decoder reads the event log.
        """
        sampler, log = self.sampler.over(adjacency), self.log
        if log is not None:
            assert pairs is not None
            log = log.over(tables, sampler, pairs)
        return replace(self, tables=tables, sampler=sampler, log=log)

    def plan(
        self,
        parts: Sequence[TemporalBatch],
        negatives: Sequence[Tensor],
        epoch: Key = 0,
        writes: bool = True,
        observes: bool = False,
    ) -> Plan:
        """Plan the reads and writes of some time slices of a temporal batch.

        Args:
            parts: the slices.
            negatives: [B, M] destinations for each.
            epoch: key of uniform neighbor sampling.
            writes: whether this worker writes the endpoints' state.
            observes: whether the step will learn from the negatives' transitions.
        """
        gathered = [self._gather(*each, epoch) for each in zip(parts, negatives, strict=True)]
        plan = plan_parts(parts, gathered, writes, observes)
        if self.reads_lag:
            plan = replace(plan, unread_before=parts[0].first_event)
        return self._with_mail(plan)

    def plan_replay(self, parts: Sequence[TemporalBatch]) -> Plan:
        """Plan to update the memory of endpoints without scoring anything."""
        if self.model.message_endpoint == "memory":
            gathered = [gather_endpoints(batch) for batch in parts]
        else:
            none = [batch.src_B.new_empty(batch.num_events, 0) for batch in parts]
            gathered = [self._gather(*each, epoch=0) for each in zip(parts, none, strict=True)]
        return self._with_mail(plan_parts(parts, gathered, writes=True))

    def read(self, plan: Plan) -> Pulled:
        """Pull the state that the plan's nodes had before its batch."""
        return self.store.pull(plan.nodes_V, plan.writes_V, plan.observes_V)

    def forward(
        self,
        plan: Plan,
        pulled: Pulled,
        number: int = 0,
        received: ReceivedMemory | None = None,
    ) -> Forward:
        """Update memory and score the events and negatives of one part.

        Args:
            plan: plan of the step.
            pulled: state that was read for it; unused if the memory is received.
            number: the part.
            received: memory of its nodes if their owners update it; None to update it here.
        """
        part, gathered = plan.parts[number], plan.parts[number].gathered
        updated: UpdatedMemory | ReceivedMemory
        if received is not None:
            updated = received
        else:
            own = part.pulled(pulled)
            updated = self.update(gathered.nodes_U, own, plan.now, plan.unread_before)
        if not gathered.hops:
            nothing = self.tables.t_E.new_empty(0, dtype=torch.float32)
            return Forward(gathered, updated, nothing, nothing)
        with self.clock("embed"):
            nodes = self._seen(gathered, updated)
            embedded_QA, endpoints_2BD = self._embed(gathered, nodes)
            past = self._past(gathered, nodes)
            scored = score_part(self.model, self.tables, part, embedded_QA, past)
        return Forward(gathered, updated, *scored, endpoints_2BD)

    @torch.no_grad()
    def refresh(
        self, plan: Plan, pulled: Pulled, numbers: Sequence[int], forwards: Sequence[Forward]
    ) -> list[Forward]:
        """Recompute the state that some parts write, using the current weights.

        Args:
            plan: plan of the step.
            pulled: state that was read for it.
            numbers: the parts. If mail holds memory, each of their nodes is updated once.
            forwards: forward passes of all parts of the plan.
        """
        if self.model.message_endpoint == "memory":
            written = written_of(plan, numbers)
            own = pulled.rows(written.rows_U)
            updated = self.update(written.nodes_U, own, plan.now, plan.unread_before)
            return [
                replace(forwards[number], gathered=gathered, updated=updated)
                for number, gathered in zip(numbers, written.by_part, strict=True)
            ]
        refreshed = []
        for number in numbers:  # mail holds embeddings, which read neighbors as well
            part, own = plan.parts[number], plan.parts[number].pulled(pulled)
            updated = self.update(part.gathered.nodes_U, own, plan.now, plan.unread_before)
            _, endpoints_2BD = self._embed(part.gathered, self._seen(part.gathered, updated))
            refreshed.append(
                replace(forwards[number], updated=updated, endpoints_2BD=endpoints_2BD)
            )
        return refreshed

    @torch.no_grad()
    def memory(self, nodes_U: Tensor, now: Tensor) -> UpdatedMemory:
        """Return the memory of distinct nodes after applying their stored mail; write nothing.

        Args:
            nodes_U: int64 nodes.
            now: int64 reference time for the age of mail, with FIFO mailboxes.
        """
        pulled = self.store.pull(nodes_U)
        return self.update(nodes_U, pulled, now if self.store.rolling else None)

    @torch.no_grad()
    def query(self, nodes_Q: Tensor, t_Q: Tensor, now: Tensor) -> Queries:
        """Embed nodes, each at its own time, for scoring against others; write nothing.

        Queries read the current state of the store, and neighbors strictly before their time,
        like the endpoints of events.

        Args:
            nodes_Q: int64 nodes.
            t_Q: int64 times.
            now: as for `memory`; in evaluation the time of the first event of the batch.
        """
        gathered = gather_queries(nodes_Q, t_Q, self.sampler, self.tables, self.num_hops)
        pulled = self.store.pull(gathered.nodes_U)
        updated = self.update(gathered.nodes_U, pulled, now if self.store.rolling else None)
        nodes, hops = self._seen(gathered, updated), gathered.hops
        around = None
        if self.log is not None and self.log.common:
            around = around_hop(self.model.states(nodes), hops[0], gathered.nodes_U)
        return Queries(nodes_Q, t_Q, self.model.embed(nodes, hops), around)

    @torch.no_grad()
    def score(self, sources: Queries, candidates: Queries, place_BM: Tensor) -> Tensor:
        """Return [B, M] float32 logits of each source with its own candidates, at its own time.

        Args:
            sources: B sources.
            candidates: candidates, embedded at the times of their sources.
            place_BM: indices into the candidates; M may be 1.
        """
        embedded_QA, past = candidates.embedded_QA, None
        if self.log is not None:
            dst_BM = candidates.nodes_Q[place_BM]
            reads = self.log.read(sources.nodes_Q, dst_BM, sources.t_Q)
            around = candidates.around
            past = past_of(reads, None if around is None else around.at(place_BM.flatten()))
        return self.model.score(sources.embedded_QA, embedded_QA[place_BM], past).float()

    @torch.no_grad()
    def commit(self, plan: Plan, pulled: Pulled, forwards: Sequence[Forward], learn: bool) -> None:
        """Write the step's results with `write_step`."""
        with self.clock("push"):
            write_step(self.store, plan, pulled, forwards, learn)

    def _with_mail(self, plan: Plan) -> Plan:
        """Return the plan, with the mail it will send if mailboxes are FIFO."""
        if not self.store.rolling:
            return plan
        batch = joined([part.batch for part in plan.parts])
        now = self.tables.t_E[batch.first_event]
        batch = batch if plan.writes else batch.part(slice(0))
        mail = plan_deliveries(batch, self.sampler, self.mail_hops, self.store.num_slots)
        return replace(plan, deliveries=mail, now=now)

    def _gather(self, batch: TemporalBatch, negatives_BM: Tensor, epoch: Key) -> Gathered:
        hops, message_hops = self.num_hops, self.model.num_message_hops
        found = gather(
            batch,
            negatives_BM,
            self.sampler,
            self.tables,
            hops,
            epoch,
            message_hops,
            self.room,
        )
        if self.log is None or not negatives_BM.shape[1]:
            return found
        candidates_BM = torch.cat([batch.dst_B[:, None], negatives_BM], dim=1)
        near = None
        if found.hops and found.hops[0].index_QK.shape[1] and self.sampler.is_recent:
            hop, sources = found.hops[0], slice(batch.num_events)
            near = found.nodes_U[hop.index_QK[sources]], hop.mask_QK[sources]
        return replace(found, reads=self.log.read(batch.src_B, candidates_BM, batch.t_B, near))

    def update(
        self,
        nodes_U: Tensor,
        pulled: Pulled,
        now: Tensor | None,
        unread_before: int | None = None,
    ) -> UpdatedMemory:
        """Return the memory of distinct nodes after applying their mail.

        Args:
            nodes_U: the nodes.
            pulled: their state.
            now: reference time for the age of mail, with FIFO mailboxes.
            unread_before: as in `Plan`.
        """
        state, transitions = pulled.state, pulled.transitions
        with self.clock("update"):
            events_UR = state.mail_event_UR.clamp(min=0)
            own_UR = None if now is None else self.tables.is_endpoint(nodes_U[:, None], events_UR)
            times_UR, features = self.tables.times(events_UR), self.tables.edge_features(events_UR)
            context = MailContext(times_UR, features, own_UR, now)
            updated = self.model.update_memory(state, context, transitions)
            if unread_before is None or self.model.correction is None or transitions is None:
                return updated
            before_U = torch.full_like(nodes_U, unread_before)
            adjacency, last_update_U = self.sampler.adjacency, updated.last_update_U
            unread_U = unread_events(adjacency, self.tables, nodes_U, before_U, last_update_U)
            return predict_unread(self.model.correction, updated, transitions, unread_U)

    def _embed(self, gathered: Gathered, nodes: NodeInputs) -> tuple[Tensor, Tensor | None]:
        """Return [Q, A] embeddings of all queries, and the [2B, D] mail contents of endpoints."""
        embedded_QA = self.model.embed(nodes, gathered.hops)
        of_ends_2BA = embedded_QA[: gathered.index_2B.numel()]
        return embedded_QA, self.model.embed_for_messages(nodes, gathered.message_hops, of_ends_2BA)

    def _past(self, gathered: Gathered, nodes: NodeInputs) -> Past | None:
        """Return the event-log inputs of destinations and negatives; None without an event log."""
        if gathered.reads is None:
            return None
        if gathered.reads.around_BL is None:
            return past_of(gathered.reads, None)
        around = around_hop(self.model.states(nodes), gathered.hops[0], gathered.nodes_U)
        return past_of(gathered.reads, candidates_of(around, *gathered.index_BM.shape))

    def _seen(self, gathered: Gathered, updated: NodeMemory) -> NodeInputs:
        """Return the embedding's inputs for the distinct nodes."""
        known_U = gathered.nodes_U
        if self.room is not None:  # padding has no features: any row does
            known_U = known_U.clamp(max=self.room.padding - 1)
        features = self.tables.node_features(known_U)
        return NodeInputs(updated.read_UD, updated.last_update_U, features)


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
    start_Q = adjacency.end(nodes_Q, torch.minimum(seen_Q, before_Q))
    end_Q = adjacency.end(nodes_Q, before_Q)
    count_Q = torch.where(written_Q, end_Q - start_Q, 0)
    newest_Q = adjacency.event_at(nodes_Q, torch.where(count_Q > 0, end_Q - 1, 0))
    t_Q = tables.times(torch.where(count_Q > 0, newest_Q, 0))
    return Unread(torch.where(count_Q > 0, t_Q - last_update_Q, 0), count_Q)
