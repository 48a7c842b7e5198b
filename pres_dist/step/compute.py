"""One step over a temporal batch: plan, read, compute, write.

Training, evaluation and replay all use this module, so their queries see the same
data. Only training adds a backward pass between `forward` and
`commit`.

Shapes: B events, M negatives an event, U distinct nodes of a part, V of all parts, D memory
size, R mailbox slots, A embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from pres_dist.events.tables import EventTables
from pres_dist.memory.state import MemoryStore, Pulled
from pres_dist.model.history import Past
from pres_dist.model.neighborhood import Hop, NodeInputs
from pres_dist.model.pending import Unread, apply_pending, predict_pending, with_own_rows
from pres_dist.model.tgn import TGN, UpdatedMemory, predict_unread
from pres_dist.model.updater import MailContext, MeasuredMemory, MemoryUpdater
from pres_dist.pres.correction import draw_rates
from pres_dist.pres.transitions import TransitionRows
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.event_log import EventLog, PairLog
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import TemporalBatch, joined
from pres_dist.step.delivery import plan_deliveries
from pres_dist.step.forward import Forward
from pres_dist.step.gather import Gathered, gather, gather_endpoints, gather_queries
from pres_dist.step.history import Queries, around_hop, candidates_of, past_of
from pres_dist.step.mail import BatchMail
from pres_dist.step.plan import Plan, plan_parts, written_of
from pres_dist.step.scores import score_part
from pres_dist.step.stages import StageClock
from pres_dist.step.unread import unread_events
from pres_dist.step.writing import write_step


class TemporalStep:
    """Runs temporal batches of one stream through a model and a memory store.

    Args:
        model: turns state and events into new state and scores.
        store: node state; read in `read`, written in `commit`.
        tables: columns of the stream.
        sampler: samples temporal neighbors.
        num_hops: number of hops that the embedding reads.
        sample_rates_seed: seed for sampling the transition mixture; None uses its mean.
        clock: accumulates the time of each stage.
        reads_lag: whether state may be read before the previous batches are written.
        mail_hops: number of hops over which mail is delivered, with FIFO mailboxes.
        log: event log, for a decoder that reads it.
    """

    def __init__(
        self,
        model: TGN,
        store: MemoryStore,
        tables: EventTables,
        sampler: NeighborSampler,
        num_hops: int,
        sample_rates_seed: int | None = None,
        clock: StageClock | None = None,
        reads_lag: bool = False,
        mail_hops: int = 0,
        log: EventLog | None = None,
    ) -> None:
        self.model, self.store, self.tables, self.sampler = model, store, tables, sampler
        self.clock = clock or StageClock()
        self._num_hops = num_hops
        self._rates_seed = sample_rates_seed
        self._reads_lag = reads_lag
        self._mail_hops = mail_hops
        self.log = log

    def over(
        self, tables: EventTables, adjacency: TemporalAdjacency, pairs: PairLog | None = None
    ) -> TemporalStep:
        """Return a step that uses the same model and store on other events.

        Args:
            tables, adjacency: columns and adjacency of the events.
            pairs: pair log of the events; required if the decoder reads the event log.
        """
        other = copy(self)
        other.tables, other.sampler = tables, self.sampler.over(adjacency)
        if self.log is not None:
            assert pairs is not None
            other.log = self.log.over(tables, other.sampler, pairs)
        return other

    def plan(
        self,
        parts: Sequence[TemporalBatch],
        negatives: Sequence[Tensor],
        epoch: int = 0,
        first_event: int | None = None,
        writes: bool = True,
        observes: bool = False,
    ) -> Plan:
        """Plan the reads and writes of a step over some time slices of a temporal batch.

        Args:
            parts: the slices.
            negatives: [B, M] destinations for each.
            epoch: key of uniform neighbor sampling.
            first_event: first event of the whole batch; required if reads lag, or with FIFO
                mailboxes.
            writes: whether this worker writes the endpoints' state.
            observes: whether the step will learn from the negatives' transitions.
        """
        gathered = [
            self._gather(batch, negatives_BM, epoch)
            for batch, negatives_BM in zip(parts, negatives, strict=True)
        ]
        plan = plan_parts(parts, gathered, writes, observes)
        if self._reads_lag and first_event is not None:
            plan = replace(plan, first_event=first_event)
        return self._with_mail(plan, first_event)

    def plan_replay(self, parts: Sequence[TemporalBatch], first_event: int | None = None) -> Plan:
        """Plan a step that updates the memory of endpoints without scoring anything."""
        if self.model.message_endpoint == "memory":
            gathered = [gather_endpoints(batch) for batch in parts]
        else:
            none = [batch.src_B.new_empty(batch.num_events, 0) for batch in parts]
            gathered = [self._gather(*part, epoch=0) for part in zip(parts, none, strict=True)]
        return self._with_mail(plan_parts(parts, gathered, writes=True), first_event)

    def read(self, plan: Plan) -> Pulled:
        """Pull the state that the plan's nodes had before its batch."""
        return self.store.pull(plan.nodes_V, self._reads_mixture, plan.writes_V, plan.observes_V)

    def forward(self, plan: Plan, pulled: Pulled, number: int = 0) -> Forward:
        """Update memory and score the events and negatives of one part."""
        part, own = plan.parts[number], plan.parts[number].pulled(pulled)
        gathered = part.gathered
        updated = self._update(gathered.nodes_U, own, plan.first_event, plan.now)
        if not gathered.hops:
            nothing = self.tables.t_E.new_empty(0, dtype=torch.float32)
            return Forward(gathered, updated, nothing, nothing)
        with self.clock("embed"):
            read = self._seen(gathered, updated, own.transitions)
            embedded_QA, endpoints_2BD = self._embed(gathered, *read)
            past = self._past(gathered, *read[1:])
            scored = score_part(self.model, self.tables, part, embedded_QA, past)
        return Forward(gathered, updated, *scored, endpoints_2BD)

    @torch.no_grad()
    def refresh(
        self, plan: Plan, pulled: Pulled, numbers: Sequence[int], forwards: Sequence[Forward]
    ) -> list[Forward]:
        """Recompute the state that some parts write, using the current weights.

        Args:
            plan, pulled: plan and state of the step.
            numbers: the parts. If mail holds memory, each of their nodes is updated once.
            forwards: forward passes of all parts of the plan.
        """
        chosen = [forwards[number] for number in numbers]
        if self.model.message_endpoint == "memory":
            written = written_of(plan, numbers)
            own = pulled.rows(written.rows_U)
            updated = self._update(written.gathered.nodes_U, own, plan.first_event, plan.now)
            return [
                replace(forward, gathered=gathered, updated=updated)
                for forward, gathered in zip(chosen, written.by_part, strict=True)
            ]
        return [
            self._refresh_embedded(plan, pulled, *each)
            for each in zip(numbers, chosen, strict=True)
        ]

    def _refresh_embedded(
        self, plan: Plan, pulled: Pulled, number: int, forward: Forward
    ) -> Forward:
        """Repeat a part's forward pass: its mail holds embeddings, which read neighbors."""
        part, own = plan.parts[number], plan.parts[number].pulled(pulled)
        updated = self._update(part.gathered.nodes_U, own, plan.first_event, plan.now)
        read = self._seen(part.gathered, updated, own.transitions)
        _, endpoints_2BD = self._embed(part.gathered, *read)
        return replace(forward, updated=updated, endpoints_2BD=endpoints_2BD)

    @torch.no_grad()
    def memory(self, nodes_U: Tensor, now: Tensor) -> UpdatedMemory:
        """Return the memory of distinct nodes after applying their stored mail; write nothing.

        Args:
            nodes_U: int64 nodes.
            now: int64 reference time for the age of mail, with FIFO mailboxes.
        """
        pulled = self.store.pull(nodes_U, self._reads_mixture)
        return self._update(nodes_U, pulled, now=now if self.store.rolling else None)

    def embed(self, nodes_Q: Tensor, t_Q: Tensor, now: Tensor) -> Tensor:
        """Return [Q, A] embeddings of nodes, each at its own time; see `query`."""
        return self.query(nodes_Q, t_Q, now).embedded_QA

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
        gathered = gather_queries(nodes_Q, t_Q, self.sampler, self.tables, self._num_hops)
        pulled = self.store.pull(gathered.nodes_U, self._reads_mixture)
        now_if_rolling = now if self.store.rolling else None
        updated = self._update(gathered.nodes_U, pulled, now=now_if_rolling)
        _, seen, hops = self._seen(gathered, updated, pulled.transitions)
        around = None
        if self.log is not None and self.log.common:
            around = around_hop(self.model.states(seen), hops[0], gathered.nodes_U)
        return Queries(nodes_Q, t_Q, self.model.embed(seen, hops), around)

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
    def commit(
        self, plan: Plan, pulled: Pulled, forwards: Sequence[Forward], learn: bool
    ) -> list[BatchMail]:
        """Write the step's results with `write_step`; return the mail of each part."""
        with self.clock("push"):
            return write_step(self.store, plan, pulled, forwards, learn)

    def _with_mail(self, plan: Plan, first_event: int | None) -> Plan:
        """Return the plan, with the mail it will send if mailboxes are FIFO."""
        if not self.store.rolling:
            return plan
        batch = joined([part.batch for part in plan.parts])
        assert first_event is not None or not batch.num_events
        now = self.tables.t_E[first_event or 0]
        batch = batch if plan.writes else batch.part(slice(0))
        mail = plan_deliveries(batch, self.sampler, self._mail_hops, self.store.num_slots)
        return replace(plan, deliveries=mail, now=now)

    def _gather(self, batch: TemporalBatch, negatives_BM: Tensor, epoch: int) -> Gathered:
        hops, message_hops = self._num_hops, self.model.num_message_hops
        found = gather(batch, negatives_BM, self.sampler, self.tables, hops, epoch, message_hops)
        if self.log is None or not negatives_BM.shape[1]:
            return found
        candidates_BM = torch.cat([batch.dst_B[:, None], negatives_BM], dim=1)
        return replace(found, reads=self.log.read(batch.src_B, candidates_BM, batch.t_B))

    @property
    def _reads_mixture(self) -> bool:
        """True if the mixture components of the transitions are needed."""
        correction = self.model.correction
        return self._rates_seed is not None or (correction is not None and correction.needs_mixture)

    def _update(
        self,
        nodes_U: Tensor,
        pulled: Pulled,
        first_event: int | None = None,
        now: Tensor | None = None,
    ) -> UpdatedMemory:
        """Return the memory of distinct nodes after applying their mail.

        Args:
            nodes_U: the nodes.
            pulled: their state.
            first_event: first event of the batch, if reads lag behind it.
            now: time of the batch, with FIFO mailboxes.
        """
        state, transitions, rate_UD = pulled.state, pulled.transitions, None
        with self.clock("update"):
            context = self._mail_context(nodes_U, state.mail_event_UR.clamp(min=0), now)
            if transitions is not None and self._rates_seed is not None:
                assert transitions.mixture is not None
                newest_U = state.mail_event_UR.amax(1)
                rate_UD = draw_rates(transitions.mixture, nodes_U, newest_U, self._rates_seed)
            updated = self.model.update_memory(state, context, transitions, rate_UD)
            if first_event is None or self.model.correction is None or transitions is None:
                return updated
            before_U = torch.full_like(nodes_U, first_event)  # reads lag behind the batch
            unread_U = self._unread(nodes_U, before_U, updated.last_update_U)
            return predict_unread(self.model.correction, updated, transitions, unread_U)

    def _unread(self, nodes_Q: Tensor, before_Q: Tensor, last_update_Q: Tensor) -> Unread:
        adjacency = self.sampler.adjacency
        return unread_events(adjacency, self.tables, nodes_Q, before_Q, last_update_Q)

    def _mail_context(self, nodes_U: Tensor, events_UR: Tensor, now: Tensor | None) -> MailContext:
        tables = self.tables
        own_UR = None if now is None else tables.is_endpoint(nodes_U[:, None], events_UR)
        return MailContext(tables.times(events_UR), tables.edge_features(events_UR), own_UR, now)

    def _embed(
        self, gathered: Gathered, nodes: NodeInputs, seen: NodeInputs, hops: Sequence[Hop]
    ) -> tuple[Tensor, Tensor | None]:
        """Return [Q, A] embeddings of all queries, and the [2B, D] mail contents of endpoints."""
        embedded_QA = self.model.embed(seen, hops)
        of_ends_2BA = embedded_QA[: gathered.index_2B.numel()]
        return embedded_QA, self.model.embed_for_messages(nodes, gathered.message_hops, of_ends_2BA)

    def _past(self, gathered: Gathered, seen: NodeInputs, hops: Sequence[Hop]) -> Past | None:
        """Return the event-log inputs of destinations and negatives; None without an event log."""
        if gathered.reads is None:
            return None
        if gathered.reads.around_BL is None:
            return past_of(gathered.reads, None)
        around = around_hop(self.model.states(seen), hops[0], gathered.nodes_U)
        return past_of(gathered.reads, candidates_of(around, *gathered.index_BM.shape))

    def _seen(
        self, gathered: Gathered, updated: UpdatedMemory, transitions: TransitionRows | None
    ) -> tuple[NodeInputs, NodeInputs, Sequence[Hop]]:
        """Return the inputs of the distinct nodes, and those the queries read, each at its time."""
        features = self.tables.node_features(gathered.nodes_U)
        nodes = NodeInputs(updated.read_UD, updated.last_update_U, features)
        own = self._at_queries(gathered, nodes, transitions)
        return nodes, *(
            (nodes, gathered.hops) if own is None else with_own_rows(nodes, gathered.hops, own)
        )

    def _at_queries(
        self, gathered: Gathered, nodes: NodeInputs, transitions: TransitionRows | None
    ) -> MeasuredMemory | None:
        """Return memory of each query's node at its time; None if pending events are ignored."""
        hop, correction = gathered.hops[0], self.model.correction
        if self.model.pending == "apply":
            assert isinstance(self.model.updater, MemoryUpdater)
            return apply_pending(self.model.updater, nodes, hop, self.store.num_slots)
        if self.model.pending == "ignore" or correction is None or transitions is None:
            return None
        unread_Q = self._unread(
            gathered.nodes_U.index_select(0, hop.index_Q),
            self.sampler.adjacency.first_event_at(hop.t_Q),
            nodes.last_update_U.index_select(0, hop.index_Q),
        )
        return predict_pending(correction, nodes, hop.index_Q, transitions, unread_Q)
