"""Access to the service: which requests are answered at all.

Loopback is no protection against pages that the user's own browser shows, nor against other users
of the machine. So a request must name the service by a host that is its own (another name may be
DNS rebinding), must not come from a page of another site, and must show the token.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pres_dist.inference.serve.answers import refusal

OPEN = ("/healthz", "/readyz")
"""Paths that need no token."""
JSON = "application/json"


@dataclass(frozen=True)
class Access:
    """Rules of who is answered.

    Attributes:
        token: bearer token that requests must show, but for those of `OPEN`; None for none.
        hosts: names and addresses that requests may name the service by, beside those of
            loopback.
        any_address: whether they may name it by any address (not by any name).
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()
    any_address: bool = False

    def names(self, host: str) -> bool:
        """Whether a host, without its port, is one of the service."""
        if host == "localhost" or host in self.hosts:
            return True
        address = address_of(host)
        return address is not None and (self.any_address or address.is_loopback)

    def shows_token(self, authorization: str) -> bool:
        """Whether a header has the token."""
        if self.token is None:
            return True
        kind, _, shown = authorization.partition(" ")
        fits = hmac.compare_digest(shown.strip().encode(), self.token.encode())
        return kind.lower() == "bearer" and fits


class Guard:
    """ASGI middleware that refuses requests which the rules do not allow, before their body.

    Args:
        app: answers the others.
        access: the rules.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refused(scope) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._access.names(host_name(host)):
            return refusal(421, f"Host must be a name or address of this service, got {host!r}")
        # A page of the service itself would have its own host here; there is none.
        if "origin" in headers and not _is_own(headers["origin"], host):
            return refusal(403, f"requests of other sites are refused, got {headers['origin']!r}")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return refusal(403, "requests of other sites are refused")
        if scope["path"] not in OPEN and not self._access.shows_token(
            headers.get("authorization", "")
        ):
            return refusal(
                401,
                "a bearer token is needed: Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        # Browsers send forms and texts without asking first, but not JSON.
        if scope["method"] == "POST" and not _is_json(headers):
            got = headers.get("content-type", "none")
            return refusal(415, f"Content-Type must be {JSON}, got {got!r}")
        return None


def host_name(host: str) -> str:
    """Return a Host header in lower case, without its port and brackets; empty if it has none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_own(origin: str, host: str) -> bool:
    return bool(host) and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


def _is_json(headers: Mapping[str, str]) -> bool:
    kind, *parameters = headers.get("content-type", "").lower().split(";")
    charsets = {"charset=utf-8", 'charset="utf-8"', ""}
    return kind.strip() == JSON and all(one.strip() in charsets for one in parameters)
