"""Leaks planted in what a run is fed: negatives, features, parts of the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from pres_dist.events.split import Split
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.memory.state import Pulled
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.counter_rng import integers
from pres_dist.sampling.negatives import DrawnNegatives, NegativeSampler, destinations_of
from pres_dist.step.batches import TemporalLoader, batch_of
from pres_dist.step.forward import Forward
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan
from pres_dist.training import setup
from pres_dist.training.setup import Data, Parts
from pres_dist.training.tasks.task import Metrics
from pres_dist.training.trainer import Trainer
from tests.leaks.planting import Leak, plant
from tests.leaks.variants import NUM_EVENTS, TRAIN_END, VALIDATION_END

# Negatives


@plant("negatives of later destinations", "range of negatives")
def negatives_of_later_destinations() -> Leak:
    """Training draws negatives from destinations of the whole stream."""
    return mock.patch.object(
        setup, "destinations_of", lambda stream, kept=None: destinations_of(stream)
    )


@plant("negatives from all nodes", "range of negatives")
def negatives_from_all_nodes() -> Leak:
    """Sources and nodes without an event are drawn as negatives: an easy task."""

    def all_nodes(stream: EventStream, kept: Any = None) -> Tensor:
        return torch.arange(stream.num_nodes)

    return mock.patch.object(setup, "destinations_of", all_nodes)


@plant("true destination as negative", "range of negatives")
def true_destination_as_negative() -> Leak:
    """A negative may be the event's own destination."""

    def any_one(self: DrawnNegatives, uniform_BM: Tensor, dst_B1: Tensor) -> Tensor:
        return self._destinations[integers(uniform_BM, self._destinations.numel())]

    return mock.patch.object(DrawnNegatives, "_random", any_one)


@plant(
    "historical negatives of the future",
    "later event",
    sampling__negatives="historical",
    evaluation__negatives="historical",
)
def historical_negatives_of_the_future() -> Leak:
    """Historical negatives are drawn from all of a source's partners, met by then or not."""

    bounded = NegativeSampler._history

    def unbounded(self: NegativeSampler, src_B: Tensor, events_B: Tensor) -> list[Tensor]:
        everything = self._adjacency.history(src_B, torch.full_like(events_B, NUM_EVENTS))
        return [*everything, *bounded(self, src_B, events_B)[2:]]

    return mock.patch.object(NegativeSampler, "_history", unbounded)


@plant(
    "inductive negatives met in training", "range of negatives", evaluation__negatives="inductive"
)
def inductive_negatives_met_in_training() -> Leak:
    """Inductive negatives include pairs that training has met."""
    begin = NegativeSampler.__init__

    def forgetful(self: NegativeSampler, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        if self._kind == "inductive":
            self._train_pairs = self._train_pairs[:0]

    return mock.patch.object(NegativeSampler, "__init__", forgetful)


@plant("negatives by place in the batch", "cut of batches")
def negatives_by_place_in_the_batch() -> Leak:
    """Negatives are drawn by an event's place in its temporal batch, not by its id."""
    sample = NegativeSampler.sample

    def by_place(
        self: NegativeSampler,
        src_B: Tensor,
        dst_B: Tensor,
        events_B: Tensor,
        *args: Any,
        **options: Any,
    ) -> Tensor:
        return sample(self, src_B, dst_B, torch.arange(events_B.numel()), *args, **options)

    return mock.patch.object(NegativeSampler, "sample", by_place)


# Features, labels and constants


@plant("label as feature", "labels")
def label_as_feature() -> Leak:
    """The label column is added to the edge features."""
    begin = EventTables.__init__

    def with_labels(self: EventTables, stream: EventStream, *args: Any, **options: Any) -> None:
        assert stream.edge_features is not None
        assert stream.labels is not None
        features = stream.edge_features + stream.labels[:, None].astype(np.float32)
        begin(self, replace(stream, edge_features=features), *args, **options)

    return mock.patch.object(EventTables, "__init__", with_labels)


@plant("features of the scored event", "own time")
def features_of_the_scored_event() -> Leak:
    """The decoder is shown the event's own features, which negatives do not have."""
    score = BatchPipeline.forward

    def told(
        self: BatchPipeline, plan: Plan, pulled: Pulled, number: int = 0, *received: Any
    ) -> Forward:
        done = score(self, plan, pulled, number, *received)
        if not done.positive_B.numel():
            return done
        features = self.tables.edge_features(plan.parts[number].batch.events_B)
        assert features is not None
        return replace(done, positive_B=done.positive_B + features[:, 0])

    return mock.patch.object(BatchPipeline, "forward", told)


@plant("features standardized over all events", "later part")
def features_standardized_over_all_events() -> Leak:
    """Mean and deviation are those of the whole stream."""
    make_tables = setup._tables

    def over_all(stream: EventStream, kept: Any, scaled: bool, device: torch.device) -> EventTables:
        return make_tables(stream, range(NUM_EVENTS), scaled, device)

    return mock.patch.object(setup, "_tables", over_all)


@plant("time unit over all events", "later part")
def time_unit_over_all_events() -> Leak:
    """Times are scaled by the mean gap of the whole stream."""
    mean_gap = property(lambda self: float(np.diff(self.stream.t).mean()))
    return mock.patch.object(Data, "time_unit", mean_gap)


# Held-out nodes


@plant("held-out nodes in training", "nodes held out", data__held_out_share=0.15)
def held_out_nodes_in_training() -> Leak:
    """Events of held-out nodes are trained on."""
    return mock.patch.object(Split, "training_mask", return_value=None)


@plant("held-out nodes as neighbors", "nodes held out", data__held_out_share=0.15)
def held_out_nodes_as_neighbors() -> Leak:
    """Training finds neighbors in an adjacency that holds the events of held-out nodes."""
    begin = TemporalAdjacency.__init__

    def of_all(self: TemporalAdjacency, stream: EventStream, tables: EventTables, *_: Any) -> None:
        begin(self, stream, tables)

    return mock.patch.object(TemporalAdjacency, "__init__", of_all)


@plant("held-out nodes as negatives", "nodes held out", data__held_out_share=0.15)
def held_out_nodes_as_negatives() -> Leak:
    """Training draws negatives from destinations of all training events, the hidden among them."""

    def of_all(stream: EventStream, kept: Any = None) -> Tensor:
        return destinations_of(stream, None if kept is None else range(TRAIN_END))

    return mock.patch.object(setup, "destinations_of", of_all)


@plant("held-out nodes in mail", "nodes held out", data__held_out_share=0.15)
def held_out_nodes_in_mail() -> Leak:
    """Events of held-out nodes are not trained on, but their mail is delivered."""
    commit = BatchPipeline.commit

    def of_all(self: BatchPipeline, plan: Plan, pulled: Pulled, forwards: Any, learn: bool) -> Any:
        done = commit(self, plan, pulled, forwards, learn)
        if self.model.training:
            last = int(plan.parts[-1].batch.events_B[-1])
            passed = range(max(last - 20, 0), last + 1)
            hidden = self.plan_replay([batch_of(self.tables, torch.tensor(passed))])
            read = self.read(hidden)
            commit(self, hidden, read, [self.forward(hidden, read)], learn=False)
        return done

    return mock.patch.object(BatchPipeline, "commit", of_all)


# The parts of the stream


@plant("validation events trained on", "later part")
def validation_events_trained_on() -> Leak:
    """The sweep of training runs on into the validation split."""

    def too_far(self: Parts) -> TemporalLoader:
        return TemporalLoader(
            range(VALIDATION_END), self.data.stream.t, self.config.training.batch_size
        )

    return mock.patch.object(Parts, "train_loader", property(too_far))


@plant("best epoch by test", "later part")
def best_epoch_by_test() -> Leak:
    """The best epoch is the one with the best test AP."""

    def on_test(self: Trainer) -> Metrics:
        test, world = self.parts.data.split.test, self.parts.world.own_replica()
        return self._evaluator.after_epoch(test, world)

    return mock.patch.object(Trainer, "_validate", on_test)
