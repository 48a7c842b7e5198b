"""Append the events that a service has ingested to its run, so that it need not replay them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from pres_dist.errors import ConfigError
from pres_dist.events.chunk import EventChunk
from pres_dist.events.identity import digest_of
from pres_dist.events.raw_ids import PairMap
from pres_dist.events.stream import EventStream
from pres_dist.inference.extend import JOURNAL, Extension, append, learned_labels
from pres_dist.inference.journal import Record, Row, check_header, read_journal
from pres_dist.inference.live import LiveRun
from pres_dist.inference.new_events import NewEvents
from pres_dist.inference.serve.checks import NO_LABEL, EventChecks
from pres_dist.inference.serve.names import NodeNames
from pres_dist.inference.versions import EXTENDED
from pres_dist.inference.walker import Report, quiet
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_lock import lock_run
from pres_dist.staging import sync

PIECE = 1000
"""Most events of a journal that are processed at once."""


def journal_header(stream: EventStream) -> Record:
    """Return the journal header that identifies the stream which the events continue."""
    return {
        "stream": stream.name,
        "num_events": stream.num_events,
        "num_nodes": stream.num_nodes,
        "last_time": int(stream.t[-1]),
        "identity": digest_of(stream.identity),
    }


def fold(run_dir: Path, report: Report = quiet, stream: Path | None = None) -> Extension:
    """Append the events of the journal to the run, as `pres-dist extend` appends other events.

    The journal is kept under another name. After a crash, this can be repeated.

    Raises:
        ConfigError: `run_dir` is not a run folder or is in use, or there are no ingested events.
        JournalError: the journal is damaged, or continues other events.
        DataError: an event in the journal is not valid.
    """
    read_config(run_dir)
    path = run_dir / EXTENDED / JOURNAL
    with lock_run(run_dir) as lock:
        live = LiveRun(run_dir, stream=stream)
        put_aside_if_appended(path, live.stream)
        rows: Mapping[int, Row] = {}
        if path.exists():
            journal = read_journal(path)
            check_header(path, journal.header, journal_header(live.stream))
            rows = journal.kept
        if not rows:
            raise ConfigError(f"{path}: no service has taken in events since the last extension")
        check_rows(live, rows)
        done = append(lock, live, _new_events(live.stream, list(rows.values())), report)
        _put_aside(path, live.stream.num_events)
        return done


def check_rows(live: LiveRun, rows: Mapping[int, Row]) -> None:
    """Check that events of a journal can be appended, as the service did before ingesting them.

    Args:
        live: the run that they continue.
        rows: events by number.

    Raises:
        DataError: an event is not valid. The message has the number of the first one, and the
            command that drops it.
    """
    names = NodeNames(live.stream)
    checks = EventChecks(live.stream, names, learned_labels(live))
    first_allowed = int(live.stream.t[-1]) + 1
    for piece in in_pieces(rows):
        checks.recheck(piece, first_allowed)
        for src, dst, t, *_ in piece.values():
            names.take(src, "source")
            names.take(dst, "destination")
            first_allowed = t


def in_pieces(rows: Mapping[int, Row]) -> Iterator[dict[int, Row]]:
    """Yield the events of a journal in pieces of at most `PIECE`, to bound memory use."""
    waiting = iter(rows.items())
    while piece := dict(islice(waiting, PIECE)):
        yield piece


def put_aside_if_appended(path: Path, stream: EventStream) -> None:
    """Rename a journal that has nothing left to append.

    Either the stream contains its events, after a fold that crashed before it renamed the
    journal; or the journal has no events, and the stream was extended by other events.
    """
    if not path.exists():
        return
    journal = read_journal(path)
    header, rows = journal.header, list(journal.kept.values())
    if not rows:
        if header != {**header, **journal_header(stream)}:
            _put_aside(path, header["num_events"])
        return
    if header["num_events"] + len(rows) != stream.num_events:
        return
    if header["stream"] == stream.name and rows[-1][2] == int(stream.t[-1]):
        _put_aside(path, header["num_events"])


def _put_aside(path: Path, num_known: int) -> None:
    path.rename(path.with_name(f"served-after-{num_known}.jsonl"))
    sync(path.parent)


def _new_events(stream: EventStream, rows: Sequence[Row]) -> NewEvents:
    """Return the events with the node numbers that an import would assign to their ids."""
    src, dst, t, features, labels = zip(*rows, strict=True)
    known = None
    if stream.node_ids is not None:
        known = PairMap.known(stream.checked_node_ids, stream.num_sources)
        src_n, dst_n = known.number(pa.array(src), pa.array(dst))
    else:
        src_n, dst_n = np.array(src, np.int64), np.array(dst, np.int64)
    given = [NO_LABEL if label is None else label for label in labels]
    chunk = EventChunk(
        src_n,
        dst_n,
        np.array(t, np.int64),
        np.array(features, np.float32) if stream.edge_dim else None,
        np.array(given, np.int64) if stream.labels is not None else None,
    )
    return NewEvents(chunk, known)
