"""Tables of numbers for nodes by the user's own ids, in memory and as files.

Shapes: n nodes, A numbers a node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pres_dist.errors import MissingPackageError
from pres_dist.events.lookup import NodeLookup
from pres_dist.events.stream import EventStream
from pres_dist.inference.table_files import check_place, ending, new_file, table_file

if TYPE_CHECKING:
    import pandas as pd

NODE_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".npz")


@dataclass(frozen=True)
class NodeTable:
    """One row of numbers for each of n nodes.

    Attributes:
        ids: [n], the user's own ids.
        sides: source or destination for each, if the stream is bipartite. The same id may then
            name a source and a destination.
        values: [n, A] float32.
        time: time of the values, in the stream's unit: events strictly before it are seen.
        last_update: [n] int64 time of the newest event in each memory; None for embeddings.
        kind: embedding or memory; the name of the column of values.
    """

    ids: list[str] | np.ndarray
    sides: list[str] | None
    values: Tensor
    time: int
    last_update: Tensor | None = None
    kind: str = "embedding"

    def __len__(self) -> int:
        return len(self.ids)

    def to_arrow(self, spread: bool = False) -> pa.Table:
        """Return columns id, side (bipartite streams), last_update (memory) and the values.

        Args:
            spread: return the values in columns e0, e1, ... instead of one list per node.
        """
        values = np.ascontiguousarray(self.values.cpu().numpy(), dtype=np.float32)
        columns = _id_columns(self)
        if spread:
            columns |= {f"e{place}": column for place, column in enumerate(values.T)}
        else:
            flat, width = pa.array(values.ravel()), values.shape[1]
            columns[self.kind] = pa.FixedSizeListArray.from_arrays(flat, width)
        return pa.table(columns)

    def to_pandas(self) -> pd.DataFrame:
        """Return columns e0, e1, ... indexed by id, or by (side, id) if the stream is bipartite."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingPackageError("to_pandas", "pandas", "pandas") from None
        columns = _id_columns(self)
        ids, sides = columns.pop("id"), columns.pop("side", None)
        index = pd.Index(ids, name="id")
        if sides is not None:
            index = pd.MultiIndex.from_arrays([sides, ids], names=["side", "id"])
        values = self.values.cpu().numpy()
        columns |= {f"e{place}": column for place, column in enumerate(values.T)}
        return pd.DataFrame(columns, index=index)


def joined(tables: Sequence[NodeTable]) -> NodeTable:
    """Concatenate the parts of a table; there must be at least one."""
    first = tables[0]
    if len(tables) == 1:
        return first
    ids: list[str] | np.ndarray
    if isinstance(first.ids, list):
        ids = [one for table in tables for one in table.ids]
    else:
        ids = np.concatenate([table.ids for table in tables])
    sides = None if first.sides is None else [one for table in tables for one in table.sides or ()]
    return replace(first, ids=ids, sides=sides, values=torch.cat([each.values for each in tables]))


def table_of(
    stream: EventStream, nodes: Tensor, values: Tensor, time: int, last_update: Tensor | None = None
) -> NodeTable:
    """Return a table of the values of nodes, with the user's own ids."""
    numbers = nodes.cpu().numpy()
    sides = NodeLookup(stream).side_of(numbers)
    return NodeTable(
        stream.raw_ids(numbers),
        None if sides is None else [str(side) for side in sides],
        values,
        time,
        last_update,
        "embedding" if last_update is None else "memory",
    )


def write_tables(path: Path, tables: Iterator[NodeTable], about: Mapping[str, object]) -> int:
    """Write the parts of a table to a file, atomically, and return the number of rows.

    Args:
        path: .parquet with a list of numbers per node, .csv or .csv.gz with a column per number,
            or .npz, for which all rows are kept in memory.
        tables: parts of one table.
        about: metadata for the Parquet schema.

    Raises:
        DataError: the suffix is not supported, or the file cannot be written.
    """
    check_place(path, NODE_SUFFIXES)
    if path.suffix == ".npz":
        with new_file(path) as file:
            whole = joined(list(tables))
            arrays: dict[str, Any] = {
                name: np.asarray(column) for name, column in _id_columns(whole).items()
            }
            arrays[whole.kind] = whole.values.cpu().numpy()
            with file.open("wb") as opened:
                np.savez(opened, time=np.int64(str(about["time"])), **arrays)
        return len(whole)
    num_rows = 0
    with table_file(path, about) as writer:
        for table in tables:
            writer.write(table.to_arrow(spread=ending(path) != ".parquet"))
            num_rows += len(table)
    return num_rows


def _id_columns(table: NodeTable) -> dict[str, Any]:
    columns: dict[str, Any] = {"id": table.ids}
    if table.sides is not None:
        columns["side"] = table.sides
    if table.last_update is not None:
        columns["last_update"] = table.last_update.cpu().numpy()
    return columns
