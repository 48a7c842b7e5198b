"""Source formats: the file that holds the events, and the meaning of its columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pres_dist.errors import DataError, first_line
from pres_dist.events.convert import WHITE_SPACE
from pres_dist.events.import_config import COLUMN_OPTIONS, ImportConfig
from pres_dist.events.readers.csv_table import CsvTable, first_rows
from pres_dist.events.readers.file_kind import table_kind
from pres_dist.events.readers.table import ParquetTable, Table, column_named, require_columns
from pres_dist.files import open_regular
from pres_dist.wording import option_name

_KINDS = {"csv": "CSV", "parquet": "Parquet"}
JODIE_HEADER = ["user_id", "item_id", "timestamp", "state_label"]


@dataclass
class Source:
    """A table of events and the meaning of its columns."""

    table: Table
    format: str
    src: str = "src"
    dst: str = "dst"
    time: str = "t"
    label: str | None = None
    features: list[str] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    """Numbers per row in each column of ``features``: 1, or the length of its lists."""
    separate_ids: bool = False
    first_id: int = 0
    """Smallest valid id, which becomes node 0."""
    feature_row: str | None = None
    """Column with the row of ``feature_array`` that belongs to the event."""
    feature_array: np.ndarray | None = None
    """[E, d_e] edge features; any number of rows if ``feature_row`` selects them."""
    node_features: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    """Notes for the user on how the source was read."""

    @property
    def columns(self) -> list[str]:
        """Names of all columns to read."""
        optional = [column for column in (self.label, self.feature_row) if column]
        return [self.src, self.dst, self.time, *optional, *self.features]

    @property
    def edge_dim(self) -> int:
        """Number of features of an event."""
        return sum(self.widths) if self.feature_array is None else self.feature_array.shape[1]


def open_source(config: ImportConfig, table: Table | None = None) -> Source:
    """Detect the format and check the columns; raise ``DataError`` if one is missing.

    ``table`` is an already open table with freely named columns.
    """
    kind = _detect_format(config.source) if config.format == "auto" else config.format
    if kind in ("csv", "parquet"):
        source = _named_columns(
            config, kind, table or open_table(config.source, kind, config.delimiter)
        )
    else:
        given = [option for option in COLUMN_OPTIONS if not config.is_default(option)]
        if given:
            raise DataError(
                f"{option_name(given[0])} is for csv and parquet, not for the format {kind}"
            )
        readers = {"jodie": _jodie, "tgl": _tgl, "dyglib": _dyglib}
        source = readers[kind](config.source)
    if config.node_features is not None:
        source.node_features = read_array(config.node_features)
    require_columns(source.table, source.columns)
    source.widths = [source.table.width(name) for name in source.features]
    return source


def open_table(path: Path, kind: str | None = None, delimiter: str | None = None) -> Table:
    """Open a table with freely named columns, as Parquet, CSV or TSV by its content.

    Args:
        path: the file.
        kind: csv or parquet, if the file must be of that kind.
        delimiter: column separator of CSV; None for a tab if the header has one, else a comma.

    Raises:
        DataError: the file cannot be read, or is of another kind.
    """
    found = table_kind(path)
    if kind not in (None, found):
        raise DataError(f"{path}: must be {_KINDS[str(kind)]}, got {_KINDS[found]}")
    if found == "csv":
        return CsvTable(path, delimiter=delimiter)
    if delimiter is not None:
        raise DataError(f"{path}: {option_name('delimiter')} is for CSV, this is Parquet")
    return ParquetTable(path)


def _detect_format(path: Path) -> str:
    if path.is_dir():
        if (path / "edges.csv").exists():
            return "tgl"
        if list(path.glob("ml_*.csv")):
            return "dyglib"
        raise DataError(f"{path}: must be a file, or a folder with edges.csv (TGL) or ml_*.csv")
    kind = table_kind(path)
    if kind == "parquet":
        return kind
    if path.name.startswith("ml_") and path.suffix == ".csv":
        return "dyglib"
    return "jodie" if CsvTable(path).columns[:4] == JODIE_HEADER else "csv"


def _named_columns(config: ImportConfig, kind: str, table: Table) -> Source:
    """Return a CSV or Parquet source with the columns named by the user or by default."""
    label: str | None = column_named(table.columns, config.label or "label")
    if config.label == "" or (config.label is None and label not in table.columns):
        label = None
    source = Source(
        table=table,
        format=kind,
        src=column_named(table.columns, config.src),
        dst=column_named(table.columns, config.dst),
        time=column_named(table.columns, config.time),
        label=label,
        separate_ids=config.bipartite,
    )
    if config.feature_file is not None:
        if config.features is not None:
            raise DataError(
                f"{option_name('features')} and {option_name('feature_file')} exclude each other, "
                "got both"
            )
        source.feature_array = read_array(config.feature_file)
    elif config.features is not None:
        source.features = [
            column_named(table.columns, name) for name in split_names(config.features)
        ]
    else:
        taken = source.columns
        numbers = {
            column: int(name[1:])
            for column in table.columns
            if re.fullmatch(r"f[0-9]+", name := column.strip(WHITE_SPACE)) and column not in taken
        }
        source.features = sorted(numbers, key=numbers.__getitem__)
    ignored = [column for column in table.columns if column not in source.columns]
    if ignored:
        shown = ", ".join(ignored[:8]) + (", ..." if len(ignored) > 8 else "")
        source.notes.append(f"columns not used: {shown}")
    return source


def split_names(names: str) -> list[str]:
    """Return the names in ``a,b,"c, d"``; names with commas are quoted, as in CSV."""
    rows = csv.reader(io.StringIO(names, newline=""), skipinitialspace=True)
    return [name for row in rows for name in row if name]


def joined_names(names: Iterable[str]) -> str:
    """Return names joined to a text that `split_names` reads."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow(names)
    return text.getvalue()


def _jodie(path: Path) -> Source:
    """Return a JODIE source: users and items both count from 0; one header field names features."""
    rows = first_rows(path, 2)
    width = len(rows[1][1])
    if width < 4:
        raise DataError(f"{path}:{rows[1][0]}: must have at least 4 fields, got {width}")
    features = [f"f{number}" for number in range(width - 4)]
    return Source(
        table=CsvTable(path, [*JODIE_HEADER, *features]),
        format="jodie",
        src="user_id",
        dst="item_id",
        time="timestamp",
        label="state_label",
        features=features,
        separate_ids=True,
    )


def _tgl(path: Path) -> Source:
    """Return a TGL source: a folder with edges.csv and optional features as tensors."""
    folder = path if path.is_dir() else path.parent
    source = Source(table=CsvTable(folder / "edges.csv"), format="tgl", time="time")
    if (folder / "edge_features.pt").exists():
        source.feature_array = read_tensor(folder / "edge_features.pt")
    if (folder / "node_features.pt").exists():
        source.node_features = read_tensor(folder / "node_features.pt")
    if (folder / "labels.csv").exists():
        source.notes.append("labels.csv not used: its labels belong to nodes, not to events")
    if "ext_roll" in source.table.columns:
        source.notes.append("ext_roll not used: shares of a run's configuration make the split")
    return source


def _dyglib(path: Path) -> Source:
    """Return a DyGLib source: ids and feature rows start at 1; feature row 0 is padding."""
    files = [path] if path.is_file() else sorted(path.glob("ml_*.csv"))
    if len(files) != 1:
        raise DataError(f"{path}: must hold one file ml_*.csv, got {len(files)}")
    (file,) = files
    source = Source(
        table=CsvTable(file),
        format="dyglib",
        src="u",
        dst="i",
        time="ts",
        label="label",
        feature_row="idx",
        first_id=1,
    )
    edges, nodes = file.with_suffix(".npy"), file.with_name(f"{file.stem}_node.npy")
    if edges.exists():
        source.feature_array = read_array(edges)
    else:
        source.feature_row = None
    if nodes.exists():
        features = read_array(nodes)[1:]
        if features.any():
            source.node_features = features
        else:
            source.notes.append(f"{nodes.name} not used: all node features are 0")
    return source


def read_array(file: Path) -> np.ndarray:
    """Memory-map the two-dimensional numbers of a .npy file; never unpickles."""
    try:
        open_regular(file).close()
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # numpy's header parser raises many kinds of errors
        raise DataError(f"{file}: cannot be read as .npy: {error}") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file}: must be a .npy file, got an .npz archive")
    return _numbers(array, file)


def read_tensor(file: Path) -> np.ndarray:
    """Load the two-dimensional tensor of a .pt file without running its pickle."""
    import torch

    from pres_dist.tensor_files import load_tensors

    try:
        tensor = load_tensors(file)
        if isinstance(tensor, torch.Tensor) and not tensor.is_complex():
            return _numbers(tensor.detach().to(torch.float32).numpy(), file)
    except DataError:
        raise
    except Exception as error:  # damaged archives and sparse tensors raise many kinds of errors
        raise DataError(f"{file}: cannot be read as a tensor: {first_line(error)}") from None
    found = f"{tensor.dtype}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
    raise DataError(f"{file}: must hold one tensor of real numbers, got {found}")


def _numbers(array: np.ndarray, file: Path) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in "iufb" or 0 in array.shape:
        raise DataError(
            f"{file}: must hold numbers of shape [rows, features], "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array
