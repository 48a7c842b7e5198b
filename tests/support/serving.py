"""Events that go on from the stream of a run, and requests that ask about them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.inference.serve.access import Access
from pres_dist.inference.serve.app import make_app
from pres_dist.inference.serve.request_models import (
    IngestRequest,
    RecommendRequest,
    ScoreRequest,
    parsed,
)
from pres_dist.inference.serve.service import ScoringService
from pres_dist.inference.serve.worker import Worker


def copied(run_dir: Path, place: Path) -> Path:
    """A copy of a run that a test may extend."""
    shutil.copytree(run_dir, place)
    return place


def later_events(first_time: int, num: int, seed: int = 3) -> list[dict[str, Any]]:
    """Events between users and items of the habitual stream; many share their time."""
    rng = np.random.default_rng(seed)
    t = first_time + np.cumsum(rng.integers(0, 2, num))
    rows = zip(
        rng.integers(0, 40, num).tolist(),
        rng.integers(40, 55, num).tolist(),
        t.tolist(),
        rng.normal(size=(num, 3)).tolist(),
        strict=True,
    )
    return [dict(zip(("src", "dst", "t", "features"), row, strict=True)) for row in rows]


def ingest(events: Sequence[dict[str, Any]], after: int | None = None) -> IngestRequest:
    return parsed(IngestRequest, {"events": list(events), "after": after})


def score(pairs: Sequence[Sequence[object]], t: object = None) -> ScoreRequest:
    return parsed(ScoreRequest, {"pairs": [list(pair) for pair in pairs], "t": t})


def recommend(src: object, **options: object) -> RecommendRequest:
    return parsed(RecommendRequest, {"src": src, **options})


class InProcess:
    """The application of a service, asked without a network."""

    def __init__(self, service: Callable[[], ScoringService], access: Access | None = None) -> None:
        self.worker = Worker(service, 64)
        self._app = make_app(self.worker, access or Access())
        self.worker.start()
        self.worker.opened.result(60)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.stop()

    def __call__(
        self, path: str, body: object = None, raw: bytes | None = None, **headers: str | None
    ) -> tuple[int, Any]:
        """Status and body of the answer.

        Args:
            path: GET without a body, POST with one.
            body: sent as JSON.
            raw: sent as it is.
            headers: `_` stands for `-`; None leaves one out.
        """
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        return asyncio.run(self.ask(path, content, headers))

    async def ask(
        self, path: str, content: bytes | None, headers: Mapping[str, str | None]
    ) -> tuple[int, Any]:
        given = {"host": "127.0.0.1:8642", "content_type": "application/json", **headers}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET" if content is None else "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [
                (name.replace("_", "-").encode(), value.encode())
                for name, value in given.items()
                if value is not None
            ],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content or b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        answer = b"".join(message.get("body", b"") for message in sent)
        try:
            return sent[0]["status"], json.loads(answer)
        except ValueError:
            return sent[0]["status"], answer.decode()
