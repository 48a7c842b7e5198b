"""Features of past events, for a stream that grows.

The features are bit-identical to those of `inference/history.py`. They are computed for one
source at a time and without sorting the stream.

Shapes: N nodes, C candidates, M destinations that the source has met, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.inference.history import RECENT_EVENTS
from pres_dist.inference.serve.memory import GrowingMemory

_NEVER = torch.iinfo(torch.int64).max


class GrowingPast:
    """Counts of past events that are updated as the stream grows.

    Args:
        memory: memory that holds the events.
    """

    def __init__(self, memory: GrowingMemory) -> None:
        self._memory = memory
        nodes = torch.arange(memory.num_nodes, device=memory.device)
        self._first_N = torch.full_like(nodes, _NEVER)
        self._popular_N = torch.zeros_like(nodes)
        self._seen = 0
        self.catch_up()

    def catch_up(self) -> None:
        """Update the counts with the events that were appended since the last call."""
        tables, num_nodes = self._memory.tables, self._memory.num_nodes
        src, dst = tables.src_E[self._seen :], tables.dst_E[self._seen :]
        more = num_nodes - self._first_N.numel()
        if more:
            self._first_N = torch.cat([self._first_N, self._first_N.new_full((more,), _NEVER)])
            self._popular_N = torch.cat([self._popular_N, self._popular_N.new_zeros(more)])
        events = torch.arange(self._seen, self._memory.num_events, device=src.device)
        for ends in (src, dst):
            self._first_N.scatter_reduce_(0, ends, events, "amin")
        self._popular_N += torch.bincount(dst, minlength=num_nodes)
        self._seen = self._memory.num_events

    def known(self, event: int) -> Tensor:
        """Return [N] bool, True for nodes with an event before the given one."""
        return self._first_N < event

    def features(self, node: int, event: int, candidates_C: Tensor) -> Tensor:
        """Return [1, C, F] float32 features of the events before `event`, ordered as `FEATURES`."""
        dst_E = self._memory.tables.dst_E
        events = self._events_of(node, event)
        met_M, place, count_M = torch.unique(dst_E[events], return_inverse=True, return_counts=True)
        latest_M = torch.zeros_like(met_M).scatter_reduce_(0, place, events, "amax")
        rank_M = latest_M.argsort(descending=True).argsort()
        met_C, repeats_C, rank_C = _looked_up(met_M, candidates_C, count_M, rank_M)
        late = torch.bincount(dst_E[event:], minlength=self._popular_N.numel())
        lately = torch.bincount(
            dst_E[max(event - RECENT_EVENTS, 0) : event], minlength=self._popular_N.numel()
        )
        columns = (
            met_C,
            met_C & (rank_C == 0),
            met_C / (1 + rank_C),
            repeats_C.float().log1p(),
            (self._popular_N - late)[candidates_C].float().log1p(),
            lately[candidates_C].float().log1p(),
        )
        return torch.stack([column.float() for column in columns], dim=1)[None]

    def _events_of(self, node: int, event: int) -> Tensor:
        """Return the ids of the events of a source before the given one."""
        adjacency = self._memory.adjacency
        one = torch.tensor([node], device=self._memory.device)
        start, end = adjacency.history(one, torch.full_like(one, event))
        positions = torch.arange(int(start), int(end), device=one.device)
        events = adjacency.event_at(one.expand_as(positions), positions)
        return events[self._memory.tables.src_E[events] == node]


def _looked_up(
    met_M: Tensor, candidates_C: Tensor, count_M: Tensor, rank_M: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each candidate if it was met, how often, and its rank by recency from 0."""
    if not met_M.numel():
        nothing = torch.zeros_like(candidates_C)
        return nothing.bool(), nothing, nothing
    at_C = torch.searchsorted(met_M, candidates_C).clamp(max=met_M.numel() - 1)
    met_C = met_M[at_C] == candidates_C
    return met_C, torch.where(met_C, count_M[at_C], 0), torch.where(met_C, rank_M[at_C], 0)
