"""What every memory store promises, as tests. A new store only says how it is made::

    class TestMyStore(StoreContract):
        def make_store(self, layout):
            return MyStore(...)

Everything is observed through the protocol (`MemoryStore`), and compared with a
plain dict of numpy rows (`Reference`).

Shapes: N nodes, U nodes of a request, D memory size, R mailbox slots, C components.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pres_dist.memory.state import NEVER, NO_EVENT, MemoryStore, NodeState, TransitionRows
from pres_dist.pres.clock import ClockKind, TransitionClock
from pres_dist.pres.statistics import TransitionStatistics

EPOCH_MS = 1_700_000_000_000
TIME_UNIT = 60_000.0
FIELDS = ("memory_UD", "last_update_U", "mail_memory_URD", "mail_event_UR", "mail_count_U")


@dataclass(frozen=True)
class Layout:
    """The sizes of a store. No components: a store without statistics."""

    num_nodes: int = 7
    dim: int = 3
    num_slots: int = 1
    num_components: int = 2
    clock: ClockKind = "log"
    rolling: bool = False

    def statistics(self) -> TransitionStatistics | None:
        """Statistics of this layout, for stores that keep them beside their rows."""
        if not self.num_components:
            return None
        clock = TransitionClock(self.clock, TIME_UNIT)
        return TransitionStatistics(self.num_nodes, self.dim, self.num_components, clock)

    @property
    def everyone(self) -> Tensor:
        return torch.arange(self.num_nodes)


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


def random_state(layout: Layout, num: int, seed: int, last_update: list[int]) -> NodeState:
    """Rows that nobody could mistake for one another."""
    random = np.random.default_rng(seed)
    shape = (num, layout.num_slots)
    return NodeState(
        memory_UD=torch.from_numpy(random.standard_normal((num, layout.dim), np.float32)),
        last_update_U=torch.tensor(last_update, dtype=torch.int64),
        mail_memory_URD=torch.from_numpy(random.standard_normal((*shape, layout.dim), np.float32)),
        mail_event_UR=torch.from_numpy(random.integers(NO_EVENT, 1 << 40, shape)),
        mail_count_U=torch.from_numpy(random.integers(1, 100, num)),
    )


def without_mail(state: NodeState) -> NodeState:
    """The rows as a store takes them whose mailboxes roll."""
    return replace(
        state,
        mail_memory_URD=state.mail_memory_URD[:, :0],
        mail_event_UR=state.mail_event_UR[:, :0],
    )


def replace_rows(state: NodeState, rows: slice) -> NodeState:
    return NodeState(**{name: getattr(state, name)[rows] for name in FIELDS})


def mail_of(layout: Layout, pairs: np.ndarray, values: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Deliveries of (node, event) pairs whose memory is one value throughout."""
    nodes_X, events_X = torch.tensor(pairs.reshape(-1, 2), dtype=torch.int64).unbind(1)
    return nodes_X, events_X, torch.from_numpy(values)[:, None].repeat(1, layout.dim)


def mail_in(state: NodeState, node: int) -> dict[int, float]:
    """Events in a node's mailbox and the first number of each mail; empty slots come last."""
    num = int((state.mail_event_UR[node] != NO_EVENT).sum())
    assert (state.mail_event_UR[node, num:] == NO_EVENT).all()
    assert not state.mail_memory_URD[node, num:].any()
    events, memory = state.mail_event_UR[node, :num], state.mail_memory_URD[node, :num]
    assert torch.equal(memory, memory[:, :1].expand_as(memory))
    return dict(zip(events.tolist(), memory[:, 0].tolist(), strict=True))


def ids(*nodes: int) -> Tensor:
    return torch.tensor(nodes, dtype=torch.int64)


def assert_same_rows(one: NodeState, other: NodeState) -> None:
    for name in FIELDS:
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def assert_same_transitions(one: TransitionRows | None, other: TransitionRows | None) -> None:
    """Equal to the last bit."""
    if one is None or other is None:
        assert one is other
        return
    assert torch.equal(one.num_observed_U, other.num_observed_U)
    assert torch.equal(one.rate_UD, other.rate_UD)
    if one.mixture is None or other.mixture is None:
        assert one.mixture is other.mixture
        return
    for name, value in vars(one.mixture).items():
        assert torch.equal(value, getattr(other.mixture, name)), name


def assert_same_store(one: MemoryStore, other: MemoryStore, layout: Layout) -> None:
    assert_same_rows(one.pull(layout.everyone).state, other.pull(layout.everyone).state)
    assert_same_transitions(
        one.pull(layout.everyone, True).transitions, other.pull(layout.everyone, True).transitions
    )


def assert_like_reference(store: MemoryStore, reference: Reference, nodes: list[int]) -> None:
    """Rows to the last bit, statistics up to summation order."""
    pulled = store.pull(ids(*nodes)).state
    for place, node in enumerate(nodes):
        for name, expected in reference.row(node).items():
            np.testing.assert_array_equal(getattr(pulled, name)[place].numpy(), expected, name)
    rows = store.pull(ids(*nodes), True).transitions
    if not reference.layout.num_components:
        assert rows is None
        return
    assert rows is not None
    assert rows.mixture is not None
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
    mixture = rows.mixture
    assert mixture is not None
    assert mixture.weight_UC.shape[1] == len(components)
    for component in components:
        own = rates[component] if len(rates[component]) else np.zeros((1, reference.layout.dim))
        weight = len(rates[component]) / max(num, 1)
        assert float(mixture.weight_UC[place, component]) == pytest.approx(weight, rel=1e-6)
        np.testing.assert_allclose(mixture.mean_UCD[place, component].numpy(), own.mean(0), **close)
        np.testing.assert_allclose(
            mixture.variance_UCD[place, component].numpy(),
            own.var(0),
            rtol=1e-3,
            atol=1e-5 * scale**2,
        )


LAYOUTS = st.builds(
    Layout,
    num_nodes=st.sampled_from([1, 2, 7]),
    dim=st.sampled_from([1, 4]),
    num_slots=st.sampled_from([1, 3]),
    num_components=st.sampled_from([0, 1, 2]),
    clock=st.sampled_from(["time", "log", "event"]),
)
VERBS = st.sampled_from(["push", "learn", "learn", "observe", "pull", "reload", "reset"])
SEEDS = st.integers(0, 1 << 30)
GAPS = st.sampled_from([0, 1, 60_000, 86_400_000])

# One test function serves several subclasses.
program_settings = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.differing_executors]
)

random_programs = given(
    layout=LAYOUTS, verbs=st.lists(VERBS, min_size=2, max_size=14), data=st.data()
)


class StoreContract:
    """Tests of a store; subclasses say how it is made."""

    def make_store(self, layout: Layout) -> MemoryStore:
        """An empty store of the layout; several may be alive at once."""
        raise NotImplementedError

    @pytest.fixture(params=[1, 3], ids=["one-slot", "three-slots"])
    def layout(self, request: pytest.FixtureRequest) -> Layout:
        return Layout(num_slots=request.param)

    def written(self, layout: Layout, seed: int = 1) -> MemoryStore:
        """A store in which every row and every sum is full, after two pushes."""
        store = self.make_store(layout)
        for step in range(2):
            times = [
                EPOCH_MS + 60_000 * (step + 1) * (node + 1) for node in range(layout.num_nodes)
            ]
            state = random_state(layout, layout.num_nodes, seed + step, times)
            store.push(layout.everyone, state, learn=True)
        later = [t + 120_000 for t in times]
        store.observe(
            layout.everyone,
            random_state(layout, layout.num_nodes, seed + 2, later).memory_UD,
            torch.tensor(later),
        )
        return store

    # ------------------------------------------------------------ pull

    def test_sizes(self, layout: Layout) -> None:
        store = self.make_store(layout)
        sizes = (layout.num_nodes, layout.dim, layout.num_slots)
        assert (store.num_nodes, store.dim, store.num_slots) == sizes

    def test_defaults_of_a_new_store(self, layout: Layout) -> None:
        store = self.make_store(layout)
        state = store.pull(ids(4, 0)).state
        assert state.memory_UD.tolist() == [[0.0] * layout.dim] * 2
        assert state.last_update_U.tolist() == [NEVER, NEVER]
        assert state.mail_memory_URD.shape == (2, layout.num_slots, layout.dim)
        assert not state.mail_memory_URD.any()
        assert state.mail_event_UR.tolist() == [[NO_EVENT] * layout.num_slots] * 2
        assert state.mail_count_U.tolist() == [0, 0]
        rows = store.pull(ids(4, 0), True).transitions
        assert rows is not None
        assert rows.mixture is not None
        assert rows.num_observed_U.tolist() == [0, 0]
        for zeros in (rows.rate_UD, *vars(rows.mixture).values()):
            assert not zeros.any()

    def test_types(self, layout: Layout) -> None:
        for store in (self.make_store(layout), self.written(layout)):
            types = {name: getattr(store.pull(ids(1)).state, name).dtype for name in FIELDS}
            assert types == {
                "memory_UD": torch.float32,
                "last_update_U": torch.int64,
                "mail_memory_URD": torch.float32,
                "mail_event_UR": torch.int64,
                "mail_count_U": torch.int64,
            }
            rows = store.pull(ids(1), True).transitions
            assert rows is not None
            assert rows.num_observed_U.dtype == torch.int64
            assert rows.rate_UD.dtype == torch.float32

    def test_rows_come_in_the_order_of_the_request(self, layout: Layout) -> None:
        store = self.written(layout)
        whole, order = store.pull(layout.everyone).state, ids(5, 0, 6, 2)
        some = store.pull(order).state
        for name in FIELDS:
            assert torch.equal(getattr(some, name), getattr(whole, name)[order])
        whole_rows = store.pull(layout.everyone, True).transitions
        rows = store.pull(order, True).transitions
        assert rows is not None
        assert whole_rows is not None
        assert torch.equal(rows.rate_UD, whole_rows.rate_UD[order])
        assert rows.mixture is not None
        assert whole_rows.mixture is not None
        assert torch.equal(rows.mixture.variance_UCD, whole_rows.mixture.variance_UCD[order])

    def test_nobody_can_be_asked_for_and_written(self, layout: Layout) -> None:
        store, untouched = self.written(layout), self.written(layout)
        nobody = store.pull(ids()).state
        assert nobody.memory_UD.shape == (0, layout.dim)
        assert nobody.mail_memory_URD.shape == (0, layout.num_slots, layout.dim)
        rows = store.pull(ids(), True).transitions
        assert rows is not None
        assert rows.rate_UD.shape == (0, layout.dim)
        store.push(ids(), nobody, learn=True)
        store.observe(ids(), nobody.memory_UD, nobody.last_update_U)
        assert_same_store(store, untouched, layout)

    def test_pull_returns_copies(self, layout: Layout) -> None:
        store, untouched = self.written(layout), self.written(layout)
        pulled = [store.pull(nodes).state for nodes in (layout.everyone, ids(3))]
        rows = store.pull(layout.everyone, True).transitions
        assert rows is not None
        assert rows.mixture is not None
        tensors = [getattr(state, name) for state in pulled for name in FIELDS]
        tensors += [rows.num_observed_U, rows.rate_UD, *vars(rows.mixture).values()]
        for tensor in tensors:
            tensor.fill_(77)
        assert_same_store(store, untouched, layout)

    def test_later_writes_do_not_reach_what_was_pulled(self, layout: Layout) -> None:
        store = self.written(layout)
        pulled = store.pull(layout.everyone, True)
        expected = self.written(layout).pull(layout.everyone, True)
        later = [EPOCH_MS * 2] * layout.num_nodes
        state = random_state(layout, layout.num_nodes, 9, later)
        store.push(layout.everyone, state, learn=True)
        store.observe(layout.everyone, state.memory_UD, state.last_update_U + 5)
        store.reset()
        assert_same_rows(pulled.state, expected.state)
        assert_same_transitions(pulled.transitions, expected.transitions)

    def test_a_mixture_is_given_only_when_asked_for(self, layout: Layout) -> None:
        store = self.written(layout)
        plain, full = (store.pull(layout.everyone, wish).transitions for wish in (False, True))
        assert plain is not None
        assert full is not None
        assert plain.mixture is None
        assert full.mixture is not None
        assert torch.equal(plain.num_observed_U, full.num_observed_U)
        assert torch.equal(plain.rate_UD, full.rate_UD)

    def test_without_statistics(self, layout: Layout) -> None:
        bare = replace(layout, num_components=0)
        store = self.written(bare)
        assert store.pull(layout.everyone, True).transitions is None
        assert store.pull(layout.everyone, False).transitions is None
        assert_same_rows(
            store.pull(layout.everyone).state, self.written(layout).pull(layout.everyone).state
        )

    # ------------------------------------------------------------ push

    def test_push_replaces_whole_rows_and_no_others(self, layout: Layout) -> None:
        """The mailbox too: messages that it held before are gone, not appended to."""
        store, before = self.written(layout), self.written(layout).pull(layout.everyone).state
        nodes, others = ids(4, 1), ids(0, 2, 3, 5, 6)
        state = random_state(layout, 2, 50, [EPOCH_MS * 2, NEVER])
        state.mail_event_UR[:, 1:] = NO_EVENT
        state.mail_memory_URD[:, 1:] = 0
        store.push(nodes, state, learn=False)
        assert_same_rows(store.pull(nodes).state, state)
        kept = {name: getattr(before, name)[others] for name in FIELDS}
        assert_same_rows(store.pull(others).state, NodeState(**kept))

    def test_a_push_without_mail_empties_the_mailbox(self, layout: Layout) -> None:
        store = self.written(layout)
        state = store.pull(ids(2)).state
        state.mail_memory_URD.zero_()
        state.mail_event_UR.fill_(NO_EVENT)
        state.mail_count_U.zero_()
        store.push(ids(2), state, learn=False)
        assert_same_rows(store.pull(ids(2)).state, state)

    def test_the_last_writer_wins(self, layout: Layout) -> None:
        """Whatever the times and event ids in the rows say."""
        store = self.make_store(layout)
        first = random_state(layout, 3, 1, [EPOCH_MS + 9] * 3)
        second = random_state(layout, 2, 2, [EPOCH_MS] * 2)
        store.push(ids(0, 1, 2), first, learn=False)
        store.push(ids(2, 1), second, learn=False)
        assert_same_rows(store.pull(ids(2, 1)).state, second)
        assert_same_rows(
            store.pull(ids(0)).state,
            NodeState(**{name: getattr(first, name)[:1] for name in FIELDS}),
        )

    def test_the_store_keeps_nothing_of_what_it_was_given(self, layout: Layout) -> None:
        """A caller may reuse its buffers after a push."""
        store = self.make_store(layout)
        nodes = ids(1, 3)
        state, same = (random_state(layout, 2, 3, [EPOCH_MS] * 2) for _ in range(2))
        store.push(nodes, state, learn=True)
        for name in FIELDS:
            getattr(state, name).fill_(5)
        nodes.fill_(0)
        assert_same_rows(store.pull(ids(1, 3)).state, same)

    def test_int64_to_the_last_digit(self, layout: Layout) -> None:
        store = self.make_store(layout)
        state = random_state(layout, 1, 3, [(1 << 62) + 1])
        state.mail_event_UR.fill_((1 << 60) + 1)
        state.mail_count_U.fill_((1 << 53) + 1)
        store.push(ids(0), state, learn=False)
        assert_same_rows(store.pull(ids(0)).state, state)

    # ---------------------------------------------------------- staleness

    def test_version_counts_pushes(self, layout: Layout) -> None:
        store = self.make_store(layout)
        assert store.version == store.pull(ids(0)).version == 0
        self.fill(store, ids(1, 2), 1)
        self.fill(store, ids(), 2)
        assert store.version == store.pull(ids(0)).version == 2
        store.load_state_dict(through_a_file(store.state_dict()))
        assert store.version == 0
        self.fill(store, ids(3), 3)
        store.reset()
        assert store.version == store.pull(ids(0)).version == 0

    def fill(self, store: MemoryStore, nodes: Tensor, event: int, seen: int | None = None) -> None:
        """Push rows with one mail, of the given event, whose numbers are those of the event."""
        state = random_state(
            Layout(dim=store.dim, num_slots=store.num_slots), nodes.numel(), event, [0] * len(nodes)
        )
        state.memory_UD.fill_(event)
        state.last_update_U.fill_(EPOCH_MS + event)
        state.mail_memory_URD.zero_()
        state.mail_memory_URD[:, 0] = event
        state.mail_event_UR.fill_(NO_EVENT)
        state.mail_event_UR[:, 0] = event
        state.mail_count_U.fill_(1)
        store.push(nodes, state, learn=False, seen=seen)

    def test_unread_mail_stays_as_far_as_there_is_room(self, layout: Layout) -> None:
        store = self.make_store(layout)
        self.fill(store, ids(0, 1), 5)
        seen = store.pull(ids(0, 1, 2)).version
        self.fill(store, ids(1, 2), 6, seen)
        self.fill(store, ids(0, 1, 2), 7, seen)  # knows event 5, and not event 6
        state = store.pull(ids(0, 1, 2)).state
        assert state.memory_UD[:, 0].tolist() == [7, 7, 7]
        assert state.mail_count_U.tolist() == [1, 2, 2]
        kept = [[7], [6, 7], [6, 7]]
        for slot, events in enumerate(kept):
            events = events[-layout.num_slots :]
            full = events + [NO_EVENT] * (layout.num_slots - len(events))
            assert state.mail_event_UR[slot].tolist() == full
            assert state.mail_memory_URD[slot, : len(events), 0].tolist() == events

    def test_mail_that_was_seen_is_replaced(self, layout: Layout) -> None:
        store = self.make_store(layout)
        self.fill(store, ids(1, 2), 6)
        self.fill(store, ids(1, 2), 7, store.pull(ids(1, 2)).version)
        assert store.pull(ids(1, 2)).state.mail_count_U.tolist() == [1, 1]

    def test_unread_mail_that_a_later_read_has_applied_does_not_stay(self, layout: Layout) -> None:
        store = self.make_store(layout)
        before = store.version
        self.fill(store, ids(0, 1), 5)
        seen = store.pull(ids(0, 1, 2)).version  # applies event 5
        self.fill(store, ids(1, 2), 6, before)  # does not, and leaves it where it was
        if layout.num_slots > 1:
            assert store.pull(ids(1)).state.mail_event_UR[0, :2].tolist() == [5, 6]
        self.fill(store, ids(2, 1, 0), 7, seen)
        state = store.pull(ids(0, 1, 2)).state
        assert state.mail_count_U.tolist() == [1, 2, 2]
        for slot, events in enumerate([[7], [6, 7], [6, 7]]):
            kept = state.mail_event_UR[slot]
            assert kept[kept != NO_EVENT].tolist() == events[-layout.num_slots :]

    # ------------------------------------------------------ announcements

    def test_what_a_pull_announces_changes_nothing_but_the_way(self, layout: Layout) -> None:
        """Two pulls under way at once, then a push that none has announced."""
        store, plain = self.written(layout), self.written(layout)
        random, pulls = np.random.default_rng(3), []
        for nodes in (ids(6, 0, 3, 5), ids(1, 0, 6, 2, 4), ids()):
            writes, observes = (
                torch.from_numpy(random.random(nodes.numel()) < 0.6) for _ in range(2)
            )
            pulled = store.pull(nodes, False, writes, observes)
            assert_same_rows(pulled.state, plain.pull(nodes).state)
            pulls.append((nodes[writes], nodes[observes]))
        assert any(len(written) for written, _ in pulls)
        for step, (written, observed) in enumerate([*pulls, (ids(2, 1), ids(4))]):
            t = EPOCH_MS * 2 + 60_000 * step
            new = random_state(layout, len(written), step, [t] * len(written))
            other = random_state(layout, len(observed), 9 + step, [t + 1] * len(observed))
            for each in (store, plain):
                each.observe(observed, other.memory_UD, other.last_update_U)
                each.push(written, new, learn=True)
        assert_same_store(store, plain, layout)

    @pytest.mark.parametrize("afresh", ["reset", "load"])
    def test_starting_afresh_forgets_what_was_announced(self, layout: Layout, afresh: str) -> None:
        store, nodes = self.written(layout), ids(3, 1)
        saved = through_a_file(store.state_dict())
        store.pull(nodes, False, nodes > 1, nodes > 1)
        store.reset() if afresh == "reset" else store.load_state_dict(saved)
        state = random_state(layout, 2, 5, [EPOCH_MS * 2] * 2)
        store.observe(nodes, state.memory_UD, state.last_update_U)
        store.push(nodes, state, learn=False)
        assert_same_rows(store.pull(nodes).state, state)

    # ------------------------------------------------ mailboxes that roll

    def test_rolling_mailboxes_keep_the_newest_mail(self, layout: Layout) -> None:
        """Of all deliveries, in whatever order they come; memory and statistics stay."""
        layout = replace(layout, rolling=True)
        store, random = self.make_store(layout), np.random.default_rng(5)
        times = [EPOCH_MS] * layout.num_nodes
        state = without_mail(random_state(layout, layout.num_nodes, 1, times))
        store.push(layout.everyone, state, learn=True)
        delivered: dict[int, dict[int, float]] = {node: {} for node in range(layout.num_nodes)}
        for step in range(5):
            pairs = [(n, e) for n in range(layout.num_nodes) for e in range(4 * step, 4 * step + 4)]
            chosen = random.permutation(pairs)[: (9, 0, 1, 25, 14)[step]]
            values = random.standard_normal(len(chosen)).astype(np.float32)
            store.deliver(*mail_of(layout, chosen, values))
            for (node, event), value in zip(chosen.tolist(), values.tolist(), strict=True):
                delivered[node][event] = value
            pulled = store.pull(layout.everyone)
            for node, mail in delivered.items():
                newest = dict(sorted(mail.items())[-layout.num_slots :])
                assert mail_in(pulled.state, node) == newest
                assert int(pulled.state.mail_count_U[node]) == len(newest)
        assert pulled.version == store.version == 1
        assert torch.equal(pulled.state.memory_UD, state.memory_UD)
        assert torch.equal(pulled.state.last_update_U, state.last_update_U)
        assert pulled.transitions is not None
        assert not pulled.transitions.num_observed_U.any()
        other = self.make_store(layout)
        other.load_state_dict(through_a_file(store.state_dict()))
        assert_same_rows(other.pull(layout.everyone).state, pulled.state)

    def test_a_push_leaves_rolling_mailboxes_alone(self, layout: Layout) -> None:
        layout = replace(layout, rolling=True)
        store, pairs = self.make_store(layout), np.array([[2, 7], [5, 7], [2, 8], [0, 9]])
        store.deliver(*mail_of(layout, pairs, np.arange(4, dtype=np.float32)))
        before = store.pull(layout.everyone, False, layout.everyone > 3)
        state = without_mail(random_state(layout, 3, 1, [EPOCH_MS] * 3))
        store.push(ids(4, 5, 6), state, learn=True)
        store.push(ids(2), replace_rows(state, slice(1)), learn=True, seen=before.version)
        after = store.pull(layout.everyone).state
        for name in ("mail_memory_URD", "mail_event_UR"):
            assert torch.equal(getattr(after, name), getattr(before.state, name)), name
        assert after.mail_count_U.tolist() == [1, 0, 0, 0, 0, 0, 0]  # since the last write
        assert torch.equal(after.memory_UD[4:], state.memory_UD)
        assert torch.equal(after.memory_UD[2], state.memory_UD[0])
        assert not after.memory_UD[:2].any()

    # ------------------------------------------------------ statistics

    def observed(self, store: MemoryStore, layout: Layout) -> list[int]:
        rows = store.pull(layout.everyone, False).transitions
        assert rows is not None
        counts: list[int] = rows.num_observed_U.tolist()
        return counts

    def test_statistics_grow_only_by_what_is_learnt(self, layout: Layout) -> None:
        store = self.make_store(layout)
        for step, learn in enumerate([True, False, True, False, True]):
            state = random_state(layout, 2, step, [EPOCH_MS + 100 * step] * 2)
            store.push(ids(5, 2), state, learn)
        # The first had no state to start from, the second and fourth were not learnt.
        assert self.observed(store, layout) == [0, 0, 2, 0, 0, 2, 0]

    def test_a_transition_runs_from_the_stored_state(self, layout: Layout) -> None:
        """Also when that was written without learning (evaluation, then training again)."""
        store, dim = self.make_store(replace(layout, clock="time")), layout.dim
        for t, value, learn in ((0, 1.0, True), (60_000, 4.0, False), (180_000, 10.0, True)):
            state = random_state(layout, 1, 0, [EPOCH_MS + t])
            state.memory_UD.fill_(value)
            store.push(ids(3), state, learn)
        rows = store.pull(ids(3), True).transitions
        assert rows is not None
        assert rows.num_observed_U.tolist() == [1]
        assert rows.rate_UD.tolist() == [[3.0] * dim]  # (10 - 4) in two units of time

    @pytest.mark.parametrize("clock", ["time", "log", "event"])
    def test_transitions_that_do_not_count(self, layout: Layout, clock: ClockKind) -> None:
        store = self.make_store(replace(layout, clock=clock))
        state = random_state(layout, 3, 0, [EPOCH_MS, EPOCH_MS, NEVER])
        store.observe(ids(0, 1, 2), state.memory_UD, state.last_update_U)
        store.push(ids(0, 1, 2), state, learn=True)
        assert self.observed(store, layout) == [0] * 7  # never written before
        later = random_state(layout, 3, 1, [EPOCH_MS, EPOCH_MS + 1, EPOCH_MS + 1])
        store.observe(ids(0, 1, 2), later.memory_UD, later.last_update_U)
        assert self.observed(store, layout) == [0, 1, 0, 0, 0, 0, 0]  # length 0; moved; unwritten
        store.push(ids(0, 1, 2), later, learn=True)
        assert self.observed(store, layout) == [0, 2, 0, 0, 0, 0, 0]
        rows = store.pull(ids(0, 2), True).transitions
        assert rows is not None
        assert not rows.rate_UD.any()
        assert rows.rate_UD.isfinite().all()

    def test_observe_writes_no_memory(self, layout: Layout) -> None:
        store, untouched = self.written(layout), self.written(layout)
        state = random_state(layout, 2, 8, [EPOCH_MS * 2] * 2)
        store.observe(ids(6, 0), state.memory_UD, state.last_update_U)
        assert_same_rows(store.pull(layout.everyone).state, untouched.pull(layout.everyone).state)
        before, after = self.observed(untouched, layout), self.observed(store, layout)
        assert [b - a for a, b in zip(before, after, strict=True)] == [1, 0, 0, 0, 0, 0, 1]

    def test_positive_and_negative_transitions_are_apart(self, layout: Layout) -> None:
        store, dim = self.make_store(replace(layout, clock="event")), layout.dim
        state = random_state(layout, 1, 0, [EPOCH_MS])
        state.memory_UD.zero_()
        state.mail_count_U.fill_(1)
        store.push(ids(0), state, learn=True)
        for step in (1, 2, 3):
            store.observe(ids(0), torch.full((1, dim), -6.0 * step), ids(EPOCH_MS + step))
        state = replace(state, memory_UD=torch.full((1, dim), 2.0), last_update_U=ids(EPOCH_MS + 9))
        store.push(ids(0), state, learn=True)
        rows = store.pull(ids(0), True).transitions
        assert rows is not None
        assert rows.mixture is not None
        assert rows.num_observed_U.tolist() == [4]
        assert rows.mixture.weight_UC.tolist() == [[0.25, 0.75]]
        assert rows.mixture.mean_UCD[0, :, 0].tolist() == [2.0, -12.0]
        assert rows.mixture.variance_UCD[0, :, 0].tolist() == [0.0, 24.0]
        assert rows.rate_UD[0].tolist() == [-8.5] * dim  # (2 - 6 - 12 - 18) / 4

    def test_one_component_takes_no_negatives(self, layout: Layout) -> None:
        single = replace(layout, num_components=1)
        store = self.written(single)
        assert self.observed(store, single) == [1] * 7
        rows = store.pull(ids(0), True).transitions
        assert rows is not None
        assert rows.mixture is not None
        assert rows.mixture.weight_UC.tolist() == [[1.0]]

    # ------------------------------------------------- reset and state

    def test_reset_forgets_everything(self, layout: Layout) -> None:
        store = self.written(layout)
        assert store.pull(layout.everyone).state.memory_UD.any()
        assert all(self.observed(store, layout))
        store.reset()
        assert_same_store(store, self.make_store(layout), layout)

    @pytest.mark.parametrize("num_components", [0, 1, 2])
    def test_state_dict_restores_every_bit(self, layout: Layout, num_components: int) -> None:
        layout = replace(layout, num_components=num_components)
        store, other = self.written(layout), self.written(layout, seed=40)
        other.load_state_dict(through_a_file(store.state_dict()))
        assert_same_store(other, store, layout)
        # Both go on in the same way: nothing that matters later was left out.
        state = random_state(layout, 3, 70, [EPOCH_MS * 2 + node for node in range(3)])
        for each in (store, other):
            each.observe(ids(1, 5, 0), state.memory_UD, state.last_update_U)
            each.push(ids(1, 5, 0), state, learn=True)
        assert_same_store(other, store, layout)

    def test_a_loaded_store_shares_nothing_with_its_model(self, layout: Layout) -> None:
        store, other = self.written(layout), self.make_store(layout)
        other.load_state_dict(store.state_dict())
        store.reset()
        assert_same_store(other, self.written(layout), layout)

    def test_an_empty_store_can_be_saved(self, layout: Layout) -> None:
        store = self.written(layout)
        store.load_state_dict(through_a_file(self.make_store(layout).state_dict()))
        assert_same_store(store, self.make_store(layout), layout)

    # -------------------------------------------------- random programs

    @program_settings
    @random_programs
    def test_random_programs_against_a_dict(
        self, layout: Layout, verbs: list[str], data: st.DataObject
    ) -> None:
        self.run_program(layout, verbs, data)

    def run_program(self, layout: Layout, verbs: list[str], data: st.DataObject) -> None:
        store, reference = self.make_store(layout), Reference(layout)
        everyone = list(range(layout.num_nodes))
        for verb in verbs:
            if verb == "reset":
                store.reset()
                reference.reset()
                continue
            if verb == "reload":
                saved = through_a_file(store.state_dict())
                store = self.make_store(layout)
                store.load_state_dict(saved)
                continue
            nodes = data.draw(st.lists(st.sampled_from(everyone), unique=True), label=verb)
            if verb == "pull":
                assert_like_reference(store, reference, nodes)
                continue
            state = random_state(
                layout, len(nodes), data.draw(SEEDS), next_times(reference, nodes, data)
            )
            if verb == "observe":
                store.observe(ids(*nodes), state.memory_UD, state.last_update_U)
                reference.observe(nodes, state.memory_UD, state.last_update_U)
            else:
                store.push(ids(*nodes), state, learn=verb == "learn")
                reference.push(nodes, state, learn=verb == "learn")
        assert_like_reference(store, reference, everyone)


def next_times(reference: Reference, nodes: list[int], data: st.DataObject) -> list[int]:
    """A time for each node, not before its last; a node may stay never updated."""
    times = []
    for node in nodes:
        last, gap = int(reference.row(node)["last_update_U"]), data.draw(GAPS)
        if last == NEVER:
            times.append(EPOCH_MS + gap if gap else NEVER)
        else:
            times.append(last + gap)
    return times


def through_a_file(state: dict[str, object]) -> dict[str, object]:
    """As a checkpoint would: only tensors and plain containers survive."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded
