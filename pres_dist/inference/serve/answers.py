"""Error responses of the service."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error response whose JSON body holds the message."""
    more = dict(headers or {})
    if status == 429:
        more["Retry-After"] = "1"
    return JSONResponse({"error": message}, status, more)
