"""From the columns of ids to nodes: kept as numbers, or mapped in the order of appearance."""

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
from pres_dist.events.ids import PairMap, raw_column
from pres_dist.events.raw_ids import Trimmed, id_column, integers_of
from pres_dist.events.readers.source import Source
from pres_dist.wording import setting

IdKind = Literal["keep", "integers", "texts"]
"""Ids are nodes themselves, or are mapped and held as int64 or as texts."""

_WIDE = re.compile(r"^'?[1-9][0-9]{18,}'?$")


class OtherIdsError(Exception):
    """Ids turned out to be of another kind than was begun with: they must be read anew.

    Attributes:
        kind: the one that fits what has been seen.
        reason: why, for the user.
    """

    def __init__(self, kind: IdKind, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True)
class IdRules:
    """How ids become nodes.

    Attributes:
        choice: of the user; ``auto`` keeps integers and maps what else there is.
        kind: what an earlier attempt has shown; None at the first.
        known: the numbers that a stream has given, to be gone on with.
        stream: name of the stream that is extended; None at an import.
    """

    choice: Literal["auto", "keep", "map"]
    kind: IdKind | None = None
    known: PairMap | None = None
    stream: str | None = None


class NodeColumns:
    """Reads the ids of batches as nodes; keeps what spans batches.

    Args:
        source: whose columns they are.
        rules: how they are read.
    """

    def __init__(self, source: Source, rules: IdRules) -> None:
        self._source, self._rules = source, rules
        self._names = (source.src, source.dst)
        self.kind = rules.kind
        self.map = rules.known
        self.mapped_kind: IdKind = "integers"
        """How ids are held where they are mapped: as texts where one was a text."""
        self.trimmed = Trimmed()
        self._begun = False
        if rules.choice == "map" and source.first_id:
            raise DataError(f"{setting('ids', 'map')} is not for the format {source.format}")
        if self.map is not None:
            self.kind = "texts" if self.map.texts else "integers"

    @property
    def maps_when_needed(self) -> bool:
        """Whether ids that cannot be kept are mapped in place of an error."""
        return self._rules.choice == "auto" and not self._source.first_id

    def nodes(self, batch: pa.RecordBatch, locate: Locate) -> tuple[np.ndarray, np.ndarray]:
        """Return two [n] int64 nodes of the events of a batch.

        Raises:
            DataError: an id that is missing, or cannot be one.
            OtherIdsError: the ids must be mapped, or held as texts.
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
            raw_column(column, name, locate, not self.map.texts)
            for column, name in zip(ids, self._names, strict=True)
        )
        return self.map.number(src, dst)

    def _kept(self, ids: list[pa.Array], locate: Locate) -> tuple[np.ndarray, np.ndarray]:
        if not self._begun and len(ids[0]) > 1:  # most often the first event shows texts
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
            bounds = " and below 2**63 - 1" if _WIDE.search(got) else ""
            raise DataError(
                f"{locate(row)}: {what} must be an integer >= {smallest}{bounds}, got {got}"
                f"{self._hint()}"
            )
        self._begun = True
        return (src - smallest, dst - smallest) if smallest else (src, dst)

    def _hint(self) -> str:
        """How ids of any kind can be read."""
        if self._source.first_id:
            return ""
        if self._rules.stream is not None:
            return (
                f" (ids of {self._rules.stream} are node numbers; an import of all events with "
                f"{setting('ids', 'map')} takes ids of any kind)"
            )
        return f" ({setting('ids', 'map')} takes ids of any kind)"
