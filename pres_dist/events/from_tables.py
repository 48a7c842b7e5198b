"""Streams out of tables that are at hand, by the very checks and conversions of an import."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from pres_dist.errors import DataError
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.readers.source import joined_names
from pres_dist.events.readers.table import Table, list_width
from pres_dist.events.stream import EventStream

if TYPE_CHECKING:
    import pandas as pd

FRAME = Path("DataFrame")
"""What stands for the path of a table that has none."""
ROWS = 1 << 20


class ArrowTable:
    """An Arrow table in memory as a source of events."""

    def __init__(self, table: pa.Table) -> None:
        self.path = FRAME
        self.columns = [str(name) for name in table.column_names]
        self.size = max(table.num_rows, 1)
        self._table = table
        self._rows_read = 0

    @property
    def position(self) -> int:
        """Rows read so far, as `size` counts rows."""
        return self._rows_read

    def width(self, column: str) -> int:
        """Numbers of a row in a column: 1, or as many as the first list of it holds."""
        return list_width(self._table.column(column).combine_chunks())

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows in order, with only `columns`."""
        self._rows_read = 0
        for batch in self._table.select(columns).combine_chunks().to_batches(ROWS):
            self._rows_read += batch.num_rows
            yield batch

    def locate(self, row: int) -> str:
        """`DataFrame: row 812`, counted from 0."""
        return f"{FRAME}: row {row}"


def frame_table(frame: pd.DataFrame) -> ArrowTable:
    """A DataFrame as a source of events; DataError where a column mixes types."""
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{FRAME}: a column has values of several types: {reason}") from None
    return ArrowTable(table.rename_columns([str(name) for name in table.column_names]))


def stream_of(
    source: Path | pd.DataFrame,
    *,
    features: Sequence[str] | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    **options: Any,
) -> EventStream:
    """Import a file or a DataFrame.

    Args:
        source: what to import.
        features: names of the columns of edge features; f0, f1, ... where None.
        out: directory to store the stream in; None keeps it in memory.
        name: of the stream; that of the directory or the file when None.
        options: other fields of `ImportConfig`.

    Raises:
        DataError: a column, a value or an option that cannot be used.
    """
    path, table = (source, None) if isinstance(source, Path) else (FRAME, frame_table(source))
    if not isinstance(source, Path):
        options = {"format": "parquet", **options}  # columns with names and types
    if features is not None:
        options["features"] = joined_names(str(name) for name in features)
    name = name or (path.stem if out is None else None)
    if out is not None:
        return _imported(Path(out), path, table, name, options)
    with tempfile.TemporaryDirectory(prefix="pres_dist-") as folder:
        return _in_memory(_imported(Path(folder) / "stream", path, table, name, options))


def _imported(
    out: Path, path: Path, table: Table | None, name: str | None, options: dict[str, Any]
) -> EventStream:
    try:
        config = ImportConfig(source=path, out=out, name=name, **options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where}: {first['msg']}, got {first['input']!r}") from None
    return import_stream(config, table=table).stream


def _in_memory(stream: EventStream) -> EventStream:
    """Copies of what is memory-mapped, so that the files may go."""
    columns: dict[str, Any] = {
        name: np.array(values)
        for name, values in vars(stream).items()
        if isinstance(values, np.ndarray)
    }
    ids = stream.node_ids
    if ids is not None:
        ids = pa.chunked_array([ids.take(pa.array(np.arange(len(ids)))).combine_chunks()])
    return replace(stream, **columns, node_ids=ids, path=None)
