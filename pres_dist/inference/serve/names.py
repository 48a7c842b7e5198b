"""The user's ids of nodes, in both directions, and those that came while serving."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.lookup import SIDES, Side
from pres_dist.events.raw_ids import RawId, canonical_integer, parse_id
from pres_dist.events.stream import EventStream
from pres_dist.inference.serve.requests import told

_MOST_TO_COMPARE = 10_000
"""Ids that are looked through for one that is meant: a wrong id must not cost seconds."""
_LONGEST_TO_COMPARE = 100
"""Characters of an id that others are compared with."""
_LEAST_ROOM = 10_000
"""How far a new id may lie beyond the nodes, where ids are their numbers; or as many as there are
nodes, so that one id can no more than double the memory of the run."""
_LONGEST = 1000
"""Characters of a new id."""


class NodeNames:
    """Numbers ids: those of the stream keep their nodes, new ones get the next.

    In a bipartite stream an id belongs to a side. Where the import kept ids as they were and
    sources lie below destinations, an id is of one side only; else it may stand for a source
    and, as another node, for a destination.

    Args:
        stream: what the run knows; all its ids are held in memory.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream.name
        self.bipartite = stream.bipartite
        self.texts = stream.node_ids is not None and str(stream.node_ids.type) != "int64"
        first = stream.num_sources if stream.num_sources is not None else stream.num_nodes
        raw = stream.raw_ids(np.arange(stream.num_nodes))
        self._raw: list[RawId] = list(raw) if isinstance(raw, list) else raw.tolist()
        # Of a stream without sides all are.
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
        """Whether there are sides, and an id may be on one alone."""

    def __len__(self) -> int:
        return len(self._raw)

    def raw(self, node: int) -> RawId:
        """The id of a node."""
        return self._raw[node]

    def find(self, raw: RawId, side: Side, where: str) -> int:
        """The node of an id.

        Raises:
            DataError: there is none; names what may have been meant.
        """
        known = self._of(side)
        node = known.get(raw)  # most ids come as they are known
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
        """The node of an id, a new one where it has none; `check` has let it pass."""
        known = self._of(side)
        if raw not in known:
            raw = self.normal(raw, side)
        if raw not in known:
            known[raw] = len(self._raw)
            self._raw.append(raw)
            self._is_destination.append(not self.bipartite or side == "destination")
        return known[raw]

    def check(self, raw: RawId, side: Side, where: str) -> bool:
        """Whether the id has a node; DataError where it may have none."""
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
        """[N] bool, nodes that may be recommended."""
        if self._destinations_N.numel() < len(self):
            self._destinations_N = torch.tensor(self._is_destination)
        return self._destinations_N

    def normal(self, raw: RawId, where: str) -> RawId:
        """An id as the stream has its own: text without white space around it, or an integer."""
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
