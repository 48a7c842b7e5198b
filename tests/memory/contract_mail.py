"""The contract of memory stores about mail, as tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pres_dist.memory.state import NO_EVENT, MemoryStore
from tests.support.store_rows import (
    EPOCH_MS,
    Layout,
    assert_same_rows,
    assert_same_store,
    ids,
    mail_in,
    mail_of,
    random_state,
    replace_rows,
    through_a_file,
    without_mail,
)


class ContractBase:
    """Base of the tests of a store; subclasses make it."""

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


class MailContract(ContractBase):
    """Mail that is unread, reads that announce writes, mailboxes that roll."""

    # ------------------------------------------------- staleness

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

    # --------------------------------------------- announcements

    def test_what_a_pull_announces_changes_nothing_but_the_way(self, layout: Layout) -> None:
        """Two pulls under way at once, then a push that none has announced."""
        store, plain = self.written(layout), self.written(layout)
        random, pulls = np.random.default_rng(3), []
        for nodes in (ids(6, 0, 3, 5), ids(1, 0, 6, 2, 4), ids()):
            writes, observes = (
                torch.from_numpy(random.random(nodes.numel()) < 0.6) for _ in range(2)
            )
            pulled = store.pull(nodes, writes, observes)
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
        store.pull(nodes, nodes > 1, nodes > 1)
        store.reset() if afresh == "reset" else store.load_state_dict(saved)
        state = random_state(layout, 2, 5, [EPOCH_MS * 2] * 2)
        store.observe(nodes, state.memory_UD, state.last_update_U)
        store.push(nodes, state, learn=False)
        assert_same_rows(store.pull(nodes).state, state)

    # --------------------------------------- mailboxes that roll

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
        before = store.pull(layout.everyone, layout.everyone > 3)
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
