"""The contract of every memory store, as tests. A new store is only made::

    class TestMyStore(StoreContract):
        def make_store(self, layout):
            return MyStore(...)

Everything is observed through the protocol (`MemoryStore`), and compared with a
plain dict of numpy rows (`Reference`).

Shapes: N nodes, U nodes of a request, D memory size, R mailbox slots, C components.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pres_dist.memory.state import NEVER, NO_EVENT, MemoryStore, NodeState
from pres_dist.pres.clock import ClockKind
from tests.memory.contract_mail import MailContract
from tests.memory.store_reference import Reference, assert_like_reference
from tests.support.nightly import drawn
from tests.support.store_rows import (
    EPOCH_MS,
    FIELDS,
    Layout,
    assert_same_rows,
    assert_same_store,
    assert_same_transitions,
    ids,
    random_state,
    through_a_file,
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
program_settings = settings(
    max_examples=drawn(80), suppress_health_check=[HealthCheck.differing_executors]
)
random_programs = given(
    layout=LAYOUTS, verbs=st.lists(VERBS, min_size=2, max_size=14), data=st.data()
)


class StoreContract(MailContract):
    """Tests of a store; subclasses say how it is made."""

    # ------------------------------------------------------ pull

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
        rows = store.pull(ids(4, 0)).transitions
        assert rows is not None
        assert rows.num_observed_U.tolist() == [0, 0]
        assert not rows.rate_UD.any()

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
            rows = store.pull(ids(1)).transitions
            assert rows is not None
            assert rows.num_observed_U.dtype == torch.int64
            assert rows.rate_UD.dtype == torch.float32

    def test_rows_come_in_the_order_of_the_request(self, layout: Layout) -> None:
        store = self.written(layout)
        whole, order = store.pull(layout.everyone).state, ids(5, 0, 6, 2)
        some = store.pull(order).state
        for name in FIELDS:
            assert torch.equal(getattr(some, name), getattr(whole, name)[order])
        whole_rows = store.pull(layout.everyone).transitions
        rows = store.pull(order).transitions
        assert rows is not None
        assert whole_rows is not None
        assert torch.equal(rows.rate_UD, whole_rows.rate_UD[order])

    def test_nobody_can_be_asked_for_and_written(self, layout: Layout) -> None:
        store, untouched = self.written(layout), self.written(layout)
        nobody = store.pull(ids()).state
        assert nobody.memory_UD.shape == (0, layout.dim)
        assert nobody.mail_memory_URD.shape == (0, layout.num_slots, layout.dim)
        rows = store.pull(ids()).transitions
        assert rows is not None
        assert rows.rate_UD.shape == (0, layout.dim)
        store.push(ids(), nobody, learn=True)
        store.observe(ids(), nobody.memory_UD, nobody.last_update_U)
        assert_same_store(store, untouched, layout)

    def test_pull_returns_copies(self, layout: Layout) -> None:
        store, untouched = self.written(layout), self.written(layout)
        pulled = [store.pull(nodes).state for nodes in (layout.everyone, ids(3))]
        rows = store.pull(layout.everyone).transitions
        assert rows is not None
        tensors = [getattr(state, name) for state in pulled for name in FIELDS]
        tensors += [rows.num_observed_U, rows.rate_UD]
        for tensor in tensors:
            tensor.fill_(77)
        assert_same_store(store, untouched, layout)

    def test_later_writes_do_not_reach_what_was_pulled(self, layout: Layout) -> None:
        store = self.written(layout)
        pulled = store.pull(layout.everyone)
        expected = self.written(layout).pull(layout.everyone)
        later = [EPOCH_MS * 2] * layout.num_nodes
        state = random_state(layout, layout.num_nodes, 9, later)
        store.push(layout.everyone, state, learn=True)
        store.observe(layout.everyone, state.memory_UD, state.last_update_U + 5)
        store.reset()
        assert_same_rows(pulled.state, expected.state)
        assert_same_transitions(pulled.transitions, expected.transitions)

    def test_without_statistics(self, layout: Layout) -> None:
        bare = replace(layout, num_components=0)
        store = self.written(bare)
        assert store.pull(layout.everyone).transitions is None
        assert store.pull(layout.everyone).transitions is None
        assert_same_rows(
            store.pull(layout.everyone).state, self.written(layout).pull(layout.everyone).state
        )

    # ------------------------------------------------------ push

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

    # ------------------------------------------------ statistics

    def observed(self, store: MemoryStore, layout: Layout) -> list[int]:
        rows = store.pull(layout.everyone).transitions
        assert rows is not None
        counts: list[int] = rows.num_observed_U.tolist()
        return counts

    def test_statistics_grow_only_by_what_is_learned(self, layout: Layout) -> None:
        store = self.make_store(layout)
        for step, learn in enumerate([True, False, True, False, True]):
            state = random_state(layout, 2, step, [EPOCH_MS + 100 * step] * 2)
            store.push(ids(5, 2), state, learn)
        # The first had no state to start from, the second and fourth were not learned.
        assert self.observed(store, layout) == [0, 0, 2, 0, 0, 2, 0]

    def test_a_transition_runs_from_the_stored_state(self, layout: Layout) -> None:
        """Also when that was written without learning (evaluation, then training again)."""
        store, dim = self.make_store(replace(layout, clock="time")), layout.dim
        for t, value, learn in ((0, 1.0, True), (60_000, 4.0, False), (180_000, 10.0, True)):
            state = random_state(layout, 1, 0, [EPOCH_MS + t])
            state.memory_UD.fill_(value)
            store.push(ids(3), state, learn)
        rows = store.pull(ids(3)).transitions
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
        rows = store.pull(ids(0, 2)).transitions
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
        rows = store.pull(ids(0)).transitions
        assert rows is not None
        assert rows.num_observed_U.tolist() == [4]
        assert rows.rate_UD[0].tolist() == [-8.5] * dim  # (2 - 6 - 12 - 18) / 4

    def test_one_component_takes_no_negatives(self, layout: Layout) -> None:
        single = replace(layout, num_components=1)
        store = self.written(single)
        assert self.observed(store, single) == [1] * 7

    # ------------------------------------------- reset and state

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

    # ------------------------------------------- random programs

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
