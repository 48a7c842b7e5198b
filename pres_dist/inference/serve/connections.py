"""Connections that cannot be held for ever, and no more of them than there are descriptors.

uvicorn has no limits of its own on how long a client may take for the head of its request, nor on
connections that are open. Without them clients that send nothing keep all others out; and once no
descriptor is left, asyncio fails to accept as many times as its backlog is long, each second.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""Seconds in which the head of a request must have come, from the end of the one before."""
_FOR_FILES = 32
"""Descriptors that are left for files while the service runs."""
_BACKLOGS = 4
"""Accepted connections come this many times before those over the limit are closed."""
_WAITING = 128
"""Connections that the kernel holds until they are accepted."""


def most_connections(wanted: int) -> int:
    """Return how many connections may be open, given the limit on descriptors; at least one."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    free = soft - _num_open() - _FOR_FILES
    return max(min(wanted, free // 2), 1)


def backlog_of(connections: int) -> int:
    """Return how many connections may be accepted at a time."""
    return max(min(connections // _BACKLOGS, _WAITING), 1)


class Server(uvicorn.Server):
    """A server that accepts few connections at a time, while more may wait for that."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_WAITING)  # asyncio has one number for both, that of `Config.backlog`


def _num_open() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return _FOR_FILES


def connection_class(most: int) -> type[H11Protocol]:
    """Return a protocol for uvicorn of which no more than `most` are open at a time."""

    class Connection(H11Protocol):
        """A connection that is closed unless the head of a request comes in time.

        When there are too many, the one that has waited longest for a request is closed, so that
        connections that send nothing keep nobody out.
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
            """Whether no request is being answered."""
            return self.cycle is None or self.cycle.response_complete

        def _close_if_late(self) -> None:
            left = HEAD_S if not self.waits else self._waits_since + HEAD_S - self.loop.time()
            if left <= 0:
                self.transport.abort()
            else:
                self._watch = self.loop.call_later(left, self._close_if_late)

    return Connection
