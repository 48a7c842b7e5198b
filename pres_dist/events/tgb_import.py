"""Import of a TGB data set: events, features, the official split and negatives."""

from __future__ import annotations

from collections.abc import Callable

from pres_dist.errors import DataError
from pres_dist.events.chunk import EventChunk
from pres_dist.events.import_config import COLUMN_OPTIONS, ImportConfig
from pres_dist.events.readers.tgb import TgbDataset, read_tgb
from pres_dist.events.stream import CHUNK_EVENTS, EventStream
from pres_dist.events.writer import StreamWriter

_PRESCRIBED = (*COLUMN_OPTIONS, "node_features", "ids", "time_scale", "time_unit", "sort")
"""Options that the data set itself determines."""


def import_tgb(
    config: ImportConfig, progress: Callable[[int, int, int], None] | None = None
) -> tuple[EventStream, list[str]]:
    """Import the data set that ``config.source`` names as the directory ``config.out``.

    Returns:
        the stored stream, and notes for the user.

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
        edge_dim=0 if dataset.edge_features is None else dataset.edge_features.shape[1],
        num_nodes=_num_nodes(dataset),
        detect_bipartite=True,
        metadata={"source": str(config.source), "format": "tgb"},
        force=config.force,
    ) as writer:
        for start in range(0, len(dataset.t), CHUNK_EVENTS):
            writer.append_chunk(_chunk(dataset, slice(start, start + CHUNK_EVENTS)))
            if progress is not None:
                progress(writer.num_events, writer.num_events, len(dataset.t))
        if dataset.node_features is not None:
            writer.set_node_features(dataset.node_features)
        writer.set_official(dataset.split, dataset.negatives)
    first, second = dataset.split
    notes = [
        f"official split: {first:,} events for training, {second - first:,} for validation, "
        f"{len(dataset.t) - second:,} for testing, up to {dataset.negatives.shape[1]:,} negatives "
        "each: data.split: official, evaluation.negatives: tgb"
    ]
    return EventStream.open(config.out), notes


def _num_nodes(dataset: TgbDataset) -> int:
    return int(max(dataset.src.max(), dataset.dst.max())) + 1


def _chunk(dataset: TgbDataset, rows: slice) -> EventChunk:
    features = dataset.edge_features
    return EventChunk(
        dataset.src[rows],
        dataset.dst[rows],
        dataset.t[rows],
        None if features is None else features[rows],
        None,
    )
