"""The worker: one job after the other, no more than may wait, and an end that is told."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from pres_dist.errors import DataError
from pres_dist.inference.serve.worker import BusyError, Job, NotReadyError, Worker
from tests.support.serving import ingest

EVENT = {"src": 0, "dst": 1, "t": 2}


class Service:
    """Notes what it is asked to take in."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []
        self.closed = False

    def ingest_all(self, requests: list[Any]) -> list[Any]:
        self.taken.append([request.events[0].src for request in requests])
        if any(request.events[0].src == 13 for request in requests):
            raise RuntimeError("broken")
        return [
            DataError("odd") if request.events[0].src % 2 else SimpleNamespace(src=request)
            for request in requests
        ]

    def close(self) -> None:
        self.closed = True


def started(max_waiting: int = 8) -> tuple[Worker, Service]:
    service = Service()
    worker = Worker(lambda: service, max_waiting)  # type: ignore[arg-type,return-value]
    worker.start()
    worker.opened.result(10)
    return worker, service


def events(worker: Worker, src: int) -> Future[Any]:
    return worker.submit(Job(None, ingest([{**EVENT, "src": src}])))


def test_events_that_wait_are_taken_in_together_and_in_order() -> None:
    worker, service = started()
    go = threading.Event()
    first = worker.submit(Job(lambda _: go.wait(100)))
    waiting = [events(worker, src) for src in (0, 1, 2)]
    asked = worker.submit(Job(lambda service: list(service.taken)))
    later = events(worker, 4)
    go.set()
    assert first.result(10)
    assert asked.result(10) == [[0, 1, 2]]
    assert later.result(10)
    assert service.taken == [[0, 1, 2], [4]]
    with pytest.raises(DataError, match="odd"):
        waiting[1].result(10)
    assert waiting[2].result(10)
    worker.stop()
    assert service.closed
    assert not worker.ready


def test_more_than_may_wait_are_refused_at_once() -> None:
    worker, _ = started(max_waiting=2)
    go, begun = threading.Event(), threading.Event()
    worker.submit(Job(lambda _: begun.set() or go.wait(100)))
    assert begun.wait(100)
    kept = [events(worker, 0), events(worker, 2)]
    with pytest.raises(BusyError, match="2 requests wait already"):
        events(worker, 4)
    go.set()
    assert all(one.result(10) for one in kept)
    worker.stop()


def test_an_unexpected_error_ends_the_service_and_is_told_to_all() -> None:
    worker, service = started()
    go = threading.Event()
    worker.submit(Job(lambda _: go.wait(100)))
    broken = events(worker, 13)
    behind = worker.submit(Job(lambda _: 1))
    go.set()
    with pytest.raises(RuntimeError, match="broken"):
        broken.result(10)
    with pytest.raises(NotReadyError, match="ended by an error"):
        behind.result(10)
    with pytest.raises(NotReadyError):
        events(worker, 0)
    assert isinstance(worker.failure, RuntimeError)
    worker.stop()
    assert service.closed


def test_a_service_that_cannot_be_opened() -> None:
    def fails() -> Any:
        raise DataError("no such thing")

    worker = Worker(fails, 2)
    worker.start()
    assert isinstance(worker.opened.exception(10), DataError)
    with pytest.raises(NotReadyError):
        events(worker, 0)
    worker.stop()


def test_stopped_while_it_opens_it_ends_at_the_next_report() -> None:
    begun = threading.Event()

    def opens() -> Any:
        begun.set()
        for _ in range(1000):
            worker.check_wanted()
            time.sleep(0.01)

    worker = Worker(opens, 2)
    worker.start()
    assert begun.wait(100)
    worker.stop(10)
    assert not worker.is_alive
    assert isinstance(worker.opened.exception(0), NotReadyError)
