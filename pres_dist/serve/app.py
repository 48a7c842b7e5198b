"""The service over HTTP: a thin ASGI layer.

POST /v1/events      take in events
POST /v1/score       probabilities of links
POST /v1/recommend   the most likely destinations
GET  /v1/status      what is served, and how far it is
GET  /healthz        whether the process lives
GET  /readyz         whether questions are answered
GET  /metrics        counts and durations, for Prometheus
"""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pres_dist.errors import PresDistError
from pres_dist.serve.checks import ConflictError
from pres_dist.serve.metrics import Metrics
from pres_dist.serve.requests import IngestRequest, RecommendRequest, ScoreRequest, parsed
from pres_dist.serve.service import ScoringService
from pres_dist.serve.worker import BusyError, Job, NotReadyError, Worker
from pres_dist.use.journal import JournalError

MOST_BYTES = 16 << 20
"""Of a request's body."""
STATUS = {ConflictError: 409, BusyError: 429, NotReadyError: 503, JournalError: 503}
"""Of errors that are not those of the request itself, which are 422."""

Answer = Callable[[Request], Awaitable[dict[str, Any]]]


def make_app(worker: Worker, token: str | None = None) -> Starlette:
    """The application around a worker, which is started and stopped with it.

    Args:
        worker: owns the service.
        token: bearer token that all requests but those for health must show; None for none.
    """
    return _Api(worker, token).app()


class _Api:
    def __init__(self, worker: Worker, token: str | None) -> None:
        self._worker, self._token, self._metrics = worker, token, Metrics()

    def app(self) -> Starlette:
        routes = [
            self._route("/v1/events", self._events, "POST"),
            self._route("/v1/score", self._score, "POST"),
            self._route("/v1/recommend", self._recommend, "POST"),
            self._route("/v1/status", self._status, "GET"),
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/metrics", self._tell_metrics),
        ]
        return Starlette(
            routes=routes, lifespan=self._lifespan, exception_handlers={HTTPException: _http_error}
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._worker.start()
        yield
        await asyncio.to_thread(self._worker.stop)

    def _route(self, path: str, answer: Answer, method: str) -> Route:
        """A route whose errors become JSON, and that is counted."""

        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            response = await self._answered(answer, request)
            self._metrics.count(path, response.status_code, time.perf_counter() - started)
            return response

        return Route(path, endpoint, methods=[method])

    async def _answered(self, answer: Answer, request: Request) -> Response:
        if not self._may(request):
            return _error(401, "a bearer token is needed: Authorization: Bearer TOKEN", "Bearer")
        try:
            return JSONResponse(await answer(request))
        except HTTPException as error:
            return _error(error.status_code, error.detail)
        except PresDistError as error:
            return _error(STATUS.get(type(error), 422), str(error))
        except Exception as error:
            print(f"pres-dist serve: {type(error).__name__}: {error}", file=sys.stderr)
            return _error(500, "an error of the service; its log has more")

    async def _events(self, request: Request) -> dict[str, Any]:
        events = parsed(IngestRequest, await _body(request))
        done = await self._do(Job(None, events))
        self._metrics.num_events += len(events.events)
        return asdict(done)

    async def _score(self, request: Request) -> dict[str, Any]:
        asked = parsed(ScoreRequest, await _body(request))
        # A float32 at its shortest: read as a float32 again it is the same.
        found = await self._ask(lambda service: [float(str(one)) for one in service.score(asked)])
        return {"probabilities": found}

    async def _recommend(self, request: Request) -> dict[str, Any]:
        asked = parsed(RecommendRequest, await _body(request))
        found = await self._ask(lambda service: service.recommend(asked))
        return {"recommendations": [asdict(one) for one in found]}

    async def _status(self, _: Request) -> dict[str, Any]:
        status: dict[str, Any] = await self._ask(lambda service: service.status())
        return status

    async def _health(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        ready = self._worker.ready
        return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)

    async def _tell_metrics(self, request: Request) -> Response:
        if not self._may(request):
            return _error(401, "a bearer token is needed: Authorization: Bearer TOKEN", "Bearer")
        gauges = {"waiting_requests": self._worker.num_waiting, "ready": self._worker.ready}
        return PlainTextResponse(self._metrics.text(gauges), media_type="text/plain; version=0.0.4")

    async def _ask(self, call: Callable[[ScoringService], Any]) -> Any:
        return await self._do(Job(call))

    async def _do(self, job: Job) -> Any:
        return await asyncio.wrap_future(self._worker.submit(job))

    def _may(self, request: Request) -> bool:
        if self._token is None:
            return True
        kind, _, shown = request.headers.get("authorization", "").partition(" ")
        fits = hmac.compare_digest(shown.strip().encode(), self._token.encode())
        return kind.lower() == "bearer" and fits


async def _body(request: Request) -> object:
    """The JSON that was sent."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise HTTPException(413, f"a request must have at most {MOST_BYTES:,} bytes")
    try:
        return json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body must be JSON: {error}") from None


async def _http_error(_: Request, error: Exception) -> Response:
    """What the router itself refuses: an unknown path, another method."""
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail)


def _error(status: int, message: str, challenge: str | None = None) -> Response:
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    if status == 429:
        headers["Retry-After"] = "1"
    return JSONResponse({"error": message}, status, headers)
