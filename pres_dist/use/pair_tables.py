"""Pairs that a notebook has at hand: a DataFrame, or tuples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pres_dist.errors import DataError
from pres_dist.events.from_tables import frame_table
from pres_dist.events.raw_ids import parse_id
from pres_dist.events.readers.table import require_columns
from pres_dist.use.live import LiveRun
from pres_dist.use.pair_files import check_times, nodes_of
from pres_dist.use.pairs import Pairs
from pres_dist.use.times import times_of

if TYPE_CHECKING:
    import pandas as pd


def pairs_of(live: LiveRun, pairs: pd.DataFrame | Iterable[Sequence[Any]], t: int) -> Pairs:
    """The pairs of a DataFrame with columns src, dst and perhaps t, or of such tuples.

    Args:
        live: whose ids and times they have.
        pairs: one a row.
        t: time of pairs without one.

    Raises:
        DataError: a missing column, an unknown id or a time out of range, with its row.
    """
    columns, what = _columns(pairs)
    if not len(columns[0]):
        nothing = np.empty(0, np.int64)
        return Pairs(nothing, nothing, nothing)

    def locate(row: int) -> str:
        return f"{what} {row}"

    src = nodes_of(live.lookup, columns[0], "src", "source", locate)
    dst = nodes_of(live.lookup, columns[1], "dst", "destination", locate)
    times = np.full(len(src), t, np.int64)
    if len(columns) > 2:
        times = times_of(live.stream, columns[2], "t", locate)
        check_times(live, times, "t", locate)
    return Pairs(src, dst, times)


def _columns(pairs: pd.DataFrame | Iterable[Sequence[Any]]) -> tuple[list[pa.Array], str]:
    """Two or three columns, and what to call a row in errors."""
    if hasattr(pairs, "columns"):
        table = frame_table(pairs)
        names = ["src", "dst", *(["t"] if "t" in table.columns else [])]
        require_columns(table, names)
        batches = list(table.batches(names))
        return [
            pa.concat_arrays([batch.column(name) for batch in batches]) if batches else pa.nulls(0)
            for name in names
        ], "DataFrame: row"
    rows = [tuple(pair) for pair in pairs]
    widths = {len(row) for row in rows}
    if widths - {2, 3} or len(widths) > 1:
        raise DataError(
            "pairs must be a DataFrame or tuples, all (src, dst) or all (src, dst, t), "
            f"got tuples of {sorted(widths)} values"
        )
    if not rows:
        return [pa.nulls(0)], "pair"
    columns = list(zip(*rows, strict=True))
    ids = [
        pa.array([str(parse_id(one, f"pair {row}: {name}")) for row, one in enumerate(column)])
        for column, name in zip(columns[:2], ("src", "dst"), strict=True)
    ]
    try:
        return [*ids, *(pa.array(column) for column in columns[2:])], "pair"
    except pa.ArrowException as error:
        raise DataError(f"pairs: times must be of one type: {error}") from None
