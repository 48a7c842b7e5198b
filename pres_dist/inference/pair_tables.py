"""Pairs passed in Python, as a DataFrame or as tuples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pres_dist import arguments
from pres_dist.errors import ArgumentError
from pres_dist.events.frames import frame_table, is_table
from pres_dist.events.readers.table import require_columns
from pres_dist.events.times import TimeRules, column_of
from pres_dist.inference.given_ids import id_column
from pres_dist.inference.live import LiveRun
from pres_dist.inference.pair_files import check_times, nodes_of
from pres_dist.inference.pairs import Pairs
from pres_dist.inference.times import times_of

if TYPE_CHECKING:
    import pandas as pd


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
    given = arguments.items("pairs", pairs, "tuples (src, dst) or (src, dst, t)")
    rows = [_row(f"pairs[{place}]", pair) for place, pair in enumerate(given)]
    if not rows:
        return [pa.nulls(0)], "pair "
    for place, row in enumerate(rows):
        if len(row) not in (2, 3) or len(row) != len(rows[0]):
            raise ArgumentError(
                f"pairs[{place}] must be (src, dst) or (src, dst, t), as all pairs are, got tuples "
                f"of {sorted({len(rows[0]), len(row)})} values"
            )

    def locate(row: int) -> str:
        return f"pair {row}"

    src, dst, *times = zip(*rows, strict=True)
    columns = [id_column(src, "src", locate), id_column(dst, "dst", locate)]
    allowed = TimeRules.of(live.stream).allowed
    return [*columns, *(column_of(t, "t", locate, allowed) for t in times)], "pair "


def _row(where: str, pair: object) -> tuple[object, ...]:
    if not isinstance(pair, (tuple, list, np.ndarray)):
        raise ArgumentError(f"{where} must be a tuple (src, dst) or (src, dst, t), got {pair!r}")
    return tuple(pair)
