"""Leaks planted in what a decoder reads of the event log, one for every number; and in mixtures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from pres_dist.config.run import RunConfig
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.event_log import EventLog, numbers_of
from pres_dist.sampling.mixture import PopularNegatives
from pres_dist.sampling.negatives import NegativeSampler
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.training import logs, setup
from tests.leaks.planting import Leak, plant
from tests.leaks.variants import NUM_EVENTS, TRAIN_END

_HISTORY = {"model__decoder": "history"}
_TOO_LATE = 40
"""Events: so many later ones change every number of some query."""


def number_of_later_events(place: int) -> Leak:
    """A number counts events after the query."""
    read = EventLog.numbers

    def late(
        self: EventLog, src_B: Tensor, dst_BM: Tensor, t_B: Tensor, before_B: Tensor
    ) -> Tensor:
        numbers_BMF = read(self, src_B, dst_BM, t_B, before_B)
        later_B = (before_B + _TOO_LATE).clamp(max=NUM_EVENTS)
        after_B = self.tables.times(later_B - 1) + 1
        numbers_BMF[..., place] = read(self, src_B, dst_BM, after_B, later_B)[..., place]
        return numbers_BMF

    return mock.patch.object(EventLog, "numbers", late)


for _place, _name in enumerate(numbers_of(bipartite=False)):
    _make = partial(number_of_later_events, _place)
    _make.__doc__ = f"{_name} counts events after the query."
    plant(f"event log: {_name}", "later event", **_HISTORY)(_make)


@plant("event log of the query's own time", "own time", **_HISTORY)
def event_log_of_the_own_time() -> Leak:
    """Events at the time of the query count."""
    read = EventLog.numbers

    def late(
        self: EventLog, src_B: Tensor, dst_BM: Tensor, t_B: Tensor, before_B: Tensor
    ) -> Tensor:
        after_B = self.sampler.adjacency.first_event_after(t_B)
        return read(self, src_B, dst_BM, t_B, after_B)

    return mock.patch.object(EventLog, "numbers", late)


@plant("common neighbors of the future", "later event", **_HISTORY)
def common_neighbors_of_the_future() -> Leak:
    """The source's partners include those of later events."""
    read = EventLog.around

    def late(self: EventLog, src_B: Tensor, before_B: Tensor, near: Any = None) -> Tensor:
        return read(self, src_B, (before_B + _TOO_LATE).clamp(max=NUM_EVENTS))

    return mock.patch.object(EventLog, "around", late)


@plant("event log of held-out nodes", "nodes held out", data__held_out_share=0.15, **_HISTORY)
def event_log_of_held_out_nodes() -> Leak:
    """Training counts the events of held-out nodes."""
    make = logs.open_log

    def of_all(
        config: RunConfig, data: setup.Data, sampler: NeighborSampler, *rest: Any
    ) -> EventLog | None:
        return make(config, data, sampler.over(TemporalAdjacency(data.stream, data.tables)), *rest)

    return mock.patch.object(setup, "open_log", of_all)


@plant("numbers standardized over all events", "later part", **_HISTORY)
def numbers_standardized_over_all_events() -> Leak:
    """Mean and deviation of the numbers are those of the whole stream."""
    make = logs.standardize_numbers

    def over_all(parts: setup.Parts) -> None:
        make(replace(parts, data=replace(parts.data, kept=range(NUM_EVENTS))))

    return mock.patch.object(setup, "standardize_numbers", over_all)


@plant("numbers centered over the batch", "company", **_HISTORY, sampling__negatives="random")
def numbers_centered_over_the_batch() -> Leak:
    """Numbers are centered over the temporal batch, as batch normalization would."""
    read = EventLog.numbers

    def centered(
        self: EventLog, src_B: Tensor, dst_BM: Tensor, t_B: Tensor, before_B: Tensor
    ) -> Tensor:
        numbers_BMF = read(self, src_B, dst_BM, t_B, before_B)
        return numbers_BMF - numbers_BMF.mean(0)

    return mock.patch.object(EventLog, "numbers", centered)


@plant("popular negatives of the future", "later event", sampling__negatives="random, popular")
def popular_negatives_of_the_future() -> Leak:
    """Popular negatives are destinations of events around the query, later ones too."""
    draw = PopularNegatives.draw

    def late(
        self: PopularNegatives, src_B: Tensor, dst_B: Tensor, events_B: Tensor, *rest: Any
    ) -> Tensor:
        later = mock.patch.object(
            self._adjacency,
            "first_event_at",
            lambda t_Q: (TemporalAdjacency.first_event_at(self._adjacency, t_Q) + _TOO_LATE).clamp(
                max=TRAIN_END
            ),
        )
        with later:
            return draw(self, src_B, dst_B, events_B, *rest)

    return mock.patch.object(PopularNegatives, "draw", late)


@plant("inductive negatives of the future", "later event", sampling__negatives="inductive")
def inductive_negatives_of_the_future() -> Leak:
    """Partners of the later half include those of later events."""
    history = NegativeSampler._history

    def late(self: NegativeSampler, src_B: Tensor, events_B: Tensor) -> list[Tensor]:
        found = history(self, src_B, events_B)
        if self._train_end is None:
            _, found[1] = self._adjacency.history(src_B, torch.full_like(events_B, TRAIN_END))
        return found

    return mock.patch.object(NegativeSampler, "_history", late)
