"""Access control of the service: allowed requests, and the bearer token they carry.

Listening on loopback protects neither against pages in the user's own browser nor against other
users of the machine. So the Host header of a request must be a name of the service (another name
may be DNS rebinding), the request must not come from a page of another site, and it must carry
the token.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pres_dist.errors import ConfigError

VARIABLE = "PRES_DIST_TOKEN"
_BYTES = 32
OPEN = ("/healthz", "/readyz")
"""Paths that need no token."""
JSON = "application/json"


@dataclass(frozen=True)
class Access:
    """Rules for the requests that the service accepts.

    Attributes:
        token: bearer token that requests must carry, except for paths in `OPEN`; None requires
            no token.
        hosts: names and addresses allowed as Host of requests, in addition to those of loopback.
        any_address: allow any IP address (but not any name) as Host.
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()
    any_address: bool = False

    def names(self, host: str) -> bool:
        """Return True if a host, given without its port, is allowed."""
        if host == "localhost" or host in self.hosts:
            return True
        address = address_of(host)
        return address is not None and (self.any_address or address.is_loopback)

    def shows_token(self, authorization: str) -> bool:
        """Return True if an Authorization header carries the token, or none is required."""
        if self.token is None:
            return True
        kind, _, shown = authorization.partition(" ")
        fits = hmac.compare_digest(shown.strip().encode(), self.token.encode())
        return kind.lower() == "bearer" and fits


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error response whose JSON body holds the message."""
    more = dict(headers or {})
    if status == 429:
        more["Retry-After"] = "1"
    return JSONResponse({"error": message}, status, more)


class Guard:
    """ASGI middleware that rejects requests which the rules do not allow, before reading bodies.

    Args:
        app: application that handles accepted requests.
        access: the rules.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request that is allowed to the application; answer any other."""
        refused = self._refused(scope) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._access.names(host_name(host)):
            return refusal(421, f"Host must be a name or address of this service, got {host!r}")
        # Browsers send the Origin of the page. Only a page of the service itself, which has none
        # today, would send its own Host.
        origin = headers.get("origin")
        own = (f"http://{host}".lower(), f"https://{host}".lower()) if host else ()
        if origin is not None and origin.lower() not in own:
            return refusal(403, f"requests of other sites are refused, got {origin!r}")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return refusal(403, "requests of other sites are refused")
        authorization = headers.get("authorization", "")
        if scope["path"] not in OPEN and not self._access.shows_token(authorization):
            needed = "a bearer token is needed: Authorization: Bearer TOKEN"
            return refusal(401, needed, {"WWW-Authenticate": "Bearer"})
        # Browsers send forms and plain text to other sites without a CORS preflight, but not JSON.
        if scope["method"] == "POST":
            got = headers.get("content-type")
            kind, *parameters = (got or "").lower().split(";")
            charsets = {"charset=utf-8", 'charset="utf-8"', ""}
            if kind.strip() != JSON or any(one.strip() not in charsets for one in parameters):
                return refusal(415, f"Content-Type must be {JSON}, got {got or 'none'!r}")
        return None


def host_name(host: str) -> str:
    """Return a Host header in lower case, without its port and brackets; empty if it has none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse a host as an IP address; return None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def chosen_token(file: Path | None) -> tuple[str, str]:
    """Return the token that requests must carry, and its origin.

    Args:
        file: file with the token. None takes the token from the environment, or else from the
            user's own file, which is created when first needed.

    Raises:
        ConfigError: the file cannot be read or written, is not private, or holds no token.
    """
    if file is not None:
        return _read(file), str(file)
    given = os.environ.get(VARIABLE, "").strip()
    if given:
        return given, VARIABLE
    file = users_file()
    if not file.exists():
        _draw(file)
    _check_private(file)
    return _read(file), str(file)


def users_file() -> Path:
    """Return the path of the file with the user's token."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "pres_dist" / "token"


def _draw(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=file.parent) as drawn:  # has mode 0600
            drawn.write(secrets.token_urlsafe(_BYTES) + "\n")
            drawn.flush()
            os.fsync(drawn.fileno())
            with suppress(FileExistsError):  # another process created the file first: use that one
                os.link(drawn.name, file)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written: {error.strerror}; give a token by --token-file FILE or "
            f"{VARIABLE} in the environment"
        ) from None


def _check_private(file: Path) -> None:
    status = file.stat()
    if status.st_mode & 0o077 or status.st_uid != os.getuid():
        raise ConfigError(
            f"{file}: must be yours and readable by you alone (chmod 600), got mode "
            f"{status.st_mode & 0o777:o} of user {status.st_uid}"
        )


def _read(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{file}: must hold a token, printable ASCII without spaces, got "
            f"{'nothing' if not token else 'other characters'}"
        )
    return token
