"""Events grouped by a key, such as their destination or their pair of nodes.

Shapes: E events, H events in the groups, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream

_INT64_LIMIT = 1 << 63
_MOST = "fewer than 3,037,000,500"
"""Numbers whose square is below 2^63."""


class EventGroups:
    """Counts and latest events of keys before a query, for all queries at once.

    Events are sorted by key, and by id within a key. The second column holds composite keys
    ``start * base + event id``, where `start` is the position of the key's first event. So it is
    ascending too, and one ``torch.searchsorted`` finds the end of a key's events before any id.

    Args:
        key_H: int64 keys, ascending.
        event_H: int64 composite keys.
        base: number above every event id.
    """

    def __init__(self, key_H: Tensor, event_H: Tensor, base: int) -> None:
        self._key_H, self._event_H, self._base = key_H, event_H, base

    @classmethod
    def of(cls, key_E: Tensor) -> EventGroups:
        """Group all events by their [E] int64 keys; raise DataError for too many events."""
        num_events = key_E.numel()
        check_num_events(num_events, "the stream")
        # A stable sort keeps the events of one key in the order of their ids.
        key_H, event_H = key_E.sort(stable=True)
        event_H.add_(torch.searchsorted(key_H, key_H), alpha=num_events)
        return cls(key_H, event_H, num_events)

    def counts(self, key_Q: Tensor, before_Q: Tensor, *since: Tensor | None) -> Iterator[Tensor]:
        """Count each key's events with id < before, and those also with id >= each of `since`.

        Args:
            key_Q: int64 keys; a key without events counts 0.
            before_Q: id of the first event that the query must not see.
            since: [Q] each, id of the first event of a window, at most `before_Q`; None counts all.
        """
        start_Q, known_Q = find(self._key_H, key_Q)
        end_Q = self._first(start_Q, before_Q)
        for first in since:
            first_Q = start_Q if first is None else self._first(start_Q, first)
            yield (end_Q - first_Q) * known_Q

    def last(self, key_Q: Tensor, before_Q: Tensor) -> tuple[Tensor, Tensor]:
        """Count each key's events with id < before; also return the id of the last, or -1."""
        start_Q, known_Q = find(self._key_H, key_Q)
        if not self._key_H.numel():
            return torch.zeros_like(key_Q), torch.full_like(key_Q, -1)
        end_Q = self._first(start_Q, before_Q)
        count_Q = (end_Q - start_Q) * known_Q
        event_Q = self._event_H[(end_Q - 1).clamp(min=0)]
        # In place: `where` with a number of Python launches one kernel more on a GPU.
        return count_Q, event_Q.sub_(start_Q, alpha=self._base).masked_fill_(count_Q == 0, -1)

    def _first(self, start_Q: Tensor, bound_Q: Tensor) -> Tensor:
        """Return the position of each key's first event with id >= bound."""
        return torch.searchsorted(self._event_H, torch.add(bound_Q, start_Q, alpha=self._base))


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
                f"{stream.name}: pairs of {_MOST} nodes can be indexed, got {self._num_nodes}"
            )

    def to(self, device: torch.device) -> PairKeys:
        """Return the same numbering for nodes on another device."""
        if self._present is None:
            return self
        other = copy(self)
        other._present = self._present.to(device)
        return other

    def ordered(self, src: Tensor, dst: Tensor) -> Tensor:
        """Return the keys of (src, dst); shapes broadcast."""
        if self._present is None:
            return torch.add(dst, src, alpha=self._num_nodes)
        (first, known), (second, also) = (find(self._present, ids) for ids in (src, dst))
        return torch.where(known & also, first * self._num_nodes + second, -1)

    def unordered(self, first: Tensor, second: Tensor) -> Tensor:
        """Return keys that are equal for (a, b) and (b, a)."""
        return self.ordered(torch.minimum(first, second), torch.maximum(first, second))


def check_num_events(num_events: int, name: str) -> None:
    """Raise DataError if composite keys of that many events would overflow int64."""
    if num_events**2 >= _INT64_LIMIT:
        raise DataError(f"{name}: pairs of {_MOST} events can be indexed, got {num_events:,}")


def find(sorted_ids: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first index of each id among the sorted ids, and whether the id is present."""
    if sorted_ids.numel() == 0:
        return torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    # Without the last id, so that an id above all others gets its place.
    place = torch.searchsorted(sorted_ids[:-1], ids.contiguous())
    return place, sorted_ids[place] == ids
