"""Conversion of id columns to nodes: ids are kept, or mapped in order of appearance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from pres_dist.errors import DataError
from pres_dist.events.chunk import MAX_ID, Locate
from pres_dist.events.convert import shown_value
from pres_dist.events.raw_ids import PairMap, Trimmed, id_column, integers_of
from pres_dist.events.readers.source import Source
from pres_dist.wording import setting

IdKind = Literal["keep", "integers", "texts"]
"""With keep, ids are the node numbers; else they are mapped, and stored as int64 or texts."""

_WIDE = re.compile(r"^'?[1-9][0-9]{18,}'?$")


class OtherIdsError(Exception):
    """Ids are not of the kind assumed so far, and the source must be read again with `kind`."""

    def __init__(self, kind: IdKind, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True)
class IdRules:
    """Rules for converting ids to nodes.

    Attributes:
        choice: the user's choice; ``auto`` keeps integers and maps other ids.
        kind: kind found by an earlier attempt; None on the first attempt.
        known: id map of the stream that is extended; None for a new map.
        stream: name of the stream that is extended; None for an import.
    """

    choice: Literal["auto", "keep", "map"]
    kind: IdKind | None = None
    known: PairMap | None = None
    stream: str | None = None


class NodeColumns:
    """Converter from the ids of batches to nodes; keeps its id map across batches."""

    def __init__(self, source: Source, rules: IdRules) -> None:
        self._source, self._rules = source, rules
        self._names = (source.src, source.dst)
        self.kind = rules.kind
        self.map = rules.known
        self.mapped_kind: IdKind = "integers"
        """Type of the ids if they are mapped: texts as soon as one id is a text."""
        self.trimmed = Trimmed()
        self._begun = False
        if rules.choice == "map" and source.first_id:
            raise DataError(f"{setting('ids', 'map')} is not for the format {source.format}")
        if self.map is not None:
            self.kind = "texts" if self.map.texts else "integers"

    @property
    def maps_when_needed(self) -> bool:
        """True if ids that cannot be kept are mapped instead of raising an error."""
        return self._rules.choice == "auto" and not self._source.first_id

    def nodes(self, batch: pa.RecordBatch, locate: Locate) -> tuple[np.ndarray, np.ndarray]:
        """Return the [n] int64 sources and the [n] int64 destinations of a batch's events.

        Raises:
            DataError: an id is missing or not valid.
            OtherIdsError: the ids must be mapped, or stored as texts.
        """
        ids = [id_column(batch.column(name), name, locate, self.trimmed) for name in self._names]
        if not all(pt.is_integer(column.type) for column in ids):
            self.mapped_kind = "texts"
        if self.kind is None:
            self.kind = self.mapped_kind if self._rules.choice == "map" else "keep"
        if self.kind == "keep":
            return self._kept(ids, locate)
        if self.kind != self.mapped_kind == "texts" and self._rules.known is None:
            raise OtherIdsError("texts", "")
        if self.map is None:
            self.map = PairMap(self._source.separate_ids, self.kind == "texts")
        src, dst = (
            _mapped_column(column, name, locate, not self.map.texts)
            for column, name in zip(ids, self._names, strict=True)
        )
        return self.map.number(src, dst)

    def _kept(self, ids: list[pa.Array], locate: Locate) -> tuple[np.ndarray, np.ndarray]:
        if not self._begun and len(ids[0]) > 1:  # texts usually appear in the first event
            self._kept([column.slice(0, 1) for column in ids], locate)
        smallest = self._source.first_id
        (src, src_fits), (dst, dst_fits) = (integers_of(column) for column in ids)
        src_is_node, dst_is_node = (
            fits & (numbers >= smallest) & (numbers - smallest <= MAX_ID)
            for numbers, fits in ((src, src_fits), (dst, dst_fits))
        )
        good = src_is_node & dst_is_node
        if not good.all():
            row = int(np.argmin(good))
            end = int(src_is_node[row])
            what, fits, number = self._names[end], (src_fits, dst_fits)[end], (src, dst)[end]
            got = str(number[row]) if fits[row] else shown_value(ids[end], row)
            if self.maps_when_needed:
                plain_to_see = row == 0 and not self._begun
                reason = "" if plain_to_see else f"{locate(row)}: {what} is {got}"
                raise OtherIdsError(self.mapped_kind, reason)
            hint = f" ({setting('ids', 'map')} takes ids of any kind)"
            if self._rules.stream is not None:
                hint = (
                    f" (ids of {self._rules.stream} are node numbers; an import of all events with "
                    f"{setting('ids', 'map')} takes ids of any kind)"
                )
            hint = "" if self._source.first_id else hint
            bounds = " and below 2**63 - 1" if _WIDE.search(got) else ""
            raise DataError(
                f"{locate(row)}: {what} must be an integer >= {smallest}{bounds}, got {got}{hint}"
            )
        self._begun = True
        return (src - smallest, dst - smallest) if smallest else (src, dst)


def _mapped_column(ids: pa.Array, what: str, locate: Locate, integers: bool) -> pa.Array:
    """Convert ids from `id_column` to the type of the map: int64 or texts."""
    if not integers:
        return ids.cast(pa.large_string())
    values, fits = integers_of(ids)
    if not fits.all():
        row = int(np.argmin(fits))
        raise DataError(
            f"{locate(row)}: {what} must be an integer in the range of int64, as other ids of the "
            f"stream, got {shown_value(ids, row)}"
        )
    return pa.array(values)
