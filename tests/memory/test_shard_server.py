"""A memory shard under duplicates, reordering and delay, against a store fed in order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.errors import StoreError
from pres_dist.memory.local import LocalStore
from pres_dist.memory.merge import first_of_each, merge_rows
from pres_dist.memory.shard_layout import Kind
from pres_dist.memory.shard_server import MAX_AHEAD, Part, ShardServer
from pres_dist.memory.state import NodeState
from tests.memory.store_contract import LAYOUTS
from tests.support.nightly import drawn
from tests.support.store_rows import (
    Layout,
    assert_same_rows,
    assert_same_transitions,
    ids,
    random_state,
)

INCARNATION = 17
T = 1_700_000_000_000


@dataclass(frozen=True)
class Write:
    """The parts of all workers of one write."""

    parts: list[Part]

    @property
    def rows(self) -> torch.Tensor:
        return torch.cat([part.rows_X for part in self.parts])

    def columns(self) -> list[torch.Tensor]:
        return [torch.cat(c) for c in zip(*(part.columns for part in self.parts), strict=True)]


def random_write(layout: Layout, world: int, number: int, random: Random, seen: int) -> Write:
    """Rows of a time slice for each worker; workers meet at some of them."""
    kinds = [Kind.PUSH] * 3 + [Kind.OBSERVE] * 2 + [Kind.RESET]
    kind, learn = random.choice(kinds), random.random() < 0.7
    parts = []
    for worker in range(world):
        if kind is Kind.RESET:
            parts.append(Part(kind, ids()))
            continue
        num = random.randint(0, layout.num_nodes)
        rows = ids(*random.sample(range(layout.num_nodes), num))
        times = [T + 60_000 * number] * num
        state = random_state(layout, num, 1000 * number + worker, times)
        if kind is Kind.OBSERVE:
            parts.append(Part(kind, rows, [state.memory_UD, state.last_update_U]))
        else:
            parts.append(Part(kind, rows, [*vars(state).values()], learn, seen))
    return Write(parts)


def apply_in_order(store: LocalStore, write: Write) -> None:
    """Apply a write as one worker with the whole temporal batch does."""
    first = write.parts[0]
    if first.kind is Kind.RESET:
        store.reset()
    elif first.kind is Kind.OBSERVE:
        rows_P, first = first_of_each(write.rows, *write.columns())
        store.observe(rows_P, *first)
    else:
        rows_P, state = merge_rows(write.rows, NodeState(*write.columns()))
        store.push(rows_P, state, first.learn, first.seen)


def make_local(layout: Layout) -> LocalStore:
    return LocalStore(layout.num_nodes, layout.dim, layout.num_slots, layout.statistics())


def make_server(layout: Layout, world: int = 2, timeout_s: float = 5.0) -> ShardServer:
    return ShardServer(make_local(layout), world, INCARNATION, timeout_s)


def assert_same_stores(one: LocalStore, other: LocalStore, layout: Layout) -> None:
    pulled = [store.pull(layout.everyone) for store in (one, other)]
    assert_same_rows(pulled[0].state, pulled[1].state)
    assert_same_transitions(pulled[0].transitions, pulled[1].transitions)
    assert pulled[0].version == pulled[1].version


def writes_of(layout: Layout, world: int, num: int, random: Random) -> list[Write]:
    """Some of them with a version that later pushes have overtaken."""
    writes, version = [], 0
    for number in range(num):
        write = random_write(layout, world, number, random, max(version - random.randint(0, 2), 0))
        kind = write.parts[0].kind
        version = 0 if kind is Kind.RESET else version + (kind is Kind.PUSH)
        writes.append(write)
    return writes


@settings(max_examples=drawn(150, 3))
@given(
    layout=LAYOUTS,
    world=st.integers(1, 4),
    num=st.integers(1, 8),
    random=st.randoms(use_true_random=False),
)
def test_any_order_of_arrival_gives_the_same_state(
    layout: Layout, world: int, num: int, random: Random
) -> None:
    writes, server, oracle = (
        writes_of(layout, world, num, random),
        make_server(layout, world),
        make_local(layout),
    )
    arrivals = [(number, worker) for number in range(num) for worker in range(world)]
    again = random.choices(arrivals, k=random.randint(0, 5))
    arrivals += again
    random.shuffle(arrivals)
    applied = 0
    for number, worker in arrivals:
        server.write(worker, number, INCARNATION, writes[number].parts[worker])
        while applied < server.num_writes:
            apply_in_order(oracle, writes[applied])
            applied += 1
        assert_same_stores(server.shard, oracle, layout)
    assert server.num_writes == num
    assert server.num_duplicates == len(again)


@settings(max_examples=25)
@given(layout=LAYOUTS, world=st.integers(1, 4), random=st.randoms(use_true_random=False))
def test_workers_in_threads_read_what_they_must(layout: Layout, world: int, random: Random) -> None:
    """Each writes and reads in its own time; what it reads is the state after its write."""
    num = 6
    writes, server, oracle = (
        writes_of(layout, world, num, random),
        make_server(layout, world),
        make_local(layout),
    )
    expected = []
    for write in writes:
        apply_in_order(oracle, write)
        expected.append(oracle.pull(layout.everyone))

    def work(worker: int) -> None:
        for number, write in enumerate(writes):
            server.write(worker, number, INCARNATION, write.parts[worker])
            pulled = server.pull(number + 1, INCARNATION, layout.everyone)
            assert_same_rows(pulled.state, expected[number].state)
            assert_same_transitions(pulled.transitions, expected[number].transitions)
            assert pulled.version == expected[number].version

    with ThreadPoolExecutor(world) as pool:
        for done in [pool.submit(work, worker) for worker in range(world)]:
            done.result(20)


# ------------------------------------------------------------------- refusals


def push_of(layout: Layout, rows: torch.Tensor, learn: bool = True) -> Part:
    state = random_state(layout, len(rows), 1, [T] * len(rows))
    return Part(Kind.PUSH, rows, [*vars(state).values()], learn)


def test_requests_of_another_incarnation_are_refused_and_change_nothing() -> None:
    layout = Layout()
    server = make_server(layout, world=1)
    calls: list[Callable[[], object]] = [
        lambda: server.write(0, 0, INCARNATION - 1, push_of(layout, ids(1))),
        lambda: server.pull(0, INCARNATION + 1, ids(1)),
        lambda: server.dump(0, INCARNATION + 1, ids(1)),
    ]
    for call in calls:
        with pytest.raises(
            StoreError, match=f"incarnation {INCARNATION} of the shard, got one for"
        ):
            call()
    assert_same_stores(server.shard, make_local(layout), layout)
    server.write(0, 0, INCARNATION, push_of(layout, ids(1)))
    assert server.pull(1, INCARNATION, ids(1)).version == 1


def test_a_worker_cannot_run_away() -> None:
    layout = Layout()
    server = make_server(layout)
    for number in range(MAX_AHEAD):
        server.write(0, number, INCARNATION, push_of(layout, ids(0)))
    with pytest.raises(StoreError, match=f"at most {MAX_AHEAD} writes ahead .* got write 64"):
        server.write(0, MAX_AHEAD, INCARNATION, push_of(layout, ids(0)))
    server.write(1, 0, INCARNATION, push_of(layout, ids(1)))
    server.write(0, MAX_AHEAD, INCARNATION, push_of(layout, ids(0)))
    assert server.num_writes == 1


def test_a_read_gives_up_and_names_who_is_late() -> None:
    layout = Layout()
    server = make_server(layout, world=3, timeout_s=0.05)
    server.write(1, 0, INCARNATION, push_of(layout, ids(0)))
    text = r"needs 1 writes, and 0 have happened: workers \[0, 2\] have not .* 0\.05 s"
    with pytest.raises(StoreError, match=text):
        server.pull(1, INCARNATION, ids(0))
    assert server.pull(0, INCARNATION, ids(0)).version == 0


def test_a_read_does_not_wait_for_a_worker_that_left() -> None:
    layout = Layout()
    server = make_server(layout, timeout_s=60.0)
    server.write(0, 0, INCARNATION, push_of(layout, ids(0)))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.pull, 1, INCARNATION, ids(0))
        server.leave(1)
        with pytest.raises(StoreError, match=r"workers \[1\] have left without making the next"):
            waiting.result(10)


def test_a_worker_that_left_after_its_part_is_not_missed() -> None:
    layout = Layout()
    server = make_server(layout)
    server.write(1, 0, INCARNATION, push_of(layout, ids(0)))
    server.leave(1)
    server.write(0, 0, INCARNATION, push_of(layout, ids(2)))
    assert server.pull(1, INCARNATION, ids(0)).version == 1


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (push_of(Layout(), ids(0), learn=False), "all workers must make the same writes"),
        (Part(Kind.RESET, ids()), "all workers must make the same writes"),
        (push_of(Layout(), ids(7)), "write 0 failed: .*"),
    ],
)
def test_a_write_that_fails_ends_all_use_of_the_shard(second: Part, text: str) -> None:
    """Rows may be written in part: nobody reads them, nobody writes more."""
    layout = Layout()
    server = make_server(layout)
    server.write(0, 0, INCARNATION, push_of(layout, ids(0)))
    with pytest.raises(StoreError, match=text):
        server.write(1, 0, INCARNATION, second)
    for call in (
        lambda: server.pull(0, INCARNATION, ids(0)),
        lambda: server.write(0, 1, INCARNATION, push_of(layout, ids(0))),
    ):
        with pytest.raises(StoreError, match=text):
            call()
    assert server.num_writes == 0
