"""Thread that owns the service and runs jobs in order of arrival."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pres_dist.errors import PresDistError
from pres_dist.inference.serve.request_models import MOST_EVENTS, IngestRequest
from pres_dist.inference.serve.service import ScoringService

Make = Callable[[], ScoringService]

_log = logging.getLogger(__name__)
_MOST_TOGETHER = 64
"""Most requests whose events are written with one sync."""


class BusyError(PresDistError):
    """Too many requests are pending; the client should retry later."""


class NotReadyError(PresDistError):
    """The service is not ready, or has shut down."""


@dataclass(frozen=True)
class Job:
    """Call to the service, and the future of its result.

    Attributes:
        call: function to call; None to ingest `events`, possibly batched with other such jobs.
        events: events to ingest if `call` is None.
        result: future that receives the result or the error.
    """

    call: Callable[[ScoringService], Any] | None
    events: IngestRequest | None = None
    result: Future[Any] = field(default_factory=Future)


class Worker:
    """Thread that opens a service and runs one job after the other.

    Args:
        make: opens the service.
        max_waiting: maximum number of waiting jobs; more are rejected at once.
    """

    def __init__(self, make: Make, max_waiting: int) -> None:
        self._make = make
        self._jobs: queue.Queue[Job | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._run, name="pres-dist-serve", daemon=True)
        self.opened: Future[None] = Future()
        """Future that is done once the service is open, or failed to open."""
        self.failure: BaseException | None = None
        """Error that ended the service; None otherwise."""
        self._service: ScoringService | None = None
        self._stopping = False
        self._held: Job | None = None  # taken from the queue, but not started
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """True if jobs are accepted."""
        opened = self.opened.done() and self.opened.exception() is None
        return opened and self.failure is None and not self._stopping

    def check_wanted(self) -> None:
        """Raise NotReadyError if the worker is being stopped, to abandon a long opening."""
        if self._stopping:
            raise NotReadyError("the service was stopped while it was being opened")

    @property
    def is_alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    @property
    def unready(self) -> str | None:
        """Reason why queries are not answered or events not ingested; None if the service works."""
        if not self.ready:
            return "not ready" if self.failure is None else _ENDED
        assert self._service is not None
        return self._service.journal.failure

    @property
    def num_waiting(self) -> int:
        """Number of waiting jobs."""
        return self._jobs.qsize()

    def start(self) -> None:
        """Start the thread, which opens the service."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self._fail_to_open(NotReadyError(f"no thread can be started: {error}"))

    def submit(self, job: Job) -> Future[Any]:
        """Add a job to the queue, and return the future of its result.

        Raises:
            NotReadyError: the service is not open.
            BusyError: too many jobs wait.
        """
        with self._lock:
            if not self.ready:
                raise NotReadyError("the service is not ready" if self.failure is None else _ENDED)
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise BusyError(
                    f"{self._jobs.maxsize} requests wait already: send this one again later"
                ) from None
        return job.result

    def stop(self, within_s: float | None = None) -> None:
        """Shut down after the waiting jobs are done, and close the service.

        Args:
            within_s: seconds to wait; None waits without limit. Jobs that are not done by then
                were not acknowledged.
        """
        with self._lock:
            self._stopping = True
        if self.failure is None:
            with suppress(queue.Full):
                self._jobs.put(None, timeout=within_s)
        # Also while the service is being opened: Python may not exit during a thread's torch code.
        if self.is_alive:
            self._thread.join(within_s)

    def _run(self) -> None:
        try:
            service = self._service = self._make()
        except BaseException as error:
            self._fail_to_open(error)
            return
        self.opened.set_result(None)
        try:
            while (job := self._held or self._jobs.get()) is not None:
                self._held = None
                if job.call is not None:
                    _answer(job, service)
                else:
                    _take_in([job, *self._more_events()], service)
        except BaseException as error:
            _log.exception("the service has ended by an error")
            with self._lock:
                self.failure = error
            self._refuse_the_rest()
        finally:
            service.close()

    def _fail_to_open(self, error: BaseException) -> None:
        self.failure = error
        self.opened.set_exception(error)

    def _more_events(self) -> list[Job]:
        """Take the next jobs from the queue that only ingest events."""
        jobs: list[Job] = []
        num_events = 0
        while len(jobs) < _MOST_TOGETHER - 1 and num_events < MOST_EVENTS:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)  # put the stop marker back: it is always the last item
                break
            if job.call is not None:
                self._held = job  # answered next: after the events that came before it
                break
            assert job.events is not None
            jobs.append(job)
            num_events += len(job.events.events)
        return jobs

    def _refuse_the_rest(self) -> None:
        if self._held is not None:
            self._held.result.set_exception(NotReadyError(_ENDED))
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job.result.set_exception(NotReadyError(_ENDED))


_ENDED = "the service has ended by an error, which its log tells: start it again"


def _answer(job: Job, service: ScoringService) -> None:
    assert job.call is not None
    if not job.result.set_running_or_notify_cancel():
        return
    try:
        job.result.set_result(job.call(service))
    except PresDistError as error:
        job.result.set_exception(error)
    except BaseException as error:
        job.result.set_exception(error)
        raise


def _take_in(jobs: list[Job], service: ScoringService) -> None:
    """Ingest the events of jobs, except jobs that were cancelled before they started."""
    jobs = [job for job in jobs if job.result.set_running_or_notify_cancel()]
    requests = [job.events for job in jobs if job.events is not None]
    try:
        answers = service.ingest_all(requests)
    except BaseException as error:
        # The events may be in the journal but not in memory. Only a restart can resolve that, so
        # let the error end the service.
        for job in jobs:
            job.result.set_exception(error)
        raise
    for job, answer in zip(jobs, answers, strict=True):
        if isinstance(answer, PresDistError):
            job.result.set_exception(answer)
        else:
            job.result.set_result(answer)
