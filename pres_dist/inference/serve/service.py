"""Scoring service: scores, recommends, and ingests events online.

The service is not thread-safe, because the memory has a single owner: calls must be sequential
(`inference/serve/worker.py` serializes concurrent requests). Networking is in
`inference/serve/app.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from pres_dist import arguments
from pres_dist.errors import DataError, PresDistError
from pres_dist.events.chunk import EventChunk
from pres_dist.events.raw_ids import RawId
from pres_dist.inference.extend import JOURNAL, learned_labels
from pres_dist.inference.journal import Journal, JournalError, Row, events_record
from pres_dist.inference.live import LiveRun
from pres_dist.inference.pairs import Pairs, link_logits
from pres_dist.inference.recommend import Ranker, Recommendation
from pres_dist.inference.serve.checks import ConflictError, EventChecks
from pres_dist.inference.serve.fold import in_pieces, journal_header, put_aside_if_appended
from pres_dist.inference.serve.names import NodeNames
from pres_dist.inference.serve.request_models import IngestRequest, RecommendRequest, ScoreRequest
from pres_dist.inference.times import MaxAhead, latest_allowed, shown, time_of
from pres_dist.inference.versions import EXTENDED
from pres_dist.inference.walker import MemoryWalker, Report, quiet
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_lock import lock_run
from pres_dist.step.history import Queries

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ingested:
    """Result of ingesting events.

    Attributes:
        num_events: number of events that the service has ingested since the journal began.
        t: time of the last event.
    """

    num_events: int
    t: int


class Status(TypedDict):
    """Run that a service serves, and its counts of events and nodes."""

    run: str
    model: str
    checkpoint: str
    stream: str
    num_events: int
    """Events ingested since the journal began."""
    num_known_events: int
    """Events of the run."""
    num_nodes: int
    last_time: int
    journal_bytes: int
    journal_torn_bytes: int
    num_dropped_events: int


class ScoringService:
    """Best epoch of a run, with memory of all its events and of the events ingested since.

    Events that `ingest` has acknowledged are on disk, in the journal RUN/extended/served.jsonl. A
    service replays the journal when it starts, which restores the previous state: scores are
    bit-identical.

    Args:
        run_dir: folder of the run; no other service and no `pres-dist extend` may use it at the
            same time.
        report: progress callback.
        max_ahead: how far after the last event the next may be; see `latest_allowed`.
        stream: current path of the run's stream; None if it was not moved.

    Attributes:
        num_events: events ingested since the journal began, including events dropped since.

    Raises:
        ConfigError: `run_dir` is not a run folder or is in use, or the run has not learned links.
        CheckpointError: there is no usable checkpoint.
        JournalError: the journal is damaged, or continues other events.
        DataError: an event of the journal is not valid.
    """

    @arguments.checked_call
    def __init__(
        self,
        run_dir: Path | str,
        report: Report = quiet,
        max_ahead: MaxAhead = "auto",
        stream: Path | None = None,
    ) -> None:
        self.run_dir = arguments.path("run_dir", run_dir)
        read_config(self.run_dir)  # a lock would leave its file in any other folder
        self._stack = ExitStack()
        try:
            # Before the run is opened: an extension in between would not be seen.
            self._stack.enter_context(lock_run(self.run_dir))
            live = LiveRun(self.run_dir, stream=stream)
            live.require_links()
            self._begin(live, report, max_ahead)
        except BaseException:
            self._stack.close()
            raise

    def _begin(self, live: LiveRun, report: Report, max_ahead: MaxAhead) -> None:
        self.model_kind, self.checkpoint = live.config.model.kind, live.checkpoint
        self._stream = live.stream
        live.move_to(live.stream.num_events, report)
        live.let_grow()
        self.memory: MemoryWalker = live
        self.names = NodeNames(live.stream)
        self._ranker = Ranker(live, lambda nodes: map(self.names.raw, nodes))
        self._checks = EventChecks(live.stream, self.names, learned_labels(live), max_ahead)
        self._num_known = live.stream.num_events
        self.num_events = 0
        self._queried: tuple[tuple[int, int], Queries] | None = None
        path = self.run_dir / EXTENDED / JOURNAL
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise JournalError(f"{path.parent}: cannot be written: {error.strerror}") from None
        put_aside_if_appended(path, live.stream)
        self.journal = Journal(path, journal_header(live.stream))
        self._stack.callback(self.journal.close)
        if self.journal.num_torn:
            _log.warning(
                "%s: cut off an incomplete last record of %d bytes, which was never acknowledged",
                path,
                self.journal.num_torn,
            )
        contents, self.journal.contents = self.journal.contents, None
        assert contents is not None
        kept, num = contents.kept, 0
        self.num_events = contents.num_events
        for piece in in_pieces(kept):
            self._checks.recheck(piece, self._first_allowed)
            self._apply(list(piece.values()))
            report(self._num_known + num, num, len(kept))
            num += len(piece)

    def __enter__(self) -> ScoringService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ingest(self, request: IngestRequest) -> Ingested:
        """Ingest events; they are on disk when this returns.

        Raises:
            DataError: an event is not valid, or earlier than the event before it.
            ConflictError: `after` is not the number of events ingested so far.
            JournalError: the journal cannot be written. Nothing was ingested.
        """
        (done,) = self.ingest_all([request])
        if isinstance(done, PresDistError):
            raise done
        return done

    def ingest_all(self, requests: Sequence[IngestRequest]) -> list[Ingested | PresDistError]:
        """Ingest several requests in order, as `ingest` would, with one write to disk.

        Returns:
            for each request the result, or the error if none of its events was ingested.
        """
        # The side of a new id is known only after it is ingested: one request at a time.
        if self.names.one_of_two and len(requests) > 1:
            return [answer for request in requests for answer in self.ingest_all([request])]
        accepted: list[Row] = []
        answers: list[Ingested | PresDistError] = []
        num, last = self.num_events, self._first_allowed
        for request in requests:
            try:
                if request.after not in (None, num):
                    raise ConflictError(
                        f"after must be the number of events taken in so far, {num}, "
                        f"got {request.after}"
                    )
                rows = self._checks.accept(request.events, last)
            except PresDistError as error:
                answers.append(error)
                continue
            accepted += rows
            num, last = num + len(rows), rows[-1][2]
            answers.append(Ingested(num, last))
        if accepted:
            try:
                self.journal.append(events_record(self.num_events + 1, accepted))
            except PresDistError as error:
                return [each if isinstance(each, PresDistError) else error for each in answers]
            self._apply(accepted)
            self.num_events = num
        return answers

    def score(self, request: ScoreRequest) -> np.ndarray:
        """Return the [n] float32 probabilities of links, in the order of the pairs.

        Raises:
            DataError: an id is unknown, or the memory has passed the time.
        """
        ends = [
            (
                self.names.find(source, "source", f"pairs[{place}][0]"),
                self.names.find(destination, "destination", f"pairs[{place}][1]"),
            )
            for place, (source, destination) in enumerate(request.pairs)
        ]
        src, dst = np.array(ends, dtype=np.int64).T.copy()
        t = self._stand_at(request.t)
        pairs = Pairs(src, dst, np.full_like(src, t))
        logits = link_logits(self.memory, pairs, t)
        return torch.sigmoid(logits).cpu().numpy()

    def recommend(self, request: RecommendRequest) -> list[Recommendation]:
        """Return the most likely destinations of a source, best first.

        Raises:
            DataError: an id is unknown, the memory has passed the time, or there are no
                candidates.
        """
        node = self.names.find(request.src, "source", "src")
        t = self._stand_at(request.t)
        event = self.memory.first_event_at(t)
        candidates = self._candidates(request.candidates, event, t)
        one = torch.tensor([node], device=self.memory.device)
        (best,) = self._ranker.best(one, candidates, t, request.top, request.exclude_seen)
        return best

    def status(self) -> Status:
        """Return the run and model that are served, and counts of events and nodes."""
        return {
            "run": self.run_dir.absolute().name,
            "model": self.model_kind,
            "checkpoint": self.checkpoint,
            "stream": self._stream.name,
            "num_events": self.num_events,
            "num_known_events": self._num_known,
            "num_nodes": len(self.names),
            "last_time": self.memory.latest - 1,
            "journal_bytes": self.journal.num_bytes,
            "journal_torn_bytes": self.journal.num_torn,
            "num_dropped_events": self._num_known + self.num_events - self.memory.num_events,
        }

    def close(self) -> None:
        """Close the journal, and release the lock of the run."""
        self._stack.close()

    @property
    def _first_allowed(self) -> int:
        """Earliest time that the next event may have."""
        return max(self.memory.earliest, self.memory.latest - 1)

    def _apply(self, rows: Sequence[Row]) -> None:
        """Update ids, memory and counts with rows of the journal."""
        src, dst, t, features, _ = zip(*rows, strict=True)
        ends = [
            (self.names.take(source, "source"), self.names.take(destination, "destination"))
            for source, destination in zip(src, dst, strict=True)
        ]
        src_n, dst_n = np.array(ends, dtype=np.int64).T.copy()
        edge_features = np.array(features, np.float32) if self._stream.edge_dim else None
        chunk = EventChunk(src_n, dst_n, np.array(t, np.int64), edge_features)
        self.memory.append(chunk, len(self.names))

    def _stand_at(self, at: int | str | None) -> int:
        """Move the memory to a time, and return the time in the stream's unit."""
        memory = self.memory
        if at is None:
            t = memory.latest
        else:
            t = time_of(self._stream, at, "t")
            latest = latest_allowed(self._stream, memory.latest - 1, None)
            if t > latest:
                raise DataError(
                    f"t must be at most {shown(self._stream, latest)}, got {shown(self._stream, t)}"
                )
            if t < memory.earliest:
                raise DataError(
                    f"t must be at least {shown(self._stream, memory.earliest)}, which memory has "
                    f"gone past, got {shown(self._stream, t)}"
                )
        memory.move_to(memory.first_event_at(t))
        return t

    def _candidates(self, chosen: Sequence[RawId] | None, event: int, t: int) -> Queries:
        """Return the sorted candidates, embedded; cached if they are not given."""
        if chosen is not None:
            nodes = [
                self.names.find(raw, "destination", f"candidates[{place}]")
                for place, raw in enumerate(chosen)
            ]
            return self._query(torch.tensor(nodes, device=self.memory.device).unique(), t)
        if self._queried is not None and self._queried[0] == (event, t):
            return self._queried[1]
        known = self.memory.known_nodes(event)
        candidates_C = known[self.names.destinations().to(known.device)[known]]
        if not candidates_C.numel():
            raise DataError(f"{self._stream.name}: no node has an event before that time")
        candidates = self._query(candidates_C, t)
        self._queried = (event, t), candidates
        return candidates

    def _query(self, nodes: Tensor, t: int) -> Queries:
        return self.memory.query(nodes, torch.full_like(nodes, t), t)
