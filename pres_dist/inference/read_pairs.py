"""Read pairs from files, DataFrames and tuples; write files with a column of probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from pres_dist import arguments
from pres_dist.errors import ArgumentError, DataError
from pres_dist.events.chunk import Locate
from pres_dist.events.frames import frame_table, is_table
from pres_dist.events.lookup import SIDES, UNKNOWN, NodeLookup, Side
from pres_dist.events.raw_ids import id_column, parse_id
from pres_dist.events.readers.source import open_table
from pres_dist.events.readers.table import Table, column_named, require_columns
from pres_dist.events.times import TimeRules, column_of
from pres_dist.inference.live import LiveRun
from pres_dist.inference.pairs import Pairs
from pres_dist.inference.times import times_of

if TYPE_CHECKING:
    import pandas as pd

PROBABILITY = "probability"
Unknown = Literal["error", "skip"]


@dataclass(frozen=True)
class PairColumns:
    """Names of the columns of pairs.

    Attributes:
        time: optional column of times.
        delimiter: delimiter of a CSV file; a comma or a tab when None.
    """

    src: str = "src"
    dst: str = "dst"
    time: str = "t"
    delimiter: str | None = None


class PairFile:
    """Pairs in a CSV, TSV or Parquet file.

    Args:
        path: the file.
        columns: names of the columns to read; other columns are copied to the output.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a column named probability.
    """

    def __init__(self, path: Path, columns: PairColumns) -> None:
        self._table: Table = open_table(path, delimiter=columns.delimiter)
        named = partial(column_named, self._table.columns)
        self._columns = PairColumns(named(columns.src), named(columns.dst), named(columns.time))
        require_columns(self._table, [self._columns.src, self._columns.dst])
        if PROBABILITY in self._table.columns:
            raise DataError(f"{path}: has a column {PROBABILITY!r} already, which is to be written")
        self.num_rows = 0
        """Number of pairs in the file; 0 before they are read."""
        self.has_times = self._columns.time in self._table.columns

    def pairs(self, live: LiveRun, t: int, unknown: Unknown) -> tuple[Pairs, np.ndarray]:
        """Return the pairs to score, and their row numbers in the file.

        Args:
            live: the run, which defines ids and times.
            t: time of the pairs if the file has no column of times.
            unknown: raise an error for an unknown id, or skip its pair.

        Raises:
            DataError: an id is unknown, or a time is not valid or too early.
        """
        read = list(self._read(live, t, unknown))
        if not read:
            raise DataError(f"{self._table.path}: must hold at least one pair, got none")
        src, dst, times = (np.concatenate(column) for column in zip(*read, strict=True))
        self.num_rows = len(src)
        (places,) = np.nonzero((src != UNKNOWN) & (dst != UNKNOWN))
        return Pairs(src[places], dst[places], times[places]), places

    def with_probabilities(self, probability: np.ndarray) -> Iterator[pa.Table]:
        """Yield the rows of the file, part by part, with a probability that is empty for NaN."""
        done = 0
        for batch in self._table.batches(self._table.columns):
            values = probability[done : done + batch.num_rows]
            done += batch.num_rows
            yield pa.Table.from_batches([batch]).append_column(
                PROBABILITY, pa.array(values, from_pandas=True)
            )

    def _read(
        self, live: LiveRun, t: int, unknown: Unknown
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the nodes and times of the rows, part by part."""
        first, names = 0, self._columns
        wanted = [names.src, names.dst, *([names.time] if self.has_times else [])]
        for batch in self._table.batches(wanted):

            def locate(row: int, first: int = first) -> str:
                return self._table.locate(first + row)

            src, dst = (
                nodes_of(live.lookup, batch.column(name), name, side, locate, unknown)
                for name, side in zip((names.src, names.dst), SIDES, strict=True)
            )
            times = np.full(batch.num_rows, t, np.int64)
            if self.has_times:
                column = batch.column(names.time)
                times = times_of(live.stream, column, names.time, locate)
                check_times(live, times, names.time, locate)
            yield src, dst, times
            first += batch.num_rows


def nodes_of(
    lookup: NodeLookup,
    column: pa.Array,
    what: str,
    side: Side,
    locate: Locate,
    unknown: Unknown = "error",
) -> np.ndarray:
    """Return the [n] nodes of ids; raise DataError for an unknown id, unless it is skipped."""
    own_side: Side | None = side if lookup.bipartite else None
    ids = id_column(column, what, locate, missing=unknown == "skip")
    nodes = lookup.nodes(ids, own_side)
    if unknown == "error" and (nodes == UNKNOWN).any():
        row = int(np.argmax(nodes == UNKNOWN))
        told = lookup.explain(column[row].as_py(), what, own_side)
        raise DataError(f"{locate(row)}: {told}")
    return nodes


def check_times(live: LiveRun, times: np.ndarray, what: str, locate: Locate) -> None:
    """Raise DataError for a time that the memory cannot be moved to."""
    for extreme in (times.argmin(), times.argmax()) if len(times) else ():
        live.check_time(int(times[extreme]), f"{locate(int(extreme))}: {what}")


def pairs_of(live: LiveRun, pairs: pd.DataFrame | Iterable[Sequence[Any]], t: int) -> Pairs:
    """Return the pairs of a DataFrame with columns src, dst and optionally t, or of such tuples.

    Args:
        live: the run, which defines ids and times.
        pairs: one pair per row or tuple.
        t: time of pairs without one.

    Raises:
        DataError: a column is missing, an id is unknown or a time is out of range. The message
            has the row.
    """
    columns, what = _columns(pairs, live)
    if not len(columns[0]):
        nothing = np.empty(0, np.int64)
        return Pairs(nothing, nothing, nothing)

    def locate(row: int) -> str:
        return f"{what}{row}"

    src = nodes_of(live.lookup, columns[0], "src", "source", locate)
    dst = nodes_of(live.lookup, columns[1], "dst", "destination", locate)
    times = np.full(len(src), t, np.int64)
    if len(columns) > 2:
        times = times_of(live.stream, columns[2], "t", locate)
        check_times(live, times, "t", locate)
    return Pairs(src, dst, times)


def _columns(pairs: object, live: LiveRun) -> tuple[list[pa.Array], str]:
    """Return two or three columns, and the prefix of row numbers in error messages."""
    if is_table(pairs):
        table = frame_table(pairs, "pairs")
        names = ["src", "dst", *(["t"] if "t" in table.columns else [])]
        require_columns(table, names)
        batches = list(table.batches(names))
        return [
            pa.concat_arrays([batch.column(name) for batch in batches]) if batches else pa.nulls(0)
            for name in names
        ], "DataFrame: row "
    rows: list[Sequence[Any]] = []
    for pair in arguments.items("pairs", pairs, "tuples (src, dst) or (src, dst, t)"):
        where = f"pairs[{len(rows)}] must be"
        if not isinstance(pair, (tuple, list, np.ndarray)):
            raise ArgumentError(f"{where} a tuple (src, dst) or (src, dst, t), got {pair!r}")
        rows.append(tuple(pair))
        if len(pair) not in (2, 3) or len(pair) != len(rows[0]):
            raise ArgumentError(
                f"{where} (src, dst) or (src, dst, t), as all pairs are, got tuples of "
                f"{sorted({len(rows[0]), len(pair)})} values"
            )
    if not rows:
        return [pa.nulls(0)], "pair "

    def locate(row: int) -> str:
        return f"pair {row}"

    src, dst, *times = zip(*rows, strict=True)
    columns = [
        # as texts, since a column of Arrow cannot hold integers and texts
        pa.array(
            [str(parse_id(one, f"{locate(row)}: {what}")) for row, one in enumerate(ids)],
            pa.large_string(),
        )
        for what, ids in (("src", src), ("dst", dst))
    ]
    allowed = TimeRules.of(live.stream).allowed
    return [*columns, *(column_of(t, "t", locate, allowed) for t in times)], "pair "
