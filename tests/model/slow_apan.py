"""APAN with PRES written from the paper in float64, one node and one mail at a time.

What it shares with TGN (scores, PRES, the order of a step) is that of `slow_tgn`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.model.slow_tgn import SlowMail, SlowModel, SlowStep, SlowUpdate, Vector


class SlowApanModel(SlowModel):
    """A TGN whose memory attends to its mailbox."""

    now: int
    own: list[bool]

    def measure(
        self, memory: Vector, last_update: int | None, mails: Sequence[SlowMail]
    ) -> tuple[Vector, int | None]:
        """Memory and last update after mail; `own` says which mails are of the node's events."""
        if not mails or mails[-1].t == last_update:
            return memory, last_update
        described = [
            np.concatenate([mail.other, mail.edge, [float(own)], self.phi(self.now - mail.t)])
            for mail, own in zip(mails, self.own, strict=True)
        ]
        summed = memory + self._attended(memory, described)
        centered = summed - summed.mean()
        normed = centered / np.sqrt(centered.var() + 1e-5)
        normed = normed * self.weights["updater.norm.weight"] + self.weights["updater.norm.bias"]
        hidden = np.maximum(self.linear("updater.hidden", normed), 0)
        return self.linear("updater.out", hidden), mails[-1].t

    def _attended(self, memory: Vector, described: Sequence[Vector]) -> Vector:
        name, width = "updater.attention", len(memory) // self.config.num_heads
        query = self.linear(f"{name}.query", np.concatenate([memory, self.phi(0)]))
        keys = [self.weights[f"{name}.key"] @ x for x in described]
        values = [self.weights[f"{name}.value"] @ x for x in described]
        attended = np.zeros(len(memory))
        for head in range(0, len(memory), width):
            part = slice(head, head + width)
            weights = np.exp([query[part] @ key[part] / math.sqrt(width) for key in keys])
            for weight, value in zip(weights / weights.sum(), values, strict=True):
                attended[part] += weight * value[part]
        return attended


class SlowApanStep(SlowStep):
    """Mail goes to endpoints and neighbors, and mailboxes keep the last ones of all batches."""

    model: SlowApanModel

    def commit(
        self, events: Sequence[int], negatives: Sequence[Sequence[int]], learn: bool
    ) -> None:
        mailboxes = [state.mail for state in self.nodes]
        super().commit(events, negatives, learn)
        for state, mailbox in zip(self.nodes, mailboxes, strict=True):
            if state.mail is not mailbox:  # an endpoint
                state.mail, state.count = mailbox, 0
        for event in events:
            ends = self._ends([event])
            both = [self._updated(int(self.stream.src[event])).memory]
            both.append(self._updated(int(self.stream.dst[event])).memory)
            for node in self._receivers(event, ends):
                state = self.nodes[node]
                state.mail = [*state.mail, (event, both[0] + both[1])][-self.num_slots :]
                state.count = min(state.count + 1, self.num_slots)

    def _receivers(self, event: int, ends: set[int]) -> set[int]:
        reached = ends
        for _ in range(self.model.config.mail_hops):
            reached = reached | {
                other for node in reached for other in self._ends(self._history(node, event))
            }
        return reached

    def _history(self, node: int, event: int) -> list[int]:
        """The last K events of a node strictly before the time of an event."""
        earlier = range(int(np.searchsorted(self.stream.t, self.stream.t[event])))
        own = [each for each in earlier if node in self._ends([each])]
        return own[-self.num_neighbors :]

    def _ends(self, events: Sequence[int]) -> set[int]:
        src, dst = self.stream.src, self.stream.dst
        return {int(node) for event in events for node in (src[event], dst[event])}

    def _update(self, node: int) -> SlowUpdate:
        self.model.now = int(self.stream.t[self.first])
        self.model.own = [node in self._ends([event]) for event, _ in self.nodes[node].mail]
        return super()._update(node)
