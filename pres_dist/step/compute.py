"""One step over a temporal batch: read, compute, write.

Training, evaluation and replay all go through here, so that they cannot differ
in what a query sees. Only training adds a backward pass between `forward` and
`commit`.

Shapes: B events, M negatives an event, U distinct nodes, P endpoints, D memory
size, R mailbox slots, A embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.events.tables import EventTables
from pres_dist.memory.state import NO_EVENT, MemoryStore, NodeState
from pres_dist.model.neighbourhood import NodeInputs
from pres_dist.model.tgn import TGN, UpdatedMemory
from pres_dist.model.updater import MailContext
from pres_dist.pres.correction import draw_rates
from pres_dist.sampling.neighbours import NeighbourSampler
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.gather import Gathered, gather, gather_endpoints
from pres_dist.step.mail import BatchMail, collect_mail
from pres_dist.step.stages import StageClock


@dataclass(frozen=True)
class Forward:
    """What a forward pass computed.

    Attributes:
        gathered: the distinct nodes and who reads them.
        updated: their memory after mail and correction.
        positive_B: logits of the events; empty in a replay.
        negative_BM: logits of the negatives; empty in a replay.
    """

    gathered: Gathered
    updated: UpdatedMemory
    positive_B: Tensor
    negative_BM: Tensor


class TemporalStep:
    """Runs temporal batches of one stream through a model and a memory store.

    Args:
        model: the TGN.
        store: node state; read in `forward`, written in `commit`.
        tables: columns of the stream.
        sampler: temporal neighbours.
        num_hops: hops that the embedding reads.
        sample_rates_seed: seed of draws from the transition mixture; None takes its mean.
        clock: adds up the time of the stages.
    """

    def __init__(
        self,
        model: TGN,
        store: MemoryStore,
        tables: EventTables,
        sampler: NeighbourSampler,
        num_hops: int,
        sample_rates_seed: int | None = None,
        clock: StageClock | None = None,
    ) -> None:
        self.model, self.store, self.tables, self.sampler = model, store, tables, sampler
        self.clock = clock or StageClock()
        self._num_hops = num_hops
        self._rates_seed = sample_rates_seed

    def forward(self, batch: TemporalBatch, negatives_BM: Tensor, epoch: int = 0) -> Forward:
        """Score the events and their negatives on the state from before the batch."""
        with self.clock("sample"):
            gathered = gather(batch, negatives_BM, self.sampler, self.tables, self._num_hops, epoch)
        updated = self._update(gathered.nodes_U)
        with self.clock("embed"):
            positive_B, negative_BM = self._score(gathered, updated, negatives_BM.shape)
        return Forward(gathered, updated, positive_B, negative_BM)

    def replay(self, batch: TemporalBatch) -> Forward:
        """Bring the memory of the batch's endpoints up to date without scoring anything."""
        with self.clock("sample"):
            gathered = gather_endpoints(batch)
        nothing = self.tables.t_E.new_empty(0, dtype=torch.float32)
        return Forward(gathered, self._update(gathered.nodes_U), nothing, nothing)

    @torch.no_grad()
    def commit(self, batch: TemporalBatch, forward: Forward, learn: bool) -> BatchMail:
        """Write the endpoints' memory and mail; with `learn`, also transition statistics."""
        with self.clock("push"):
            gathered, updated = forward.gathered, forward.updated
            if learn:
                self._observe_negatives(gathered, updated)
            rows_P, endpoint_2B = torch.unique(gathered.index_2B, return_inverse=True)
            mail = collect_mail(
                endpoint_2B,
                gathered.index_2B,
                batch.events_B,
                rows_P.numel(),
                self.store.num_slots,
            )
            state = self._new_state(rows_P, updated, mail)
            self.store.push(gathered.nodes_U.index_select(0, rows_P), state, learn)
            return mail

    def _update(self, nodes_U: Tensor) -> UpdatedMemory:
        with self.clock("pull"):
            pulled = self.store.pull(nodes_U, self._rates_seed is not None)
            state, transitions, rate_UD = pulled.state, pulled.transitions, None
            events_UR = state.mail_event_UR.clamp(min=0)
            context = MailContext(
                self.tables.times(events_UR), self.tables.edge_features(events_UR)
            )
        with self.clock("update"):
            if transitions is not None and transitions.mixture is not None:
                assert self._rates_seed is not None
                newest_U = state.mail_event_UR.amax(1)
                rate_UD = draw_rates(transitions.mixture, nodes_U, newest_U, self._rates_seed)
            return self.model.update_memory(state, context, transitions, rate_UD)

    def _score(
        self, gathered: Gathered, updated: UpdatedMemory, shape: torch.Size
    ) -> tuple[Tensor, Tensor]:
        features_Ud = self.tables.node_features(gathered.nodes_U)
        nodes = NodeInputs(updated.memory_UD, updated.last_update_U, features_Ud)
        embedded_QA = self.model.embed(nodes, gathered.hops)
        num_events, num_negatives = shape
        source_BA, true_BA, negative_A = embedded_QA.split(
            [num_events, num_events, num_events * num_negatives]
        )
        negative_BMA = negative_A.view(num_events, num_negatives, embedded_QA.shape[1])
        scores = self.model.score(source_BA, torch.cat([true_BA[:, None], negative_BMA], dim=1))
        return scores[:, 0].float(), scores[:, 1:].float()

    def _observe_negatives(self, gathered: Gathered, updated: UpdatedMemory) -> None:
        rows = torch.unique(gathered.index_BM)
        self.store.observe(
            gathered.nodes_U.index_select(0, rows),
            updated.memory_UD.index_select(0, rows),
            updated.last_update_U.index_select(0, rows),
        )

    def _new_state(self, rows_P: Tensor, updated: UpdatedMemory, mail: BatchMail) -> NodeState:
        memory_UD = updated.memory_UD.float()
        mail_memory_PRD = memory_UD.index_select(0, mail.other_PR.flatten())
        mail_memory_PRD = mail_memory_PRD.view(*mail.other_PR.shape, memory_UD.shape[1])
        return NodeState(
            memory_UD=memory_UD.index_select(0, rows_P),
            last_update_U=updated.last_update_U.index_select(0, rows_P),
            mail_memory_URD=mail_memory_PRD * (mail.event_PR != NO_EVENT)[:, :, None],
            mail_event_UR=mail.event_PR,
            mail_count_U=mail.count_P,
        )
