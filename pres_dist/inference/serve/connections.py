"""Limits on the duration and number of connections.

uvicorn limits neither the time that a client may take to send the head of a request nor the
number of open connections. Without limits, clients that send nothing would block all others. And
once no file descriptor is left, asyncio fails to accept connections, as many times per second as
its backlog is long.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""Seconds within which the head of a request must arrive, from the end of the previous one."""
_FOR_FILES = 32
"""File descriptors reserved for files while the service runs."""
_BACKLOGS = 4
"""The limit on connections is this many times the number accepted at once."""
_WAITING = 128
"""Connections that the kernel queues until they are accepted."""


def most_connections(wanted: int) -> int:
    """Return the most connections that the limit on file descriptors allows; at least one."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    free = soft - _num_open() - _FOR_FILES
    return max(min(wanted, free // 2), 1)


def backlog_of(connections: int) -> int:
    """Return the number of connections that may be accepted at once."""
    return max(min(connections // _BACKLOGS, _WAITING), 1)


class Server(uvicorn.Server):
    """Server that accepts few connections at once, with a longer queue in the kernel."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with a longer queue than asyncio would ask for."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_WAITING)  # asyncio uses `Config.backlog` for both


def _num_open() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return _FOR_FILES


def connection_class(most: int) -> type[H11Protocol]:
    """Return a uvicorn protocol class with at most `most` open connections."""

    class Connection(H11Protocol):
        """Connection that is closed unless the head of a request arrives in time.

        When there are too many connections, the one that has been idle longest is closed, so that
        clients that send nothing do not block others.
        """

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._waits_since = self.loop.time()
            self._watch = self.loop.call_later(HEAD_S, self._close_if_late)
            others = cast("set[Connection]", self.connections)
            others_open = [one for one in others if not one.transport.is_closing()]
            super().connection_made(transport)
            if len(others_open) >= most:
                waiting = [one for one in others_open if one.waits]
                oldest = min(waiting, key=lambda one: one._waits_since, default=self)
                oldest.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._watch.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self._waits_since = self.loop.time()
            super().on_response_complete()

        @property
        def waits(self) -> bool:
            """True if no request is being handled."""
            return self.cycle is None or self.cycle.response_complete

        def _close_if_late(self) -> None:
            left = HEAD_S if not self.waits else self._waits_since + HEAD_S - self.loop.time()
            if left <= 0:
                self.transport.abort()
            else:
                self._watch = self.loop.call_later(left, self._close_if_late)

    return Connection
