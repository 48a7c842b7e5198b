"""Events grouped by a key, such as their destination or their pair of nodes.

Shapes: E events, G distinct keys, Q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.errors import DataError

_INT64_LIMIT = 1 << 63


class EventGroups:
    """How many events a key had before a query, for all queries at once.

    Events are kept as one sorted tensor of composite keys ``group * E + event id``, as in
    `TemporalAdjacency`: one ``torch.searchsorted`` finds how far into its group a query sees.

    Args:
        key_E: int64 key of each event, in event order.

    Raises:
        DataError: too many keys and events for the index.
    """

    def __init__(self, key_E: Tensor) -> None:
        self._num_events = key_E.numel()
        self._keys_G, group_E, sizes_G = torch.unique(
            key_E, return_inverse=True, return_counts=True
        )
        if self._keys_G.numel() * self._num_events >= _INT64_LIMIT:
            raise DataError(
                f"{self._keys_G.numel()} groups x {self._num_events} events is beyond the 2^63 "
                "that can be indexed"
            )
        group_E *= self._num_events
        group_E += torch.arange(self._num_events, device=key_E.device)
        self._composite_E = group_E.sort().values
        self._start_G = sizes_G.cumsum(0) - sizes_G

    def counts(self, key_Q: Tensor, before_Q: Tensor, since_Q: Tensor) -> tuple[Tensor, Tensor]:
        """Events of each key with id < before, and of those the ones with id >= since.

        Args:
            key_Q: any int64; a key without events counts 0.
            before_Q: id of the first event that the query must not see.
            since_Q: id of the first event of its window, at most `before_Q`.
        """
        group_Q = torch.searchsorted(self._keys_G, key_Q).clamp_(max=self._keys_G.numel() - 1)
        known_Q = self._keys_G[group_Q] == key_Q
        start_Q, base_Q = self._start_G[group_Q], group_Q * self._num_events
        seen_Q = torch.searchsorted(self._composite_E, base_Q + before_Q)
        old_Q = torch.searchsorted(self._composite_E, base_Q + since_Q)
        return (seen_Q - start_Q) * known_Q, (seen_Q - old_Q) * known_Q
