"""Answers of the service that are errors."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as JSON with one line."""
    more = dict(headers or {})
    if status == 429:
        more["Retry-After"] = "1"
    return JSONResponse({"error": message}, status, more)
