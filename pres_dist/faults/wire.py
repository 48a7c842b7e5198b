"""A link to a memory shard on which pushes come twice, late or in another order."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from pres_dist.faults.inject import armed, take
from pres_dist.memory.wire import Header, Kind, Link


class FaultyLink(Link):
    """Lets happen to a push what the plan has for it; messages are otherwise sent as ever."""

    _held: tuple[Header, Tensor | None] | None = None

    def tell(self, header: Header, payload: Tensor | None = None) -> None:
        held, self._held = self._held, None
        reads = bool(header.answer_bytes) or header.kind == Kind.LEAVE
        if held is not None and reads:
            # A shard answers a worker in the order of its messages: the read would wait forever.
            super().tell(*held)
            held = None
        fault = take("send") if header.kind == Kind.PUSH else None
        verb = None if fault is None else fault.verb
        if fault is not None and verb == "delay":
            time.sleep(fault.ms / 1000)
        if verb == "reorder":
            self._held = header, payload
        else:
            super().tell(header, payload)
        if verb == "duplicate":
            super().tell(header, payload)
        if held is not None:
            super().tell(*held)


def open_link(*arguments: Any) -> Link:
    """A link; one with faults where this process has some to come."""
    return (FaultyLink if armed() else Link)(*arguments)
