"""Number, contents and order of the exchanges between workers of a sharded store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from pres_dist.memory.placement import Placement
from pres_dist.memory.sharded import ShardedStore
from pres_dist.memory.state import (
    NodeState,
    Pulled,
)
from tests.support.gloo_world import COLLECTIVE_S, GlooWorld, Worker
from tests.support.nightly import nightly_except
from tests.support.store_of_all import TablePlacement, make_store, shard_of
from tests.support.store_rows import EPOCH_MS, FIELDS, Layout, assert_same_store, ids, random_state
from tests.support.store_scenarios import copied

WORLDS = nightly_except([1, 3], [1, 2, 3, 4])


# ------------------------------------------------------------- traffic


@dataclass
class ExchangeCounter:
    """Counts all collectives of this module, and the bytes that they send."""

    count: int = 0
    num_bytes: int = 0

    def __call__(self, received: Tensor, sent: Tensor, *sizes: Any, **options: Any) -> None:
        self.count += 1
        self.num_bytes += sent.numel() * sent.element_size()
        self.exchange(received, sent, *sizes, **options)

    exchange = staticmethod(dist.all_to_all_single)


def counted(verb: Callable[[], Any]) -> tuple[int, int]:
    """Exchanges that a verb takes, and the bytes that this worker sends in them."""
    counter = ExchangeCounter()
    with mock.patch.object(dist, "all_to_all_single", counter):
        verb()
    return counter.count, counter.num_bytes


def count_exchanges(worker: Worker) -> dict[str, int]:
    store = make_store(worker, Layout())
    nodes = ids(0, 1, 4) if worker.rank else ids(2)
    state, everything = store.pull(nodes).state, nodes >= 0
    verbs = {
        "pull": lambda: store.pull(nodes.flip(0)),
        "push": lambda: store.push(nodes, state, learn=True),
        "observe": lambda: store.observe(nodes, state.memory_UD, state.last_update_U),
        "announcing pull": lambda: store.pull(nodes, everything, everything),
        "announced push": lambda: store.push(nodes, state, learn=True),
        "announced observe": lambda: store.observe(nodes, state.memory_UD, state.last_update_U),
        "next push": lambda: store.push(nodes, state, learn=True),
    }
    return {name: counted(verb)[0] for name, verb in verbs.items()}


def test_number_of_exchanges(gloo: GlooWorld) -> None:
    """At most two a pull; one a push that a pull has announced."""
    zero, one = gloo.run(2, count_exchanges)
    assert zero == one
    assert zero == {
        "pull": 2,
        "push": 2,
        "observe": 2,
        "announcing pull": 2,
        "announced push": 1,
        "announced observe": 1,
        "next push": 2,
    }


def measure_traffic(worker: Worker) -> dict[str, tuple[int, ...]]:
    store = make_store(worker, Layout(num_nodes=7, dim=3, num_slots=1))
    nodes = ids(0, 1, 2, 4) if worker.rank == 0 else ids()
    state = store.pull(nodes, writes_U=nodes >= 0).state
    store.push(nodes, state, learn=True)
    store.observe(nodes[:1], state.memory_UD[:1], state.last_update_U[:1])
    seen = {verb: tuple(vars(volume).values()) for verb, volume in vars(store.traffic).items()}
    store.traffic.reset()
    assert not any(any(vars(volume).values()) for volume in vars(store.traffic).values())
    return seen


def test_traffic_counts_rows_and_bytes(gloo: GlooWorld) -> None:
    """Rows as they are; ids with the header and the empty places of their block."""
    asked, silent = gloo.run(2, measure_traffic)
    block = 8 * (6 + 64)
    row = 3 * 4 + 8 + 3 * 4 + 8 + 8  # memory, time, message, event, count
    pulled = row + 8 + 3 * 4 + 4  # and transitions: count, rate; rows end on 8 bytes
    assert asked["pull"] == (3, 1, block + 3 * pulled, block + pulled)
    assert asked["push"] == (3, 1, 3 * row, row)
    assert asked["observe"] == (1, 0, block + 12 + 8 + 4, block)
    assert silent == {
        "pull": (0, 0, block, block),
        "push": (0, 0, 0, 0),
        "observe": (0, 0, block, block),
    }


def sent_and_counted(worker: Worker) -> list[tuple[int, int]]:
    """Bytes that a push really sends to all, and those that it counts."""
    store, seen = make_store(worker, Layout(num_nodes=500)), []
    for nodes in (ids(1, 3, 8), torch.arange(300), ids()):
        state = random_state(Layout(), len(nodes), 1, [EPOCH_MS] * len(nodes))
        store.traffic.reset()
        _, sent = counted(lambda n=nodes, s=state: store.push(n, s, learn=False))
        volume = store.traffic.push
        seen.append((sent, volume.local_bytes + volume.remote_bytes))
    return seen


def test_all_bytes_that_are_sent_are_counted(gloo: GlooWorld) -> None:
    for worker in gloo.run(3, sent_and_counted):
        assert [sent for sent, _ in worker] == [counted for _, counted in worker]
        assert worker[1][0] > worker[0][0] > 0


# -------------------------------------------------- room, announcements


def pull_growing(worker: Worker, world: int) -> list[tuple[int, int]]:
    """Exchanges of pulls that need ever more room, and whether the rows were right."""
    num_nodes, seen = 2000, []
    # All rows are with the last worker: the largest skew there is.
    placement = TablePlacement(torch.full((num_nodes,), world - 1), world)
    store = make_store(worker, Layout(num_nodes=num_nodes, dim=1), placement)
    everyone = torch.arange(num_nodes if worker.rank == 0 else 0)
    state = random_state(Layout(dim=1), len(everyone), 0, [EPOCH_MS] * len(everyone))
    state.memory_UD[:, 0] = everyone
    store.push(everyone, state, learn=False)
    store = ShardedStore(store.shard, placement, worker.group)
    # Only one worker has the large request, another one each time.
    for turn, num in enumerate((0, 3, 64, 65, 70, 0, 200, 1500, 1500, 2000)):
        mine = num if turn % world == worker.rank else min(num, 1)
        nodes = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(turn))[:mine]
        pulled: list[Pulled] = []
        exchanges, _ = counted(lambda n=nodes, p=pulled: p.append(store.pull(n)))
        seen.append((exchanges, int(torch.equal(pulled[0].state.memory_UD[:, 0], nodes.float()))))
    return seen


@pytest.mark.parametrize("world", WORLDS)
def test_blocks_grow_for_all_when_one_worker_needs_more_room(gloo: GlooWorld, world: int) -> None:
    for worker in gloo.run(world, pull_growing, world):
        assert [right for _, right in worker] == [1] * 10
        assert [exchanges for exchanges, _ in worker] == [2, 2, 2, 3, 2, 2, 3, 3, 2, 3]


def push_in_order_of_pulls(worker: Worker) -> bool:
    """Three pulls are under way before the first push; rows of each must be told apart."""
    store, one = make_store(worker, Layout(num_nodes=40)), make_store(worker, Layout(num_nodes=40))
    requests = []
    for step in range(3):
        random = torch.Generator().manual_seed(10 * step + worker.rank)
        nodes = torch.randperm(40, generator=random)[: 5 * step + 3 * worker.rank]
        writes = torch.rand(len(nodes), generator=random) < 0.5
        observes = torch.rand(len(nodes), generator=random) < 0.5
        store.pull(nodes, writes_U=writes, observes_U=observes)
        requests.append((nodes[writes], nodes[observes]))
    for step, (written, observed) in enumerate(requests):
        t = EPOCH_MS + 60_000 * step
        state = random_state(Layout(), len(written), step, [t] * len(written))
        other = random_state(Layout(), len(observed), step + 7, [t + 60_000] * len(observed))
        for each in (store, one):  # announced, and not
            each.observe(observed, other.memory_UD, other.last_update_U)
            each.push(written, state, learn=True)
    assert_same_store(store, one, Layout(num_nodes=40))
    return bool(store.pull(torch.arange(40)).state.memory_UD.any())


@pytest.mark.parametrize("world", WORLDS)
def test_pushes_follow_the_order_of_their_pulls(gloo: GlooWorld, world: int) -> None:
    assert all(gloo.run(world, push_in_order_of_pulls))


def errors_of_delivering(worker: Worker) -> list[str]:
    store, layout, texts = make_store(worker, Layout()), Layout(), []
    nodes = ids(1, 4, 6)
    store.pull(nodes, ids(1, 0, 1) > 0, ids(0, 0, 1) > 0)
    for wrong in (ids(1, 4), ids(6, 1), ids(1), ids(1, 4, 6)):
        state = random_state(layout, len(wrong), 0, [EPOCH_MS] * len(wrong))
        with pytest.raises(ValueError, match="announced") as caught:
            store.push(wrong, state, learn=False)
        texts.append(str(caught.value))
    with pytest.raises(ValueError, match="announced"):
        store.observe(ids(1), torch.zeros(1, 3), ids(EPOCH_MS))
    state = random_state(layout, 2, 0, [EPOCH_MS] * 2)
    store.push(ids(1, 6), state, learn=False)
    assert torch.equal(store.pull(ids(1, 6)).state.memory_UD, state.memory_UD)
    return texts


def test_other_rows_than_those_announced_are_refused(gloo: GlooWorld) -> None:
    texts, _ = gloo.run(2, errors_of_delivering)
    assert "2 nodes" in texts[2]
    assert "got 1" in texts[2]


def announce_alone(worker: Worker) -> str:
    store, nodes = make_store(worker, Layout()), ids(2, 5)
    with pytest.raises(ValueError, match="all workers") as caught:
        store.pull(nodes, writes_U=nodes > 2 if worker.rank == 1 else None)
    store.push(nodes, store.pull(nodes).state, learn=False)  # and all can go on
    return str(caught.value)


def test_workers_that_announce_differently_all_raise(gloo: GlooWorld) -> None:
    zero, *others = gloo.run(3, announce_alone)
    assert "[0, 1, 0]" in zero
    assert others == [zero, zero]


def forget(worker: Worker) -> list[int]:
    """Exchanges of a push after each way to start afresh: none is announced any more."""
    store, nodes, seen = make_store(worker, Layout()), ids(2, 5), []
    saved = copied(store.state_dict())
    for afresh in (store.reset, lambda: store.load_state_dict(saved)):
        state = store.pull(nodes, nodes > 2, nodes > 2).state
        afresh()
        verbs = (
            lambda s=state: store.push(nodes, s, learn=True),
            lambda s=state: store.observe(nodes, s.memory_UD, s.last_update_U),
        )
        seen += [counted(verb)[0] for verb in verbs]
    return seen


def test_reset_and_load_forget_what_was_announced(gloo: GlooWorld) -> None:
    assert gloo.run(2, forget) == [[2, 2, 2, 2]] * 2


def without_observations(worker: Worker) -> int:
    """A store that takes no observations has nothing to announce."""
    store, nodes = make_store(worker, Layout(num_components=1)), ids(2, 5)
    pulled = store.pull(nodes, nodes > 2, nodes > 2)
    exchanges, _ = counted(
        lambda: store.observe(nodes, pulled.state.memory_UD, pulled.state.last_update_U)
    )
    return exchanges


def test_observations_that_nobody_takes_cost_nothing(gloo: GlooWorld) -> None:
    assert gloo.run(2, without_observations) == [0, 0]


# ------------------------------------------------- threads and groups


def pull_in_the_background(worker: Worker) -> int:
    """Pulls on a thread, over a group of the store's own, while this one reduces."""
    group = dist.new_group(list(range(worker.world)))
    placement = Placement(300, worker.world)
    layout = Layout(num_nodes=300)
    store = ShardedStore(shard_of(placement, worker.rank, layout), placement, group)
    everyone = torch.arange(300)
    state = random_state(layout, 300, 1, [EPOCH_MS] * 300)
    store.push(everyone, state, learn=False)
    right = 0
    with ThreadPoolExecutor(1) as thread:
        for step in range(30):
            nodes = torch.randperm(300)[: 10 * step]
            pull = thread.submit(store.pull, nodes, writes_U=nodes % 2 == 0)
            total = torch.ones(1000)
            for _ in range(3):
                dist.all_reduce(total)  # the default group
            pulled = pull.result(COLLECTIVE_S).state
            written = nodes[nodes % 2 == 0]
            rows = NodeState(**{name: getattr(pulled, name)[nodes % 2 == 0] for name in FIELDS})
            store.push(written, rows, learn=False)
            right += torch.equal(pulled.memory_UD, state.memory_UD[nodes])
            right += bool((total == worker.world**3).all())
    return right


def test_pulls_on_a_thread_beside_collectives_of_another_group(tmp_path: Path) -> None:
    # Workers of its own: the default group is the world's, of all of them.
    with GlooWorld(2, tmp_path) as world:
        assert world.run(2, pull_in_the_background) == [60, 60]
