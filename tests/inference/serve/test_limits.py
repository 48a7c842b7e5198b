"""A service under requests and connections that would take all its time or memory."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pres_dist.cli.main import main
from pres_dist.inference.serve import bodies
from pres_dist.inference.serve.service import ScoringService
from tests.inference.serve.test_http import Api, served
from tests.support.serving import InProcess, copied, later_events
from tests.support.trained_runs import trained

pytest.importorskip("starlette", reason="needs the extra `serve`")
pytest.importorskip("uvicorn", reason="needs the extra `serve`")

SMALL_MEMORY = """
import json, resource, sys
from pres_dist.errors import DataError
from pres_dist.inference.serve.request_models import IngestRequest, ScoreRequest, parsed
kind, content = (IngestRequest, '{"events": [' + ",".join(["%s"] * 1_000_000) + "]}")
body = json.loads(content)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20),) * 2)
try:
    parsed(kind, body)
except DataError as error:
    print(error)
"""


@pytest.mark.attack(
    "small body with a mistake in each of a million places",
    before="2 MiB took 15 s and 2.6 GB; 16 MiB ended the process",
    after="the first mistake is told, in no memory; bodies have at most 4 MiB",
)
@pytest.mark.parametrize(
    ("item", "message"), [("{}", "events[0].src is missing"), ("5", "events[0] must be an object")]
)
def test_the_first_mistake_ends_the_check(item: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL_MEMORY % item], capture_output=True, text=True, timeout=240
    )
    assert done.stdout.startswith(message), done.stderr


@pytest.mark.parametrize(
    ("raw", "status", "message"),
    [
        (b'{"events": [' + b"[" * 100_000, 400, "the body must be JSON: "),
        (b'{"pairs": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "pairs[0]"),
        (b'{"t": ' + b"9" * 5000 + b"}", 400, "the body must be JSON: "),
        (b"\xff\xfe{\x00}\x00", 422, "events is missing"),
        (b"\xff", 400, "the body must be JSON: "),
        (b"", 400, "the body must be JSON: "),
        (b" " * (bodies.MOST_BYTES + 1), 413, "a request must have at most 4,194,304 bytes"),
        (b'{"events": [' + b"0," * 10_000 + b"0]}", 422, "events[0] must be an object, got 0"),
        (b"{" + b",".join(b'"%d": 1' % n for n in range(100_000)) + b"}", 422, "request must have"),
    ],
)
def test_malformed_bodies_get_one_line(runs: Path, raw: bytes, status: int, message: str) -> None:
    with _opened(runs) as service, InProcess(lambda: service) as api:
        path = "/v1/score" if b"pairs" in raw else "/v1/events"
        code, answer = api(path, raw=raw)
        assert code == status
        assert answer["error"].startswith(message)
        assert "\n" not in answer["error"]
        assert len(answer["error"]) < 300


def _opened(runs: Path) -> ScoringService:
    return ScoringService(trained(runs))


@pytest.mark.attack(
    "health asked for while a large body is checked",
    before="answered after 7 to 14 s: it was checked in the event loop",
    after="answered meanwhile; a thread of its own checks bodies, one after the other",
)
def test_health_is_answered_while_a_body_is_parsed(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, begun = threading.Event(), threading.Event()
    parse = bodies._parse

    def slow(kind: Any, content: bytes) -> Any:
        begun.set()
        assert go.wait(60)
        return parse(kind, content)

    monkeypatch.setattr(bodies, "_parse", slow)

    async def both(api: InProcess) -> tuple[int, int]:
        scores = asyncio.create_task(api.ask("/v1/score", b'{"pairs": [[0, 41]]}', {}))
        await asyncio.to_thread(begun.wait, 60)
        health = await api.ask("/healthz", None, {})
        go.set()
        return health[0], (await scores)[0]

    with _opened(runs) as service, InProcess(lambda: service) as api:
        assert asyncio.run(both(api)) == (200, 200)


def test_bodies_that_wait_take_no_more_memory_than_they_may(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MOST_BYTES_TOGETHER", 60)
    content = b'{"pairs": [[0, 41]]}' + b" " * 20

    async def three(api: InProcess) -> list[int]:
        asked = [api.ask("/v1/score", content, {}) for _ in range(3)]
        return sorted(status for status, _ in await asyncio.gather(*asked))

    with _opened(runs) as service, InProcess(lambda: service) as api:
        assert asyncio.run(three(api)) == [200, 429, 429]
        assert api("/v1/score", raw=content)[0] == 200


def test_a_body_that_does_not_come_is_given_up(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.1)
    with _opened(runs) as service:

        async def stalled(self: object, request: object, content: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(bodies.Bodies, "_read", stalled)
        with InProcess(lambda: service) as api:
            assert api("/v1/score", raw=b"{}")[0] == 408
            assert api("/healthz")[0] == 200


HALF = b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
STALLED = (
    b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer s3cret\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
)


def connected(api: Api, content: bytes) -> socket.socket:
    host, port = api.address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=240)
    connection.sendall(content)
    return connection


@pytest.mark.attack(
    "SIGTERM while a client stalls in its body",
    before="alive after 25 s, and after a second SIGTERM",
    after="ends with 143 once `--grace` (5 s) is over",
)
def test_a_stalled_client_does_not_hold_up_the_end(runs: Path, tmp_path: Path) -> None:
    run_dir = copied(trained(runs), tmp_path / "run")
    with served(run_dir, "--grace", "1") as (process, api):
        with connected(api, STALLED), connected(api, HALF), connected(api, b""):
            assert api("/v1/status")[0] == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.attack(
    "100 connections with half a head, with 64 file descriptors",
    before="nobody else was answered for as long as they lasted; a busy loop",
    after="the one that has waited longest is closed for a new one; all close after 10 s",
)
def test_connections_that_send_nothing_keep_nobody_out(runs: Path, tmp_path: Path) -> None:
    run_dir = copied(trained(runs), tmp_path / "run")

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    with served(run_dir, before=few) as (process, api):
        first = api("/v1/status")[1]["last_time"] + 1  # type: ignore[call-overload,index]
        connections = []
        try:
            for _ in range(100):
                connections.append(connected(api, HALF))
            for place, event in enumerate(later_events(first, 5)):
                assert api("/healthz") == (200, "ok\n")
                assert api("/v1/events", {"events": [event], "after": place})[0] == 200
        finally:
            for connection in connections:
                connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert process.stderr is not None
        assert "Too many open files" not in process.stderr.read()


def test_a_head_that_does_not_come_ends_the_connection(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server in this process, whose patience is short."""
    import uvicorn

    from pres_dist.inference.serve import connections

    monkeypatch.setattr(connections, "HEAD_S", 0.2)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    listener = socket.create_server(("127.0.0.1", 0))
    protocol = connections.connection_class(8)
    config = uvicorn.Config(app, http=protocol, loop="asyncio", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    api = Api(f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        for content in (b"", HALF, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", STALLED + b"x" * 10):
            with connected(api, content) as connection:
                while connection.recv(1000):
                    pass  # closed in the end
    finally:
        server.should_exit = True
        thread.join()


def test_health_tells_of_an_error_that_has_ended_the_service(
    runs: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _opened(runs) as service, InProcess(lambda: service) as api:
        assert api("/healthz")[0] == api("/readyz")[0] == 200

        def broken(_: object) -> None:
            raise RuntimeError("an odd one")

        monkeypatch.setattr(service, "score", broken)
        with caplog.at_level(logging.ERROR):
            assert api("/v1/score", {"pairs": [[0, 41]]})[0] == 500
        assert "an odd one" in caplog.text
        assert "Traceback" in caplog.text
        assert api("/v1/score", {"pairs": [[0, 41]]})[0] == 503
        assert api("/healthz")[0] == api("/readyz")[0] == 503


def test_a_full_journal_makes_the_service_unready(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copied(trained(runs), tmp_path / "run")
    with ScoringService(run_dir) as service, InProcess(lambda: service) as api:
        events = {"events": later_events(service.memory.latest, 1)}

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("pres_dist.inference.journal.os.fsync", full)
            assert api("/v1/events", events)[0] == 503
        code, answer = api("/readyz")
        assert code == 503
        assert "cannot be written: No space left on device" in answer
        assert api("/healthz")[0] == 200
        assert api("/v1/score", {"pairs": [[0, 41]]})[0] == 200
        assert api("/v1/events", events)[0] == 503


def test_without_a_thread_the_command_ends_in_one_line(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_dir = copied(trained(runs), tmp_path / "run")
    monkeypatch.setenv("PRES_DIST_TOKEN", "s3cret")

    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    assert main(["serve", str(run_dir), "--port", "0"]) == 2
    assert capsys.readouterr().err == "error: no thread can be started: can't start new thread\n"
