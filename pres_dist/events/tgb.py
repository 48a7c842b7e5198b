"""Link-prediction data sets of the Temporal Graph Benchmark (Huang et al., NeurIPS 2023).

Only files that already exist are read; nothing is downloaded. py-tgb's own code turns the
edge list into events, features and the official split. It runs in a scratch folder with links
to the tables, but without the pickles that it would otherwise load. The official negatives are
pickles, which are read as plain data (`plain_pickle`).

Shapes: E events, M negatives per event.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.errors import DataError
from pres_dist.events.import_config import COLUMN_OPTIONS, ImportConfig
from pres_dist.events.readers.plain_pickle import read_plain_pickle
from pres_dist.events.stream import EventStream
from pres_dist.events.writer import StreamWriter

PREFIX = "tgbl-"
_PRESCRIBED = (*COLUMN_OPTIONS, "node_features", "ids", "time_scale", "time_unit", "sort")
"""Options that the data set itself determines."""


def import_tgb(
    config: ImportConfig, progress: Callable[[int, int, int], None] | None = None
) -> tuple[EventStream, list[str]]:
    """Import the data set that ``config.source`` names; return the stream, and notes for the user.

    Raises:
        DataError: as in `read_tgb`, or an option is set that the data set determines.
    """
    given = [option for option in _PRESCRIBED if not config.is_default(option)]
    if given:
        raise DataError(f"--{given[0].replace('_', '-')} is not for the format tgb")
    dataset = read_tgb(str(config.source), config.root)
    with StreamWriter(
        config.out,
        name=config.name or str(config.source),
        edge_dim=dataset.edge_dim,
        num_nodes=dataset.num_nodes,
        detect_bipartite=True,
        metadata={"source": str(config.source), "format": "tgb"},
        force=config.force,
    ) as writer:
        for chunk in dataset.chunks():
            writer.append_chunk(chunk)
            if progress is not None:
                progress(writer.num_events, writer.num_events, dataset.num_events)
        if dataset.node_features is not None:
            writer.set_node_features(dataset.node_features)
        assert dataset.official_split is not None
        assert dataset.negatives is not None
        writer.set_official(dataset.official_split, dataset.negatives)
    first, second = dataset.official_split
    notes = [
        f"official split: {first:,} events for training, {second - first:,} for validation, "
        f"{dataset.num_events - second:,} for testing, up to {dataset.negatives.shape[1]:,} "
        "negatives each: data.split: official, evaluation.negatives: tgb"
    ]
    return EventStream.open(config.out), notes


def read_tgb(name: str, root: Path | None) -> EventStream:
    """Read a link-prediction data set of TGB from local files.

    Args:
        name: name of the data set in TGB, e.g. tgbl-wiki.
        root: folder with py-tgb's data sets; the package's own folder when None.

    Raises:
        DataError: py-tgb is not installed, or a file is missing or damaged.
    """
    if not name.startswith(PREFIX):
        raise DataError(f"source must be a link data set of TGB, such as tgbl-wiki, got {name!r}")
    try:
        from tgb.utils.info import DATA_VERSION_DICT, PROJ_DIR
    except ImportError as error:
        raise DataError(
            f"--format tgb needs py-tgb ({error.name} is missing): pip install 'pres-dist[tgb]'"
        ) from None
    if name not in DATA_VERSION_DICT:
        known = ", ".join(known for known in DATA_VERSION_DICT if known.startswith(PREFIX))
        raise DataError(f"source must be one of py-tgb's {known}, got {name!r}")
    folder = (root or Path(PROJ_DIR) / "datasets") / name.replace("-", "_")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --root names the one that {name} was put into")
    official = _official(name, folder)
    dataset = events_of(official)
    names = [Path(official.meta_dict[part]).name for part in ("val_ns", "test_ns")]
    negatives = [read_plain_pickle(folder / file) for file in names]
    return with_negatives(dataset, negatives, [folder / file for file in names])


def _official(name: str, folder: Path) -> Any:
    """Return py-tgb's own data set, built only from the tables in the folder."""
    from tgb.linkproppred.dataset import LinkPropPredDataset
    from tgb.utils.info import PROJ_DIR

    with tempfile.TemporaryDirectory(prefix="pres-dist-tgb-") as scratch:
        inside = Path(scratch) / folder.name
        inside.mkdir()
        for table in folder.glob("*.csv"):
            (inside / table.name).symlink_to(table.resolve())
        try:
            # py-tgb prepends its own folder to the root.
            return LinkPropPredDataset(name, os.path.relpath(scratch, PROJ_DIR), download=False)
        except FileNotFoundError as error:
            reason = str(error).replace(os.path.relpath(scratch, PROJ_DIR), str(folder.parent))
            raise DataError(f"{folder}: a file of {name} is missing: {reason}") from None
        except Exception as error:  # its parsers raise many kinds of errors
            raise DataError(f"{folder}: py-tgb cannot read {name}: {error}") from None


def events_of(official: Any) -> EventStream:
    """Return the events, features and split of py-tgb's data set, without negatives yet."""
    data = official.full_data
    t = np.asarray(data["timestamps"], dtype=np.int64)
    order = np.argsort(t, kind="stable")
    features, nodes = official.edge_feat, official.node_feat
    after = ~np.asarray(official.train_mask)[order]
    test = np.asarray(official.test_mask)[order]
    split = int(np.argmax(after)), int(np.argmax(test))
    if not (after[split[0] :].all() and test[split[1] :].all() and test.any()):
        raise DataError("the official split must be one by time, with events in the test split")
    # Edge features that are all 0 mean nothing.
    rows = np.asarray(features, dtype=np.float32)[order] if _given(features) else None
    src, dst = (np.asarray(data[ends], dtype=np.int64) for ends in ("sources", "destinations"))
    return EventStream(
        name="tgb",
        src=src[order],
        dst=dst[order],
        t=t[order],
        num_nodes=int(max(src.max(), dst.max())) + 1,
        official_split=split,
        edge_features=rows if rows is not None and rows.any() else None,
        node_features=np.asarray(nodes, dtype=np.float32) if _given(nodes) else None,
    )


def _given(features: Any) -> bool:
    return features is not None and np.ndim(features) == 2 and np.shape(features)[1] > 0


def with_negatives(
    dataset: EventStream, by_event: list[dict[Any, Any]], files: list[Path]
) -> EventStream:
    """Return the data set with the negatives of its validation and test events.

    For each of the two splits, `by_event` has [M] negatives by (src, dst, t), read from a file.
    """
    assert dataset.official_split is not None
    first, second = dataset.official_split
    parts = [range(first, second), range(second, dataset.num_events)]
    rows: list[np.ndarray] = []
    for events, negatives, file in zip(parts, by_event, files, strict=True):
        rows += _rows(dataset, events, negatives, file)
    width = max((len(row) for row in rows), default=0)
    table = np.full((len(rows), max(width, 1)), -1, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return replace(dataset, negatives=table)


def _rows(
    dataset: EventStream, events: range, negatives: dict[Any, Any], file: Path
) -> list[np.ndarray]:
    if not isinstance(negatives, dict):
        raise DataError(
            f"{file}: must hold a dict by (src, dst, t), got {type(negatives).__name__}"
        )
    num_nodes = dataset.num_nodes
    part = slice(events.start, events.stop)
    columns = (dataset.src[part], dataset.dst[part], dataset.t[part])
    rows = []
    for key in zip(*(column.tolist() for column in columns), strict=True):
        if key not in negatives:
            raise DataError(f"{file}: no negatives of the event (src, dst, t) = {key}")
        row = np.asarray(negatives[key])
        # py-tgb writes integers as floats if it joins them to an empty list.
        whole = row.astype(np.int64) if row.dtype.kind in "iuf" else row
        valid = row.ndim == 1 and row.dtype.kind in "iuf" and (whole == row).all()
        if not valid or (row.size and not 0 <= whole.min() <= whole.max() < num_nodes):
            raise DataError(f"{file}: negatives of {key} must be nodes below {num_nodes}")
        rows.append(whole)
    return rows
