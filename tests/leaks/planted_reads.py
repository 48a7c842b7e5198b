"""Leaks planted in what an event reads: neighbors, memory, statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from pres_dist.memory.local import LocalStore
from pres_dist.memory.state import MemoryStore, Pulled
from pres_dist.model.tgn import TGN
from pres_dist.parallel.world import World
from pres_dist.pres.statistics import POSITIVE
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.neighbors import Neighbors, NeighborSampler
from pres_dist.step import batches
from pres_dist.step.batches import TemporalLoader
from pres_dist.step.forward import Forward
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan
from pres_dist.training import evaluate_run as final
from pres_dist.training import trainer
from pres_dist.training.prefetch import Prefetch
from tests.leaks.planting import Leak, plant
from tests.leaks.variants import NUM_EVENTS, VALIDATION_END

# Neighbors


@plant("future neighbor", "later event")
def future_neighbor() -> Leak:
    """The sampler's bound is three events too late."""
    sample = NeighborSampler.sample

    def late(self: NeighborSampler, nodes_Q: Tensor, before_Q: Tensor, epoch: int = 0) -> Neighbors:
        return sample(self, nodes_Q, (before_Q + 3).clamp(max=NUM_EVENTS), epoch)

    return mock.patch.object(NeighborSampler, "sample", late)


@plant("same-time neighbor", "own time")
def same_time_neighbor() -> Leak:
    """The sampler stops at the event itself, and lets in others at its time."""

    def before_the_last(self: TemporalAdjacency, t_Q: Tensor) -> Tensor:
        return torch.searchsorted(self._tables.t_E, t_Q, right=True) - 1

    return mock.patch.object(TemporalAdjacency, "first_event_at", before_the_last)


@plant("own event as neighbor", "own time")
def own_event_as_neighbor() -> Leak:
    """The sampler's bound includes the time of the query."""

    def after_the_last(self: TemporalAdjacency, t_Q: Tensor) -> Tensor:
        return torch.searchsorted(self._tables.t_E, t_Q, right=True)

    return mock.patch.object(TemporalAdjacency, "first_event_at", after_the_last)


@plant("validation edges in training", "later part")
def validation_edges_in_training() -> Leak:
    """Neighbors in training come from an adjacency that holds validation events."""
    sample = NeighborSampler.sample

    def of_both(
        self: NeighborSampler, nodes_Q: Tensor, before_Q: Tensor, epoch: int = 0
    ) -> Neighbors:
        if epoch:  # only training counts epochs
            before_Q = torch.full_like(before_Q, VALIDATION_END)
        return sample(self, nodes_Q, before_Q, epoch)

    return mock.patch.object(NeighborSampler, "sample", of_both)


# Memory and mail


@plant("own-event mail", "own time")
def own_event_mail() -> Leak:
    """Mail of a temporal batch is applied before the batch is scored."""
    score = BatchPipeline.forward

    def late(
        self: BatchPipeline, plan: Plan, pulled: Pulled, number: int = 0, *received: Any
    ) -> Forward:
        done = score(self, plan, pulled, number, *received)
        with _as_it_was(self.store):
            self.commit(plan, pulled, [done], learn=False)
            again = score(self, plan, self.read(plan), number)
        return replace(done, positive_B=again.positive_B, negative_BM=again.negative_BM)

    return mock.patch.object(BatchPipeline, "forward", late)


@plant("pending events", "company")
def pending_events() -> Leak:
    """Each event reads memory that earlier events of its temporal batch have written."""
    score = BatchPipeline.forward

    def one_by_one(
        self: BatchPipeline, plan: Plan, pulled: Pulled, number: int = 0, *received: Any
    ) -> Forward:
        done = score(self, plan, pulled, number, *received)
        batch = plan.parts[number].batch
        if not done.gathered.hops:
            return done
        negatives_BM = done.gathered.nodes_U[done.gathered.index_BM]
        forwards = []
        with _as_it_was(self.store):
            for row in range(batch.num_events):
                event = slice(row, row + 1)
                own = self.plan([batch.part(event)], [negatives_BM[event]])
                read = self.read(own)
                forwards.append(score(self, own, read))
                self.commit(own, read, forwards[-1:], learn=False)
        return replace(
            done,
            positive_B=torch.cat([each.positive_B for each in forwards]),
            negative_BM=torch.cat([each.negative_BM for each in forwards]),
        )

    return mock.patch.object(BatchPipeline, "forward", one_by_one)


@plant("memory kept over epochs", "later part")
def memory_kept_over_epochs() -> Leak:
    """An epoch starts from the memory that the evaluation of the one before left."""
    return mock.patch.object(trainer, "begin_epoch")


@plant("hand-over of a later segment", "later event", parallel__replicas=2)
def hand_over_of_a_later_segment() -> Leak:
    """Every memory replica starts an epoch from the newest memory, that of the last segment."""

    def from_the_newest(store: MemoryStore, world: World, handover: str) -> None:
        store.load_state_dict(world.gather(store.state_dict())[-1])

    return mock.patch.object(trainer, "begin_epoch", from_the_newest)


@plant("replay of test events", "later part", evaluation__memory="replay")
def replay_of_test_events() -> Leak:
    """Replay rebuilds memory from the whole stream before validation is scored."""
    rebuild = final.replay

    def from_all(pipeline: BatchPipeline, loader: TemporalLoader, world: World) -> None:
        t = pipeline.tables.t_E.numpy()
        rebuild(pipeline, TemporalLoader(range(NUM_EVENTS), t, 7), world)

    return mock.patch.object(final, "replay", from_all)


@plant("reads newer than the staleness", "unread", memory__staleness=1, model__embedding="identity")
def reads_newer_than_the_staleness() -> Leak:
    """Reads wait for the push before them, whatever the bound is."""
    begin = Prefetch.__init__

    def prompt(self: Prefetch, prepare: Any, bound: int, *rest: Any) -> None:
        begin(self, prepare, 0, *rest)

    return mock.patch.object(Prefetch, "__init__", prompt)


@plant("statistics of the batch", "company")
def statistics_of_the_batch() -> Leak:
    """Scores are centered over the temporal batch, as batch normalization would."""
    score = TGN.score

    def centered(self: TGN, sources_BA: Tensor, destinations_BMA: Tensor, *past: Any) -> Tensor:
        return score(self, sources_BA - sources_BA.mean(0), destinations_BMA, *past)

    return mock.patch.object(TGN, "score", centered)


@plant("ties parted between batches", "own time")
def ties_parted_between_batches() -> Leak:
    """Temporal batches end wherever they are full; the rest of a tie reads what was written."""

    def anywhere(t: np.ndarray, batch_size: int) -> list[int]:
        return [*range(0, t.size, batch_size), t.size]

    return mock.patch.object(batches, "batch_bounds", anywhere)


# Statistics of PRES


@plant("statistics in evaluation", "trace of evaluation")
def statistics_in_evaluation() -> Leak:
    """Validation and test events enter the transition statistics."""
    commit = BatchPipeline.commit

    def learning(
        self: BatchPipeline, plan: Plan, pulled: Pulled, forwards: Any, learn: bool
    ) -> Any:
        return commit(self, plan, pulled, forwards, learn=True)

    return mock.patch.object(BatchPipeline, "commit", learning)


@plant("statistics of evaluation's negatives", "trace of evaluation", preset="paper")
def statistics_of_evaluation_negatives() -> Leak:
    """Negatives of validation and test enter the second mixture component."""
    make_plan = BatchPipeline.plan

    def observing(self: BatchPipeline, *args: Any, **options: Any) -> Plan:
        return make_plan(self, *args, **options | {"observes": True})

    return mock.patch.object(BatchPipeline, "plan", observing)


@plant("negatives as transitions", "number of negatives", pres__components=1)
@contextmanager
def negatives_as_transitions() -> Iterator[None]:
    """Transitions of negatives count as those of events."""

    plan = BatchPipeline.plan

    def of_all(*args: Any, observes: bool = False, **options: Any) -> Plan:
        return plan(*args, observes=True, **options)

    def as_positive(self: LocalStore, nodes_U: Tensor, memory_UD: Tensor, last_U: Tensor) -> None:
        self._observe(nodes_U, POSITIVE, memory_UD, last_U)

    with (
        mock.patch.object(BatchPipeline, "plan", of_all),
        mock.patch.object(LocalStore, "observe", as_positive),
    ):
        yield


@contextmanager
def _as_it_was(store: Any) -> Iterator[None]:
    """Puts a store back as it was; what was read inside stays with the reader."""
    state, version = deepcopy(store.state_dict()), store.version
    recent = list(store._recent)
    yield
    store.load_state_dict(state)
    store.version = version
    store._recent = recent
