"""Events grouped by a key, such as their destination or their pair of nodes.

Shapes: E events, G distinct keys, Q queries.
"""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream

_INT64_LIMIT = 1 << 63


class EventGroups:
    """Counts of a key's events before a query, for all queries at once.

    Events are stored as one sorted tensor of composite keys ``group * E + event id``, as in
    `TemporalAdjacency`: one ``torch.searchsorted`` finds the end of a query's range in its group.

    Args:
        key_E: int64 key of each event, in event order.

    Raises:
        DataError: too many keys and events for the index.
    """

    def __init__(self, key_E: Tensor) -> None:
        self._num_events = key_E.numel()
        self._keys_G, group_E, size_G = torch.unique(key_E, return_inverse=True, return_counts=True)
        if self._keys_G.numel() * self._num_events >= _INT64_LIMIT:
            raise DataError(
                f"{self._keys_G.numel()} groups x {self._num_events} events is beyond the 2^63 "
                "that can be indexed"
            )
        group_E *= self._num_events
        group_E += torch.arange(self._num_events, device=key_E.device)
        self._composite_E = group_E.sort().values
        self._start_G = size_G.cumsum(0) - size_G

    def counts(self, key_Q: Tensor, before_Q: Tensor, *since: Tensor) -> tuple[Tensor, ...]:
        """Count each key's events with id < before, and those also with id >= each of `since`.

        Args:
            key_Q: int64 keys; a key without events counts 0.
            before_Q: id of the first event that the query must not see.
            since: [Q] each, id of the first event of a window, at most `before_Q`.
        """
        group_Q, known_Q = find(self._keys_G, key_Q)
        base_Q = group_Q * self._num_events
        seen_Q = torch.searchsorted(self._composite_E, base_Q + before_Q)
        starts = [torch.searchsorted(self._composite_E, base_Q + since_Q) for since_Q in since]
        return tuple((seen_Q - start_Q) * known_Q for start_Q in (self._start_G[group_Q], *starts))

    def latest(self, key_Q: Tensor, before_Q: Tensor) -> Tensor:
        """Return the id of each key's last event with id < before; -1 if there is none."""
        group_Q, known_Q = find(self._keys_G, key_Q)
        base_Q = group_Q * self._num_events
        seen_Q = torch.searchsorted(self._composite_E, base_Q + before_Q)
        some_Q = known_Q & (seen_Q > self._start_G[group_Q])
        return torch.where(some_Q, self._composite_E[(seen_Q - 1).clamp_(min=0)] - base_Q, -1)


class PairKeys:
    """Numbers pairs of nodes with int64 keys.

    If the square of the number of nodes would overflow, nodes are numbered by their rank
    among the nodes with events, and a pair with any other node has the key -1.

    Raises:
        DataError: too many nodes with events.
    """

    def __init__(self, stream: EventStream, src_E: Tensor, dst_E: Tensor) -> None:
        self._present: Tensor | None = None
        self._num_nodes = stream.num_nodes
        if self._num_nodes**2 >= _INT64_LIMIT:
            self._present = torch.cat([src_E, dst_E]).unique()
            self._num_nodes = self._present.numel()
        if self._num_nodes**2 >= _INT64_LIMIT:
            raise DataError(
                f"{stream.name}: pairs of fewer than 3,037,000,500 nodes can be indexed, "
                f"got {self._num_nodes}"
            )

    def to(self, device: torch.device) -> PairKeys:
        """Return the same numbering for nodes on another device."""
        if self._present is None:
            return self
        other = copy(self)
        other._present = self._present.to(device)
        return other

    def ordered(self, src: Tensor, dst: Tensor) -> Tensor:
        """Return the keys of (src, dst), two tensors of the same shape."""
        if self._present is None:
            return src * self._num_nodes + dst
        (first, known), (second, also) = (find(self._present, ids) for ids in (src, dst))
        return torch.where(known & also, first * self._num_nodes + second, -1)

    def unordered(self, first: Tensor, second: Tensor) -> Tensor:
        """Return keys that are equal for (a, b) and (b, a)."""
        return self.ordered(torch.minimum(first, second), torch.maximum(first, second))


def find(sorted_ids: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of each id among the sorted ids, and whether the id is present."""
    if sorted_ids.numel() == 0:
        return torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    place = torch.searchsorted(sorted_ids, ids.contiguous()).clamp(max=sorted_ids.numel() - 1)
    return place, sorted_ids[place] == ids
