"""Event-log features of a source and its candidate destinations at a given time.

A query (u, v, t) reads events strictly before t, including those of its own temporal batch.
Every number is a function of the query and of these events only, so it does not depend on
how events are divided into batches, slices or workers.

Shapes: B sources, M candidates of each, Q = B * M, X = B + Q sources and candidates, F numbers, W
recent events of a source, K neighbors, L nodes around a source.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.sampling import AdjacencyHome
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables, tensor_of
from pres_dist.sampling.event_groups import EventGroups
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.sampling.sorted_keys import SortedPairs
from pres_dist.sampling.stored_keys import keys_of

RECENT_EVENTS = 1000
"""Last events of the stream that measure current popularity, here and in the baselines."""
PARTNER_EVENTS = 32
"""Last events of a source whose partners are ranked."""
NOBODY = -1
"""Padding value of `LogReads.around_BL`."""


_OF_PAIR = {
    "met": "1 if there is an event from u to v, else 0",
    "last": "1 if no event of u is later than the last one from u to v, else 0",
    "recency": "1 / (1 + number of u's events after the last one from u to v); 0 if there is none",
    "count": "log(1 + number of events from u to v)",
    "share": "number of events from u to v / number of u's events",
    "age": "log(t - time of the last event from u to v); of the stream's first event if none",
}
_OF_ENDS = {
    "destination count": "log(1 + number of v's events)",
    "destination count, recent events": f"likewise among the last {RECENT_EVENTS:,} of the stream",
    "destination age": "log(t - time of v's last event); of the stream's first event if none",
    "source count": "log(1 + number of u's events)",
    "source age": "log(t - time of u's last event); of the stream's first event if none",
    "rank among partners": f"1 / place of v among the distinct partners in u's last "
    f"{PARTNER_EVENTS} events, the most recent first; 0 if v is none of them",
}
_ANSWERED = {
    f"{name}, answered": meaning.replace("from u to v", "from v to u")
    for name, meaning in _OF_PAIR.items()
}


def numbers_of(bipartite: bool) -> dict[str, str]:
    """Return name and meaning of each number of a pair (u, v) at time t, in order.

    All numbers are of events strictly before t. A node's events have it as source or
    destination. Unless the stream is bipartite, there are also numbers of events from v to u.
    """
    return _OF_PAIR | _OF_ENDS | ({} if bipartite else _ANSWERED)


@dataclass(frozen=True)
class LogReads:
    """Event-log features of B sources with M candidates each."""

    dst_BM: Tensor
    numbers_BMF: Tensor
    """float32, in the order of `numbers_of`."""
    around_BL: Tensor | None
    """Sorted nodes to match a candidate's neighbors with, padded with NOBODY, if they are read."""

    @property
    def share_BM(self) -> Tensor:
        """Share of each candidate in the source's events, in either direction: [B, M] float32."""
        names = list(numbers_of(bipartite=False))[: self.numbers_BMF.shape[2]]
        shares = [place for place, name in enumerate(names) if name.startswith("share")]
        # One column at a time: a list of places would be copied to the device.
        return reduce(torch.add, (self.numbers_BMF[:, :, place] for place in shares))

    @property
    def known_BM(self) -> Tensor:
        """True if the source has an earlier event: [B, M] bool."""
        place = list(numbers_of(bipartite=True)).index("source count")
        return self.numbers_BMF[:, :, place] > 0


class PairLog:
    """Counts and latest events of pairs (source, destination) before an event id.

    Arguments and errors are as in `TemporalAdjacency`.
    """

    def __init__(
        self,
        stream: EventStream,
        device: torch.device,
        keep: np.ndarray | None = None,
        home: AdjacencyHome = "auto",
    ) -> None:
        pairs = SortedPairs(stream, keep)
        key_H, event_H = np.split(keys_of(pairs, home), 2)
        columns = tensor_of(key_H, device), tensor_of(event_H, device)
        self._events = EventGroups(*columns, stream.num_events)
        self._keys = pairs.keys.to(device)

    def before(self, src_Q: Tensor, dst_Q: Tensor, before_Q: Tensor) -> tuple[Tensor, Tensor]:
        """Count each pair's events with id < before; also return the id of the last, or -1."""
        return self._events.last(self._keys.ordered(src_Q, dst_Q), before_Q)


class EventLog:
    """Reader of node histories and pairs of a stream.

    Args:
        sampler: histories of nodes, and number of neighbors to read.
        bipartite: True if sources and destinations are disjoint sets.
        common: True to read common neighbors.
    """

    def __init__(
        self,
        sampler: NeighborSampler,
        pairs: PairLog,
        tables: EventTables,
        bipartite: bool,
        common: bool,
    ) -> None:
        self.sampler, self.pairs, self.tables = sampler, pairs, tables
        self.bipartite, self.common = bipartite, common

    def over(self, tables: EventTables, sampler: NeighborSampler, pairs: PairLog) -> EventLog:
        """Return the same log over other events."""
        other = copy(self)
        other.tables, other.sampler, other.pairs = tables, sampler, pairs
        return other

    def read(
        self,
        src_B: Tensor,
        dst_BM: Tensor,
        t_B: Tensor,
        near: tuple[Tensor, Tensor] | None = None,
    ) -> LogReads:
        """Compute the features of each source and its candidates from events strictly before t.

        Args:
            src_B, t_B: sources and their times.
            dst_BM: candidates.
            near: [B, K] most recent neighbors of the sources and their mask, if they are known.
        """
        before_B = self.sampler.adjacency.first_event_at(t_B)
        around_BL = self.around(src_B, before_B, near) if self.common else None
        return LogReads(dst_BM, self.numbers(src_B, dst_BM, t_B, before_B), around_BL)

    def numbers(self, src_B: Tensor, dst_BM: Tensor, t_B: Tensor, before_B: Tensor) -> Tensor:
        """Return [B, M, F] float32 numbers from events with id < before; ages are relative to t."""
        adjacency, src_B1, before_B1 = self.sampler.adjacency, src_B[:, None], before_B[:, None]
        # The source and its candidates, and then all events, at once: a GPU computes few large
        # operations sooner than many small ones.
        nodes_BX = torch.cat([src_B1, dst_BM], dim=1)
        start_BX, end_BX = adjacency.history(nodes_BX, before_B1)
        count_BX, start_B1, end_B1 = end_BX - start_BX, start_BX[:, :1], end_BX[:, :1]
        # 0 for a node without events; a pair without events has event -1 until below.
        last_BX = adjacency.event_at(nodes_BX, (end_BX - 1).clamp(min=0)) * (count_BX > 0)
        pair_count, pair_last = self._pairs(src_B1, dst_BM, before_B1)
        event = torch.cat([last_BX, pair_last], dim=1).clamp(min=0)
        # Times are integers, and an earlier event is at least 1 away, so the logarithm resolves
        # gaps of any magnitude.
        age = (t_B[:, None] - self.tables.times(event)).clamp(min=1).double().log().float()
        source_age_B1, age_BM, pair_age = age.split([1, dst_BM.shape[1], pair_last.shape[1]], dim=1)
        since = end_B1 - adjacency.end(src_B1, pair_last + 1)
        met = (pair_count > 0).float()
        of_pairs = {
            "met": met,
            "last": met * (since == 0),
            "recency": met / (1 + since),
            "count": pair_count.log1p(),
            "share": pair_count / count_BX[:, :1].clamp(min=1),
            "age": pair_age,
        }
        log_count_BX = count_BX.log1p()
        recently_BM = adjacency.end(dst_BM, (before_B1 - RECENT_EVENTS).clamp(min=0))
        columns = {
            "destination count": log_count_BX[:, 1:],
            "destination count, recent events": (end_BX[:, 1:] - recently_BM).log1p(),
            "destination age": age_BM,
            "source count": log_count_BX[:, :1].expand_as(dst_BM),
            "source age": source_age_B1.expand_as(dst_BM),
            "rank among partners": self._rank(src_B1, start_B1, end_B1, dst_BM),
        }
        for name, both in of_pairs.items():
            columns[name], *answered = both.split(dst_BM.shape[1], dim=1)
            columns |= {f"{name}, answered": column for column in answered}
        return torch.stack([columns[name] for name in numbers_of(self.bipartite)], dim=2)

    def around(
        self, src_B: Tensor, before_B: Tensor, near: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return the [B, L] sorted possible common neighbors of each source and a candidate.

        These are the source's most recent partners. In a bipartite stream they are the most
        recent partners of those, since only such nodes can be partners of a destination.
        """
        sampler, own_B1 = self.sampler, src_B[:, None]
        if near is None:
            recent = sampler.recent(src_B, before_B)
            near = recent.nodes_QK, recent.mask_QK
        nodes_BL, mask_BL = near
        if self.bipartite:
            bounds_BK = before_B[:, None].expand_as(nodes_BL)
            far = sampler.recent(nodes_BL.flatten(), bounds_BK.flatten())
            shape = (src_B.numel(), nodes_BL.shape[1] * far.nodes_QK.shape[1])
            mask_BL = (far.mask_QK & mask_BL.flatten()[:, None]).view(shape)
            nodes_BL = far.nodes_QK.view(shape)
        return torch.where(mask_BL & (nodes_BL != own_B1), nodes_BL, NOBODY).sort(dim=1).values

    def _pairs(self, src_B1: Tensor, dst_BM: Tensor, before_B1: Tensor) -> tuple[Tensor, Tensor]:
        """Count the pairs' events and find the last: [B, M], or [B, 2M] with both directions."""
        if self.bipartite:
            return self.pairs.before(src_B1, dst_BM, before_B1)
        src_BM = src_B1.expand_as(dst_BM)
        both = torch.cat([src_BM, dst_BM], dim=1), torch.cat([dst_BM, src_BM], dim=1)
        return self.pairs.before(*both, before_B1)

    def _rank(self, src_B1: Tensor, start_B1: Tensor, end_B1: Tensor, dst_BM: Tensor) -> Tensor:
        """Return [B, M] values of `rank among partners`."""
        back_W = torch.arange(1, PARTNER_EVENTS + 1, device=src_B1.device)
        position_BW = end_B1 - back_W
        mask_BW = position_BW >= start_B1
        own_BW = src_B1.expand_as(position_BW)
        adjacency = self.sampler.adjacency
        event_BW = adjacency.event_at(own_BW, position_BW.clamp(min=0)) * mask_BW
        partner_BW = adjacency.other_endpoint(own_BW, event_BW)
        place_BW = first_in_row(partner_BW).cumsum(1)
        worth_BW = mask_BW / place_BW
        return ((partner_BW[:, None] == dst_BM[:, :, None]) * worth_BW[:, None]).amax(2)


def first_in_row(nodes_BW: Tensor) -> Tensor:
    """Return a [B, W] bool mask of the first occurrence of each node in its row."""
    # A stable sort keeps the first of equal nodes first.
    order = nodes_BW.sort(dim=1, stable=True)
    first_BW = torch.ones_like(nodes_BW, dtype=torch.bool)
    first_BW[:, 1:] = order.values[:, 1:] != order.values[:, :-1]
    return torch.empty_like(first_BW).scatter_(1, order.indices, first_BW)
