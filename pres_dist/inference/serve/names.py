"""Mapping between the user's ids and nodes, including nodes added while serving."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.lookup import SIDES, Side
from pres_dist.events.raw_ids import RawId, canonical_integer, parse_id
from pres_dist.events.stream import EventStream
from pres_dist.inference.serve.request_models import told

_MOST_TO_COMPARE = 10_000
"""Most ids that are searched for suggestions, so that a wrong id does not cost seconds."""
_LONGEST_TO_COMPARE = 100
"""Longest id that suggestions are searched for, in characters."""
_LEAST_ROOM = 10_000
"""Smallest limit on how far a new id may exceed the number of nodes, if ids are node numbers. The
limit is otherwise the number of nodes, so that one id at most doubles the memory of the run."""
_LONGEST = 1000
"""Longest new id, in characters."""


class NodeNames:
    """Mapping of ids to nodes: ids of the stream keep their nodes, new ids get the next numbers.

    In a bipartite stream, an id belongs to a side. If the import kept ids and sources are numbered
    below destinations, an id belongs to one side only. Otherwise the same id may name a source
    and, as another node, a destination.

    Args:
        stream: stream of the run; all its ids are held in memory.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream.name
        self.bipartite = stream.bipartite
        self.texts = stream.node_ids is not None and str(stream.node_ids.type) != "int64"
        first = stream.num_sources if stream.num_sources is not None else stream.num_nodes
        raw = stream.raw_ids(np.arange(stream.num_nodes))
        self._raw: list[RawId] = list(raw) if isinstance(raw, list) else raw.tolist()
        # Without sides, all nodes are destinations.
        self._is_destination = [
            *[not stream.bipartite] * first,
            *[True] * (stream.num_nodes - first),
        ]
        self._destinations_N = torch.empty(0, dtype=torch.bool)
        self._sides: dict[Side, dict[RawId, int]] = {
            "source": {raw: node for node, raw in enumerate(self._raw[:first])},
            "destination": {raw: first + place for place, raw in enumerate(self._raw[first:])},
        }
        kept = stream.node_ids is None
        self._kept = kept
        self._highest = stream.num_nodes + max(stream.num_nodes, _LEAST_ROOM) if kept else None
        mapped = stream.node_ids is not None or "destination_offset" in stream.metadata
        self.one_of_two = self.bipartite and not mapped
        """True if there are sides and an id may be on only one of them."""

    def __len__(self) -> int:
        return len(self._raw)

    def raw(self, node: int) -> RawId:
        """Return the id of a node."""
        return self._raw[node]

    def find(self, raw: RawId, side: Side, where: str) -> int:
        """Return the node of an id.

        Raises:
            DataError: the id is unknown. The message may suggest similar ids.
        """
        known = self._of(side)
        node = known.get(raw)  # fast path: most ids are already in normal form
        if node is None:
            node = known.get(self.normal(raw, where))
        if node is None:
            kind = f"{side}s" if self.bipartite else "nodes"
            raise DataError(
                f"{where} must be one of the {len(known):,} {kind} of {self._stream}, got "
                f"{told(raw)}{self._meant(str(raw), known)}"
            )
        return node

    def take(self, raw: RawId, side: Side) -> int:
        """Return the node of an id that passed `check`; add a node if the id is new."""
        known = self._of(side)
        if raw not in known:
            raw = self.normal(raw, side)
        if raw not in known:
            known[raw] = len(self._raw)
            self._raw.append(raw)
            self._is_destination.append(not self.bipartite or side == "destination")
        return known[raw]

    def check(self, raw: RawId, side: Side, where: str) -> bool:
        """Return True if the id has a node; raise DataError if the id is not allowed."""
        normal = self.normal(raw, where)
        if self._highest is not None and isinstance(normal, int) and normal > self._highest:
            raise DataError(
                f"{where} must be at most {self._highest}, for ids of {self._stream} are node "
                f"numbers (import with --ids map for others), got {told(raw)}"
            )
        other: Side = SIDES[side == SIDES[0]]
        if self.one_of_two and normal in self._sides[other]:
            raise DataError(f"{where} must be a {side} of {self._stream}, got the {other} {raw!r}")
        known = normal in self._of(side)
        if not known and isinstance(normal, str) and len(normal) > _LONGEST:
            raise DataError(
                f"{where} must have at most {_LONGEST:,} characters, got {len(normal):,}"
            )
        return known

    def destinations(self) -> Tensor:
        """Return [N] bool, True for nodes that may be recommended."""
        if self._destinations_N.numel() < len(self):
            self._destinations_N = torch.tensor(self._is_destination)
        return self._destinations_N

    def normal(self, raw: RawId, where: str) -> RawId:
        """Return an id in the stream's normal form: a stripped text, or an integer."""
        one = parse_id(raw, where)
        if self.texts:
            return str(one)
        number = canonical_integer(one)
        if number is None or (self._kept and number < 0):
            allowed = "an integer >= 0" if self._kept else "an integer"
            raise DataError(f"{where} must be {allowed}, got {told(raw)}")
        return number

    def _meant(self, text: str, known: dict[RawId, int]) -> str:
        if not self.texts or len(known) > _MOST_TO_COMPARE or len(text) > _LONGEST_TO_COMPARE:
            return ""
        close = get_close_matches(text, map(str, known), n=3)
        return f"; did you mean {', '.join(close)}?" if close else ""

    def _of(self, side: Side) -> dict[RawId, int]:
        return self._sides[side if self.bipartite else "source"]
