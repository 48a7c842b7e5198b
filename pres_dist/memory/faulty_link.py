"""A link to a memory shard that duplicates, delays or reorders pushes, for fault tests."""

from __future__ import annotations

import time
from threading import Lock, Timer
from typing import Any

from torch import Tensor

from pres_dist.faults.inject import armed, take
from pres_dist.memory.shard_layout import Kind
from pres_dist.memory.wire import Header, Link

_HELD_S = 0.2
"""Longest hold of a push to be reordered: another worker's read may wait for it."""


class FaultyLink(Link):
    """Applies the planned faults to pushes; sends everything else unchanged."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._held: tuple[Header, Tensor | None] | None = None
        self._lock = Lock()

    def tell(self, header: Header, payload: Tensor | None = None) -> None:
        fault = take("send") if header.kind == Kind.PUSH else None
        verb = None if fault is None else fault.verb
        if fault is not None and verb == "delay":
            time.sleep(fault.ms / 1000)
        with self._lock:
            if header.answer_bytes or header.kind == Kind.LEAVE:
                # A shard answers a worker's messages in order, so the read would block.
                self._send_held()
            overtaken, self._held = self._held, None
            if verb == "reorder":
                self._held = header, payload
                timer = Timer(_HELD_S, self._give_up_waiting)
                timer.daemon = True
                timer.start()
            else:
                super().tell(header, payload)
            if verb == "duplicate":
                super().tell(header, payload)
            if overtaken is not None:
                super().tell(*overtaken)

    def _give_up_waiting(self) -> None:
        with self._lock:
            self._send_held()

    def _send_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            super().tell(*held)


def open_link(*arguments: Any) -> Link:
    """Return a link, with fault injection if this process has planned faults."""
    return (FaultyLink if armed() else Link)(*arguments)
