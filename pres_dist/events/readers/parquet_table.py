"""Reader of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pres_dist.errors import DataError
from pres_dist.events.convert import is_list
from pres_dist.events.readers.table import check_source, list_width

BATCH_VALUES = 1 << 21
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError)


class ParquetTable:
    """One Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = check_source(path)
        self._rows_read = 0
        try:
            self._file = pq.ParquetFile(
                path, memory_map=False, pre_buffer=False, page_checksum_verification=True
            )
            self.columns = list(self._file.schema_arrow.names)
        except DAMAGED as error:
            raise self._damaged(error) from None

    @property
    def position(self) -> int:
        """Approximate number of bytes read so far."""
        return self.size * self._rows_read // max(1, self._file.metadata.num_rows)

    def width(self, column: str) -> int:
        """Return the numbers per row of a column: 1, or the length of its first list."""
        kind = self._file.schema_arrow.field(column).type
        if not is_list(kind):
            return 1
        return list_width(next(self.batches([column]), pa.nulls(0, kind)).column(0))

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, with the types of the file."""
        size = max(1024, BATCH_VALUES // len(columns))
        self._rows_read = 0
        try:
            for batch in self._file.iter_batches(size, columns=columns, use_threads=False):
                batch.validate(full=True)
                self._rows_read += batch.num_rows
                yield batch
        except DAMAGED as error:
            raise self._damaged(error) from None

    def locate(self, row: int) -> str:
        """Return the place of a row, such as ``events.parquet: row 812``, counted from 0."""
        return f"{self.path}: row {row}"

    def _damaged(self, error: BaseException) -> DataError:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return DataError(f"{self.path}: cannot be read as Parquet: {reason}")
