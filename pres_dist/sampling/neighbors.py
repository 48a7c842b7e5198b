"""Temporal neighbors of queries, most recent or uniform.

Shapes: Q queries, K neighbors a query.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.config.sampling import SamplingConfig
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.counter_rng import CounterRNG, Key

# Key that makes neighbor draws independent of all other draws with the same seed.
_PURPOSE = 0x6E65


@dataclass(frozen=True)
class Neighbors:
    """Sampled neighbors, oldest first; empty slots come first and are masked out.

    An empty slot repeats the query's own node (so that it adds no node to a
    batch), with event 0, and must not be read.
    """

    nodes_QK: Tensor
    events_QK: Tensor
    mask_QK: Tensor


class NeighborSampler:
    """Sampler of up to K neighbors of each (node, before) query.

    `recent` takes the last K events. `uniform` takes the whole history if it
    has at most K events, and otherwise a systematic sample: K evenly spaced positions
    with one random offset per query, so that each earlier event is drawn with
    probability K / length and none twice.
    """

    def __init__(self, adjacency: TemporalAdjacency, config: SamplingConfig, seed: int) -> None:
        self.adjacency = adjacency
        self.num_neighbors = config.num_neighbors
        self._uniform = config.strategy == "uniform"
        self._seed = seed

    @property
    def is_recent(self) -> bool:
        """True if `sample` returns the same neighbors as `recent`."""
        return not self._uniform

    def over(self, adjacency: TemporalAdjacency) -> NeighborSampler:
        """Return the same sampler over other histories."""
        other = copy(self)
        other.adjacency = adjacency
        return other

    def sample(self, nodes_Q: Tensor, before_Q: Tensor, epoch: Key = 0) -> Neighbors:
        """Sample neighbors of each node among its events with id < before."""
        start_Q, end_Q = self.adjacency.history(nodes_Q, before_Q)
        if self._uniform:
            rng = CounterRNG(self._seed, _PURPOSE, epoch)
            positions_QK = _systematic(
                start_Q, end_Q, self.num_neighbors, rng.uniform(nodes_Q, before_Q)
            )
        else:
            positions_QK = _last(end_Q, self.num_neighbors)
        return self._at(nodes_Q, start_Q, positions_QK)

    def recent(self, nodes_Q: Tensor, before_Q: Tensor) -> Neighbors:
        """Return the last K of each node's events with id < before, for any strategy."""
        start_Q, end_Q = self.adjacency.history(nodes_Q, before_Q)
        return self._at(nodes_Q, start_Q, _last(end_Q, self.num_neighbors))

    def _at(self, nodes_Q: Tensor, start_Q: Tensor, positions_QK: Tensor) -> Neighbors:
        mask_QK = positions_QK >= start_Q[:, None]
        own_QK = nodes_Q[:, None].expand_as(positions_QK)
        # Positions before the start are of other nodes, and masked.
        events_QK = self.adjacency.event_at(own_QK, positions_QK.clamp(min=0)) * mask_QK
        other_QK = self.adjacency.other_endpoint(own_QK, events_QK)
        return Neighbors(torch.where(mask_QK, other_QK, own_QK), events_QK, mask_QK)


def _last(end_Q: Tensor, num: int) -> Tensor:
    back_K = torch.arange(num, 0, -1, device=end_Q.device)
    return end_Q[:, None] - back_K


def _systematic(start_Q: Tensor, end_Q: Tensor, num: int, offset_Q: Tensor) -> Tensor:
    """Return positions floor((k + offset) * length / num); the last `num` if length <= num."""
    length_Q = (end_Q - start_Q)[:, None]
    slot_K = torch.arange(num, device=end_Q.device)
    spread_QK = ((slot_K + offset_Q[:, None]) * (length_Q.double() / num)).long()
    # Rounding may push the last position to the end of the history.
    spread_QK = start_Q[:, None] + torch.minimum(spread_QK, length_Q - 1)
    return torch.where(length_Q > num, spread_QK, _last(end_Q, num))
