"""Read request bodies in bounded time and memory, and parse them outside the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pres_dist.inference.serve.request_models import (
    IngestRequest,
    RecommendRequest,
    ScoreRequest,
    parsed,
)
from pres_dist.inference.serve.worker import BusyError

MOST_BYTES = 4 << 20
"""Largest body of a request, in bytes."""
MOST_BYTES_TOGETHER = 32 << 20
"""Largest total size in bytes of the bodies of pending requests. A parsed body takes up to 30
times as much memory."""
BODY_S = 30.0
"""Seconds within which a body must arrive."""

Kind = TypeVar("Kind", IngestRequest, ScoreRequest, RecommendRequest)


class Bodies:
    """Reader and parser of request bodies.

    A single thread parses, so that parsing does not block the event loop, and large bodies are
    parsed one at a time.
    """

    def __init__(self) -> None:
        self._parser = ThreadPoolExecutor(1, "pres-dist-parse")
        self._num_bytes = 0

    def close(self) -> None:
        """Stop the thread, and cancel pending bodies."""
        self._parser.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def parsed(self, kind: type[Kind], request: Request) -> AsyncIterator[Kind]:
        """Provide the parsed request; its size counts toward the limit until the block ends.

        Raises:
            HTTPException: 400 (not JSON), 408 (too slow) or 413 (too large).
            BusyError: the bodies of pending requests exceed `MOST_BYTES_TOGETHER`.
            DataError: the body is not a valid request of this kind.
        """
        content = bytearray()
        try:
            try:
                await asyncio.wait_for(self._read(request, content), BODY_S)
            except asyncio.TimeoutError:
                raise HTTPException(
                    408, f"the body must come within {BODY_S:.0f} seconds"
                ) from None
            loop = asyncio.get_running_loop()
            yield await loop.run_in_executor(self._parser, _parse, kind, bytes(content))
        finally:
            self._num_bytes -= len(content)

    async def _read(self, request: Request, content: bytearray) -> None:
        num_read = 0
        async for part in request.stream():
            num_read += len(part)
            # Clients read the response only after sending the whole body, so discard the rest.
            if num_read <= MOST_BYTES:
                content += part
                self._num_bytes += len(part)
            elif num_read > MOST_BYTES_TOGETHER:
                break
            if self._num_bytes > MOST_BYTES_TOGETHER:
                raise BusyError("the requests that wait are too large together: send it later")
        if num_read > MOST_BYTES:
            raise HTTPException(413, f"a request must have at most {MOST_BYTES:,} bytes")


def _parse(kind: type[Kind], content: bytes) -> Kind:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body must be JSON: {error}") from None
    return parsed(kind, body)
