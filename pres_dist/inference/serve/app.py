"""HTTP interface of the service, a thin ASGI layer.

POST /v1/events      ingest events
POST /v1/score       probabilities of links
POST /v1/recommend   most likely destinations
GET  /v1/status      run, model and number of events
GET  /healthz        503 once the service has failed
GET  /readyz         503 unless the service answers queries and ingests events
GET  /metrics        counts and durations, for Prometheus
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pres_dist.errors import PresDistError
from pres_dist.inference.journal import JournalError
from pres_dist.inference.serve.access import Access, Guard, refusal
from pres_dist.inference.serve.bodies import Bodies
from pres_dist.inference.serve.checks import ConflictError
from pres_dist.inference.serve.request_models import IngestRequest, RecommendRequest, ScoreRequest
from pres_dist.inference.serve.service import Status
from pres_dist.inference.serve.worker import BusyError, Job, NotReadyError, Worker

STOP_S = 5.0
"""Seconds that pending jobs may take at shutdown."""
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of durations, in seconds."""
_log = logging.getLogger(__name__)
STATUS = {ConflictError: 409, BusyError: 429, NotReadyError: 503, JournalError: 503}
"""HTTP status of errors that the request did not cause; all other errors are 422."""

Answer = Callable[[Request], Awaitable[Mapping[str, object]]]


def make_app(worker: Worker, access: Access) -> ASGIApp:
    """Return an application that starts and stops a worker, and passes requests to it.

    Args:
        worker: thread that owns the service.
        access: rules for the requests that are accepted.
    """
    return Guard(_Api(worker).app(), access)


class _Api:
    def __init__(self, worker: Worker) -> None:
        self._worker, self._bodies, self._metrics = worker, Bodies(), _Metrics()

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
        app = Starlette(
            routes=routes, lifespan=self._lifespan, exception_handlers={HTTPException: _http_error}
        )
        app.router.redirect_slashes = False  # few clients follow a redirect of a POST
        return app

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._worker.start()
        yield
        if self._worker.is_alive:
            await asyncio.to_thread(self._worker.stop, STOP_S)
        self._bodies.close()

    def _route(self, path: str, answer: Answer, method: str) -> Route:
        """Return a route that responds to errors with JSON, and counts requests."""

        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            response = await self._answered(answer, request)
            self._metrics.count(path, response.status_code, time.perf_counter() - started)
            return response

        return Route(path, endpoint, methods=[method])

    async def _answered(self, answer: Answer, request: Request) -> Response:
        try:
            return JSONResponse(await answer(request))
        except HTTPException as error:
            return refusal(error.status_code, error.detail)
        except asyncio.CancelledError:  # shutdown, after the grace period of `--grace`
            return refusal(503, "the service ends")
        except ClientDisconnect:
            return refusal(400, "the body ended early")
        except PresDistError as error:
            return refusal(STATUS.get(type(error), 422), str(error))
        except Exception:
            _log.exception("%s: an error of the service", request.url.path)
            return refusal(500, "an error of the service; its log has more")

    async def _events(self, request: Request) -> dict[str, object]:
        async with self._bodies.parsed(IngestRequest, request) as events:
            done = await self._do(Job(None, events))
        self._metrics.num_events += len(events.events)
        return asdict(done)

    async def _score(self, request: Request) -> dict[str, object]:
        async with self._bodies.parsed(ScoreRequest, request) as asked:
            # The shortest text of a float32, which parses to the same float32.
            score = Job(lambda service: [float(str(one)) for one in service.score(asked)])
            return {"probabilities": await self._do(score)}

    async def _recommend(self, request: Request) -> dict[str, object]:
        async with self._bodies.parsed(RecommendRequest, request) as asked:
            found = await self._do(Job(lambda service: service.recommend(asked)))
            return {"recommendations": [asdict(one) for one in found]}

    async def _status(self, _: Request) -> Status:
        status: Status = await self._do(Job(lambda service: service.status()))
        return status

    async def _health(self, _: Request) -> Response:
        if self._worker.failure is not None:
            return PlainTextResponse("the service has ended by an error\n", 503)
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        reason = self._worker.unready
        return PlainTextResponse(f"{reason or 'ready'}\n", 503 if reason else 200)

    async def _tell_metrics(self, _: Request) -> Response:
        gauges = {"waiting_requests": self._worker.num_waiting, "ready": not self._worker.unready}
        return PlainTextResponse(self._metrics.text(gauges), media_type="text/plain; version=0.0.4")

    async def _do(self, job: Job) -> Any:
        return await asyncio.wrap_future(self._worker.submit(job))


async def _http_error(_: Request, error: Exception) -> Response:
    """Respond to an error of the router: an unknown path or a wrong method."""
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail)


class _Metrics:
    """Counts and durations of requests by route, in the text format of Prometheus."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self.num_events = 0

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count a request after its response."""
        self._requests[route, status] += 1
        self._buckets.setdefault(route, [0] * (len(BUCKETS) + 1))[
            bisect_left(BUCKETS, seconds)
        ] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all metrics as text.

        Args:
            gauges: current values, by name.
        """
        lines = ["# TYPE pres_dist_requests_total counter"]
        for (route, status), num in sorted(self._requests.items()):
            lines.append(f'pres_dist_requests_total{{route="{route}",status="{status}"}} {num}')
        lines.append("# TYPE pres_dist_request_seconds histogram")
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, num in zip([*map(str, BUCKETS), "+Inf"], buckets, strict=True):
                total += num
                lines.append(
                    f'pres_dist_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
                )
            seconds = self._seconds[route]
            lines.append(f'pres_dist_request_seconds_sum{{route="{route}"}} {seconds:.6f}')
            lines.append(f'pres_dist_request_seconds_count{{route="{route}"}} {total}')
        lines.append("# TYPE pres_dist_ingested_events_total counter")
        lines.append(f"pres_dist_ingested_events_total {self.num_events}")
        for name, value in gauges.items():
            lines += [f"# TYPE pres_dist_{name} gauge", f"pres_dist_{name} {value:g}"]
        return "\n".join(lines) + "\n"
