"""Appending what a service has taken in to its run, so that it need not be taken in again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pres_dist.errors import ConfigError
from pres_dist.events.chunk import EventChunk
from pres_dist.events.ids import PairMap
from pres_dist.events.stream import EventStream
from pres_dist.files import sync_folder
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_lock import lock_run
from pres_dist.serve.journal import Record, read_journal
from pres_dist.use.extend import JOURNAL, Extension, append
from pres_dist.use.live import LiveRun, Report, quiet
from pres_dist.use.new_events import NewEvents
from pres_dist.use.versions import EXTENDED

_NO_LABEL = -1


def journal_header(stream: EventStream) -> Record:
    """What the events of a journal continue."""
    return {
        "format": 1,
        "stream": stream.name,
        "num_events": stream.num_events,
        "num_nodes": stream.num_nodes,
        "last_time": int(stream.t[-1]),
    }


def fold(run_dir: Path, report: Report = quiet) -> Extension:
    """Append the events of the journal to the run, as `pres-dist extend` appends others.

    The journal is kept beside, under another name. After a crash this may be done again.

    Raises:
        ConfigError: not the folder of a run, one that is in use, or nothing was taken in.
        JournalError: the journal is damaged.
    """
    read_config(run_dir)
    path = run_dir / EXTENDED / JOURNAL
    with lock_run(run_dir) as lock:
        live = LiveRun(run_dir)
        put_aside_if_appended(path, live.stream)
        rows = _rows(read_journal(path)[1]) if path.exists() else []
        if not rows:
            raise ConfigError(f"{path}: no service has taken in events since the last extension")
        done = append(lock, live, _new_events(live.stream, rows), report)
        _put_aside(path, live.stream.num_events)
        return done


def put_aside_if_appended(path: Path, stream: EventStream) -> None:
    """Rename a journal whose events the stream has: a fold ended before it could."""
    if not path.exists():
        return
    header, records = read_journal(path)
    rows = _rows(records)
    if not rows or header["num_events"] + len(rows) != stream.num_events:
        return
    if header["stream"] == stream.name and rows[-1][2] == int(stream.t[-1]):
        _put_aside(path, header["num_events"])


def _put_aside(path: Path, num_known: int) -> None:
    path.rename(path.with_name(f"served-after-{num_known}.jsonl"))
    sync_folder(path.parent)


def _rows(records: Sequence[Record]) -> list[list[Any]]:
    return [row for record in records for row in record["events"]]


def _new_events(stream: EventStream, rows: Sequence[Sequence[Any]]) -> NewEvents:
    """The events under the numbers that an import would give their ids."""
    src, dst, t, features, labels = zip(*rows, strict=True)
    known = None
    if stream.node_ids is not None:
        known = PairMap.known(stream.checked_node_ids, stream.num_sources)
        src_n, dst_n = known.number(pa.array(src), pa.array(dst))
    else:
        src_n, dst_n = np.array(src, np.int64), np.array(dst, np.int64)
    given = [_NO_LABEL if label is None else label for label in labels]
    chunk = EventChunk(
        src_n,
        dst_n,
        np.array(t, np.int64),
        np.array(features, np.float32) if stream.edge_dim else None,
        np.array(given, np.int64) if stream.labels is not None else None,
    )
    return NewEvents(chunk, known)
