"""Identity of a stream: a hash of each column, and the metadata that give them meaning.

It depends on content only. A stream that was moved, renamed or imported again from the same
events keeps its identity; a stream with another feature, label or numbering of nodes has a
different one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pres_dist.errors import CheckpointError
from pres_dist.events.storage import npy_header

if TYPE_CHECKING:
    from pres_dist.events.stream import EventStream

StreamIdentity = dict[str, str | int | list[int] | None]
"""Dictionary from `identity_of`; hashes are hexadecimal, or None for an absent column."""

COLUMNS = ("src", "dst", "t", "edge_features", "node_features", "labels", "negatives")
_CLOCK = ("time_unit", "time_scale", "first_event")
"""Metadata that define the conversion of dates to times."""
_WORDS = {
    "num_events": "number of events",
    "num_nodes": "number of nodes",
    "num_sources": "number of sources",
    "official_split": "official split",
    "destination_offset": "numbering of destinations",
    "node_ids": "node ids",
    "edge_features": "edge features",
    "node_features": "node features",
    "time_unit": "time unit",
    "time_scale": "time scale",
    "first_event": "time of the first event",
}
_ROWS = 1 << 20


def identity_of(stream: EventStream) -> StreamIdentity:
    """Return the identity of a stream.

    The hashes of a stored stream's columns are read from its meta.json. Columns in memory, or
    parts of stored columns, are hashed here as their files would be.
    """
    split = stream.official_split
    return {
        "num_events": stream.num_events,
        "num_nodes": stream.num_nodes,
        "num_sources": stream.num_sources,
        "official_split": None if split is None else list(split),
        "destination_offset": int(stream.metadata.get("destination_offset", 0)),
        **{name: stream.metadata.get(name) for name in _CLOCK},
        **{column: _column_hash(stream, column) for column in COLUMNS},
        "node_ids": _ids_hash(stream),
    }


def digest_of(identity: StreamIdentity) -> str:
    """Return the SHA-256 of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def differences(expected: Mapping[str, Any], found: StreamIdentity) -> list[str]:
    """Return the differences between two identities in words; counts show both values."""
    told = []
    for name in dict.fromkeys((*found, *expected)):
        before, now = expected.get(name), found.get(name)
        if before == now:
            continue
        text = _WORDS.get(name, name)
        is_hash = name in COLUMNS or name == "node_ids"
        if is_hash and None not in (before, now):
            told.append(text)
        elif is_hash:
            told.append(f"{text} ({'none' if before is None else 'some'} in the run)")
        else:
            told.append(f"{text} ({before} in the run, got {now})")
    return told


def check_same_events(
    stream: EventStream, expected: Mapping[str, Any], run: str = "the run"
) -> None:
    """Raise CheckpointError unless a stream has the identity that a run expects."""
    told = differences(expected, stream.identity)
    if told:
        raise CheckpointError(
            f"{stream.path or stream.name}: must be the stream that {run} was trained on, and "
            f"holds other events: different {', '.join(told)}; restore that stream, import it "
            "again as it was imported then, or name its place by --data.stream"
        )


def _column_hash(stream: EventStream, column: str) -> str | None:
    """Return the SHA-256 of the .npy file that stores or would store a column."""
    values = getattr(stream, column)
    if values is None:
        return None
    stored, recorded = stream.recorded.get(column, (None, ""))
    # A slice of a stored column, as in `head`, is another array: its hash is not recorded.
    if stored is values:
        return recorded
    digest = hashlib.sha256(npy_header(values.dtype, values.shape))
    for start in range(0, len(values), _ROWS):
        digest.update(np.ascontiguousarray(values[start : start + _ROWS]).data)
    return digest.hexdigest()


def _ids_hash(stream: EventStream) -> str | None:
    """Return a SHA-256 of the ids themselves, because Arrow's files differ between versions."""
    if stream.node_ids is None:
        return None
    import pyarrow as pa

    ids = stream.checked_node_ids
    numbers = pa.types.is_integer(ids.type)
    ids = ids.cast(pa.int64() if numbers else pa.large_string())
    # Lengths and texts are hashed separately, so that the hash does not depend on the chunks.
    lengths, texts = hashlib.sha256(), hashlib.sha256()
    for chunk in ids.chunks:
        if numbers:
            texts.update(np.ascontiguousarray(chunk.to_numpy()).data)
            continue
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        lengths.update(np.diff(ends).data)
        if len(chunk) and ends[-1] > ends[0]:
            texts.update(memoryview(data)[int(ends[0]) : int(ends[-1])])
    kind = "int64" if numbers else "text"
    whole = f"{kind} {len(ids)} {lengths.hexdigest()} {texts.hexdigest()}"
    return hashlib.sha256(whole.encode()).hexdigest()
