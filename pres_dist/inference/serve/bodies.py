"""Bodies of requests: read in bounded time and memory, and parsed beside the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pres_dist.inference.serve.requests import IngestRequest, RecommendRequest, ScoreRequest, parsed
from pres_dist.inference.serve.worker import BusyError

MOST_BYTES = 4 << 20
"""Of a request's body."""
MOST_BYTES_TOGETHER = 32 << 20
"""Of all bodies whose requests are not answered yet. Parsed, a body takes up to 30 times that."""
BODY_S = 30.0
"""Seconds in which a body must have come."""

Kind = TypeVar("Kind", IngestRequest, ScoreRequest, RecommendRequest)


class Bodies:
    """Reads and parses bodies.

    One thread parses, so that the event loop goes on and two large bodies do not compete.
    """

    def __init__(self) -> None:
        self._parser = ThreadPoolExecutor(1, "pres-dist-parse")
        self._num_bytes = 0

    def close(self) -> None:
        """End the thread; what waits for it is not parsed any more."""
        self._parser.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def parsed(self, kind: type[Kind], request: Request) -> AsyncIterator[Kind]:
        """Provide the request in a body, whose size counts until the block has ended.

        Raises:
            HTTPException: 400, 408 or 413.
            BusyError: other bodies take all the memory that there is for them.
            DataError: it is not a request of this kind.
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
            # Clients read an answer only once they have sent all: throw the rest away meanwhile.
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
