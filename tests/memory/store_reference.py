"""A memory store as a plain dict of numpy rows, to compare others with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from pres_dist.memory.state import NEVER, NO_EVENT, MemoryStore, NodeState
from pres_dist.pres.clock import ClockKind
from pres_dist.pres.statistics import TransitionRows
from tests.support.store_rows import FIELDS, TIME_UNIT, Layout, ids


@dataclass
class Reference:
    """A store as a dict from node to row, and a dict from node to its list of rates."""

    layout: Layout
    rows: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    rates: dict[tuple[int, int], list[np.ndarray]] = field(default_factory=dict)

    def row(self, node: int) -> dict[str, np.ndarray]:
        slots, dim = self.layout.num_slots, self.layout.dim
        empty = {
            "memory_UD": np.zeros(dim, np.float32),
            "last_update_U": np.int64(NEVER),
            "mail_memory_URD": np.zeros((slots, dim), np.float32),
            "mail_event_UR": np.full(slots, NO_EVENT),
            "mail_count_U": np.int64(0),
        }
        return self.rows.get(node, empty)

    def push(self, nodes: list[int], state: NodeState, learn: bool) -> None:
        if learn:
            self._observe(nodes, 0, state.memory_UD, state.last_update_U)
        for place, node in enumerate(nodes):
            columns = {name: getattr(state, name).numpy()[place] for name in FIELDS}
            self.rows[node] = {name: column.copy() for name, column in columns.items()}

    def observe(self, nodes: list[int], memory_UD: Tensor, last_update_U: Tensor) -> None:
        if self.layout.num_components == 2:
            self._observe(nodes, 1, memory_UD, last_update_U)

    def _observe(
        self, nodes: list[int], component: int, memory_UD: Tensor, last_update_U: Tensor
    ) -> None:
        for node, after, t in zip(nodes, memory_UD.numpy(), last_update_U.tolist(), strict=True):
            before = self.row(node)
            last = int(before["last_update_U"])
            duration = length(self.layout.clock, t - last, int(before["mail_count_U"]))
            if NEVER in (last, t) or not duration:
                continue
            rate = (after.astype(np.float64) - before["memory_UD"]) / duration
            self.rates.setdefault((node, component), []).append(rate)

    def reset(self) -> None:
        self.rows.clear()
        self.rates.clear()

    def transitions(self, node: int, component: int) -> np.ndarray:
        """[n, D] rates of a node's transitions."""
        rates = self.rates.get((node, component), [])
        return np.array(rates).reshape(-1, self.layout.dim)


def length(clock: ClockKind, elapsed: int, events: int) -> float:
    if clock == "event":
        return float(events) if elapsed > 0 else 0.0
    return math.log1p(elapsed / TIME_UNIT) if clock == "log" else elapsed / TIME_UNIT


def assert_like_reference(store: MemoryStore, reference: Reference, nodes: list[int]) -> None:
    """Rows to the last bit, statistics up to summation order."""
    pulled = store.pull(ids(*nodes)).state
    for place, node in enumerate(nodes):
        for name, expected in reference.row(node).items():
            np.testing.assert_array_equal(getattr(pulled, name)[place].numpy(), expected, name)
    rows = store.pull(ids(*nodes)).transitions
    if not reference.layout.num_components:
        assert rows is None
        return
    assert rows is not None
    for place, node in enumerate(nodes):
        _assert_transitions(rows, place, reference, node)


def _assert_transitions(rows: TransitionRows, place: int, reference: Reference, node: int) -> None:
    components = range(reference.layout.num_components)
    rates = [reference.transitions(node, component) for component in components]
    everything = np.concatenate(rates)
    num = len(everything)
    assert int(rows.num_observed_U[place]) == num
    scale = float(np.abs(everything).max(initial=1))
    close = {"rtol": 1e-4, "atol": 1e-5 * scale}
    mean = everything.mean(0) if num else np.zeros(reference.layout.dim)
    np.testing.assert_allclose(rows.rate_UD[place].numpy(), mean, **close)
