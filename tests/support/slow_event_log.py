"""The numbers of `EventLog` by going through all earlier events, one by one."""

from __future__ import annotations

import math

import numpy as np

from pres_dist.sampling.event_log import PARTNER_EVENTS, RECENT_EVENTS
from tests.support.random_streams import Case, partner


class SlowLog:
    """Earlier events of a stream, as lists."""

    def __init__(self, case: Case) -> None:
        self.stream = case.stream
        self._kept = np.ones(case.stream.num_events, bool) if case.keep is None else case.keep

    def earlier(self, t: int) -> list[int]:
        """Kept events strictly before a time."""
        return [
            event
            for event in range(self.stream.num_events)
            if self.stream.t[event] < t and self._kept[event]
        ]

    def numbers(self, src: int, dst: int, t: int, bipartite: bool) -> dict[str, float]:
        """Every number of a query by its name."""
        past = self.earlier(t)
        own = [event for event in past if src in self._ends(event)]
        of_dst = [event for event in past if dst in self._ends(event)]
        seen = int((self.stream.t < t).sum())
        partners: list[int] = []
        for event in reversed(own[-PARTNER_EVENTS:]):
            met = partner(self.stream, src, event)
            if met not in partners:
                partners.append(met)
        numbers = self._of_pair(src, dst, past, own, t) | {
            "destination count": math.log1p(len(of_dst)),
            "destination count, recent events": math.log1p(
                sum(event >= seen - RECENT_EVENTS for event in of_dst)
            ),
            "destination age": self._age(of_dst, t),
            "source count": math.log1p(len(own)),
            "source age": self._age(own, t),
            "rank among partners": 1 / (1 + partners.index(dst)) if dst in partners else 0.0,
        }
        if not bipartite:
            back = self._of_pair(dst, src, past, own, t)
            numbers |= {f"{name}, answered": value for name, value in back.items()}
        return numbers

    def common(self, src: int, dst: int, t: int, num: int, bipartite: bool) -> set[int]:
        """Common neighbors of a query, from the last `num` events of every node."""
        around = self._partners(src, t, num)
        if bipartite:
            around = {far for near in around for far in self._partners(near, t, num)}
        return (around & self._partners(dst, t, num)) - {src, dst}

    def _of_pair(
        self, first: int, second: int, past: list[int], own: list[int], t: int
    ) -> dict[str, float]:
        pair = [event for event in past if self._ends(event) == (first, second)]
        since = sum(event > pair[-1] for event in own) if pair else 0
        return {
            "met": float(bool(pair)),
            "last": float(bool(pair) and since == 0),
            "recency": 1 / (1 + since) if pair else 0.0,
            "count": math.log1p(len(pair)),
            "share": len(pair) / max(len(own), 1),
            "age": self._age(pair, t),
        }

    def _partners(self, node: int, t: int, num: int) -> set[int]:
        own = [event for event in self.earlier(t) if node in self._ends(event)]
        return {partner(self.stream, node, event) for event in own[-num:]}

    def _age(self, events: list[int], t: int) -> float:
        since = int(self.stream.t[events[-1] if events else 0])
        return math.log(max(t - since, 1))

    def _ends(self, event: int) -> tuple[int, int]:
        return int(self.stream.src[event]), int(self.stream.dst[event])
