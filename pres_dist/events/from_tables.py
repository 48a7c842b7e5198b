"""Streams from Parquet files and tables in memory, with the checks of an import."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from pres_dist import arguments
from pres_dist.config.suggest import suggest
from pres_dist.errors import ArgumentError, PresDistWarning
from pres_dist.events.frames import FRAME, frame_table
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.readers.source import joined_names
from pres_dist.events.readers.table import Table
from pres_dist.events.stream import EventStream

OPTIONS = ("name", "ids", "sort", "time_scale", "time_unit", "force", "feature_file")
"""Fields of `ImportConfig` that are accepted as options, in addition to `node_features`."""


def stream_of(
    source: Path | object,
    *,
    columns: dict[str, object],
    features: Sequence[object] | None,
    bipartite: bool,
    out: str | Path | None,
    options: dict[str, Any],
) -> EventStream:
    """Import a Parquet file or a table in memory.

    Args:
        source: path of a Parquet file, or a table in memory.
        columns: names of the columns src, dst, t and label; label may be None.
        features: names of the columns of edge features; f0, f1, ... when None.
        bipartite: True if sources and destinations are two sets of ids.
        out: directory to store the stream in; None keeps it in memory.
        options: other fields of `ImportConfig`.

    Raises:
        ArgumentError: an argument is not valid.
        DataError: a column or a value is not valid.
    """
    _check_options(options)
    named = {
        "time" if name == "t" else name: arguments.column(name, value)
        for name, value in columns.items()
        if not (name == "label" and value is None)
    }
    if features is not None:
        names = arguments.items("features", features, "names of columns")
        named["features"] = joined_names(
            [arguments.column(f"features[{place}]", one) for place, one in enumerate(names)]
        )
    config: dict[str, Any] = {"format": "parquet", **named, **options}
    config["bipartite"] = arguments.flag("bipartite", bipartite)
    place = None if out is None else arguments.path("out", out)
    path, table = (
        (source, None) if isinstance(source, Path) else (FRAME, frame_table(source, "frame"))
    )
    config.setdefault("name", path.stem if place is None else None)
    if place is not None:
        return _imported(place, path, table, config)
    with tempfile.TemporaryDirectory(prefix="pres_dist-") as folder:
        return _in_memory(_imported(Path(folder) / "stream", path, table, config))


def _check_options(options: dict[str, Any]) -> None:
    known = [*OPTIONS, "node_features"]
    for name, value in options.items():
        if name == "time":
            raise ArgumentError("time is not an argument: the column of times is named by t")
        if name not in known:
            hint = suggest(
                name, ["src", "dst", "t", "label", "features", "bipartite", "out", *known]
            )
            raise ArgumentError(f"{name} is not an argument; {hint}")
        if name in ("sort", "force"):
            arguments.flag(name, value)


def _imported(out: Path, path: Path, table: Table | None, options: dict[str, Any]) -> EventStream:
    try:
        config = ImportConfig(source=path, out=out, **options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArgumentError(f"{where}: {first['msg']}, got {first['input']!r}") from None
    result = import_stream(config, table=table)
    for note in result.notes:
        # Level 5 is the caller of from_pandas: its check, stream_of and this function lie between.
        warnings.warn(note, PresDistWarning, stacklevel=5)
    return result.stream


def _in_memory(stream: EventStream) -> EventStream:
    """Return the stream with copies of its memory maps, so that its files can be removed."""
    columns: dict[str, Any] = {
        name: np.array(values)
        for name, values in vars(stream).items()
        if isinstance(values, np.ndarray)
    }
    ids = stream.node_ids
    if ids is not None:
        ids = pa.chunked_array([ids.take(pa.array(np.arange(len(ids)))).combine_chunks()])
    return replace(stream, **columns, node_ids=ids, path=None)
