"""Lookup of nodes by the user's own ids, the inverse of `EventStream.raw_ids`.

Shapes: n ids to look up, N nodes of the stream.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pres_dist.events.raw_ids import integers_of
from pres_dist.events.stream import EventStream

Side = Literal["source", "destination"]
SIDES: tuple[Side, Side] = ("source", "destination")

UNKNOWN = -1
"""Node returned for an id that the stream does not have."""

_MOST_TO_COMPARE = 200_000
"""Most ids to search for similar ones; searching more would take seconds."""


class NodeLookup:
    """Lookup of nodes by the ids that a stream was imported with.

    In a bipartite stream an id is looked up only among the sources or only among the
    destinations, because the same id may denote one of each.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    @property
    def bipartite(self) -> bool:
        """True if ids are looked up per side: source or destination."""
        return self._stream.bipartite

    @property
    def source_side(self) -> Side | None:
        """Side of sources; None if the stream is not bipartite."""
        return "source" if self.bipartite else None

    def nodes(self, ids: pa.Array, side: Side | None = None) -> np.ndarray:
        """Return the [n] int64 nodes of [n] ids, `UNKNOWN` for ids that the stream does not have.

        Args:
            ids: ids as `id_column` returns them; null is always unknown.
            side: side of a bipartite stream; None only if the stream is not bipartite.
        """
        low, high = self._range(side)
        if self._stream.node_ids is None:
            numbers, are_integers = integers_of(ids)
            # The import added this offset to the ids of destinations, if it kept ids.
            offset = int(self._stream.metadata.get("destination_offset", 0))
            nodes = numbers + offset if low == self._sources and low else numbers
            there = are_integers & (numbers >= 0) & (nodes >= low) & (nodes < high)
            return np.where(there, nodes, UNKNOWN)
        known = self._stream.checked_node_ids[low:high]
        if pa.types.is_integer(known.type):
            numbers, are_integers = integers_of(ids)
            wanted = pa.array(numbers, mask=~are_integers)
        else:
            wanted = ids.cast(pa.large_string())
        # Null is a missing id, which must not match anything.
        found = pc.index_in(wanted, value_set=known, skip_nulls=True)
        places: np.ndarray = pc.fill_null(found, UNKNOWN).to_numpy(zero_copy_only=False)
        return np.where(places == UNKNOWN, UNKNOWN, places.astype(np.int64) + low)

    def explain(self, raw: object, what: str, side: Side | None = None) -> str:
        """Return an error text on the ids allowed in place of an unknown id, without its place.

        Args:
            raw: the unknown id.
            what: name of the column or option it came from.
            side: as for `nodes`.
        """
        low, high = self._range(side)
        kind = "nodes" if side is None else f"{side}s"
        if self._stream.node_ids is None:
            first, last = self._stream.raw_ids([low, high - 1])
            return (
                f"{what} must be one of the {kind} {first} to {last} of {self._stream.name}, "
                f"got {raw!r}"
            )
        name = self._stream.name
        text = f"{what} must be one of the {high - low:,} {kind} of {name}, got {raw!r}"
        if high - low > _MOST_TO_COMPARE:
            return text
        known = [str(one) for one in self._stream.checked_node_ids[low:high].to_pylist()]
        close = get_close_matches(str(raw), known, n=3)
        return text + (f"; did you mean {', '.join(close)}?" if close else "")

    def side_of(self, nodes: np.ndarray) -> list[Side] | None:
        """Return the sides of nodes; None if the stream is not bipartite."""
        if self._stream.num_sources is None:
            return None
        return [SIDES[bool(node >= self._stream.num_sources)] for node in nodes.tolist()]

    @property
    def _sources(self) -> int:
        return self._stream.num_sources or 0

    def _range(self, side: Side | None) -> tuple[int, int]:
        """Return the first node of the side and the first node after it."""
        stream = self._stream
        if stream.num_sources is None:
            return 0, stream.num_nodes
        assert side is not None, "a bipartite stream has two sides"
        return (0, self._sources) if side == "source" else (self._sources, stream.num_nodes)
