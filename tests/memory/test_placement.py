"""Who keeps which node: every placement is a bijection, and the streaming one is worth it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pres_dist.events.stream import EventStream
from pres_dist.memory import partition
from pres_dist.memory.partition import SLACK, streaming_partition
from pres_dist.memory.placement import ModuloPlacement, Placement, TablePlacement, make_placement

WORLDS = [1, 2, 3, 4]


def assert_every_node_has_one_row(placement: Placement) -> None:
    shards = [placement.nodes_of(rank) for rank in range(placement.world)]
    assert sorted(torch.cat(shards).tolist()) == list(range(placement.num_nodes))
    for rank, nodes_S in enumerate(shards):
        assert placement.owner(nodes_S).tolist() == [rank] * len(nodes_S)
        assert placement.row(nodes_S).tolist() == list(range(len(nodes_S)))


@pytest.mark.parametrize("num_nodes", [0, 1, 2, 3, 10, 11])
@pytest.mark.parametrize("world", WORLDS)
def test_every_node_has_one_row(num_nodes: int, world: int) -> None:
    assert_every_node_has_one_row(ModuloPlacement(num_nodes, world))
    random = torch.Generator().manual_seed(num_nodes)
    owner_N = torch.randint(world, (num_nodes,), generator=random)
    assert_every_node_has_one_row(TablePlacement(owner_N, world))


def test_a_table_is_looked_up_in_the_order_asked_for() -> None:
    placement = TablePlacement(torch.tensor([1, 0, 1, 1, 0]), 3)
    asked = torch.tensor([3, 4, 0, 2])
    assert placement.owner(asked).tolist() == [1, 0, 1, 1]
    assert placement.row(asked).tolist() == [2, 1, 0, 1]
    assert placement.nodes_of(2).tolist() == []
    assert placement.owner_N.tolist() == [1, 0, 1, 1, 0]  # the table given is left alone


@pytest.mark.parametrize("stranger", [-1, 5])
def test_a_node_outside_a_table_raises(stranger: int) -> None:
    placement = TablePlacement(torch.tensor([1, 0, 1, 1, 0]), 2)
    with pytest.raises((IndexError, RuntimeError)):
        placement.owner(torch.tensor([stranger]))


@pytest.mark.parametrize("owner", [-1, 2])
def test_an_owner_that_is_no_worker_is_refused(owner: int) -> None:
    with pytest.raises(ValueError, match=f"2 workers, got {owner}"):
        TablePlacement(torch.tensor([0, owner, 1]), 2)


# ---------------------------------------------------------- the partition


def communities(num: int, each: int, num_events: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Events within communities, one in twenty across; ids say nothing of the community."""
    random = np.random.default_rng(seed)
    names = random.permutation(num * each)
    community = random.integers(num, size=num_events)
    other = np.where(
        random.random(num_events) < 0.05, random.integers(num, size=num_events), community
    )
    inner = random.integers(each, size=(2, num_events))
    return names[community * each + inner[0]], names[other * each + inner[1]], names


def cut(src: np.ndarray, dst: np.ndarray, owner_N: np.ndarray) -> float:
    return float((owner_N[src] != owner_N[dst]).mean())


@pytest.mark.parametrize("world", [2, 4])
def test_nodes_that_meet_are_kept_together(world: int) -> None:
    src, dst, names = communities(8, 100, 30_000)
    owner_N = streaming_partition(src, dst, names.size, world)
    dealt = np.arange(names.size) % world
    assert cut(src, dst, dealt) > 0.9 * (1 - 1 / world)
    assert cut(src, dst, owner_N) < 0.2


@settings(max_examples=60)
@given(
    num_nodes=st.integers(1, 300),
    world=st.integers(1, 6),
    num_events=st.integers(0, 600),
    hubs=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_parts_are_balanced_whatever_the_events(
    num_nodes: int, world: int, num_events: int, hubs: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    src, dst = random.integers(num_nodes, size=(2, num_events))
    if hubs:  # all meet the same node, so that all would like to be together
        dst[:] = 0
    owner_N = streaming_partition(src, dst, num_nodes, world)
    assert owner_N.dtype == np.int64
    sizes = np.bincount(owner_N, minlength=world)
    assert sizes.size == world
    assert sizes.sum() == num_nodes
    assert sizes.max() <= max((1 + SLACK) * num_nodes / world, -(-num_nodes // world))


def test_nodes_without_an_event_even_out_the_parts() -> None:
    src, dst, names = communities(3, 50, 4_000)
    for world in (2, 4, 7):
        sizes = np.bincount(streaming_partition(src, dst, 10 * names.size, world))
        assert sizes.max() - sizes.min() <= 1
    # A hash: not all of the neighboring ids are with one worker, nor dealt in turn.
    nobody = np.empty(0, dtype=np.int64)
    owner_N = streaming_partition(nobody, nobody, 1000, 2)
    assert np.bincount(owner_N).tolist() == [500, 500]
    assert 350 < (owner_N[1:] != owner_N[:-1]).sum() < 650


def test_only_a_prefix_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    src, dst, names = communities(4, 30, 2_000)
    monkeypatch.setattr(partition, "PREFIX_EVENTS", 1_000)
    owner_N = streaming_partition(src, dst, names.size, 2)
    assert np.array_equal(owner_N, streaming_partition(src[:1000], dst[:1000], names.size, 2))
    other = np.concatenate([src[:1000], dst[1000:]])
    assert np.array_equal(owner_N, streaming_partition(other, dst, names.size, 2))


# ------------------------------------------------------------- the choice


def stream_of(src: np.ndarray, dst: np.ndarray, num_nodes: int) -> EventStream:
    return EventStream("communities", src, dst, np.arange(src.size), num_nodes)


def test_a_placement_is_made_of_training_events_alone() -> None:
    src, dst, names = communities(4, 30, 3_000)
    stream = stream_of(src, dst, names.size)
    placement = make_placement("streaming", stream, 2_000, 3)
    assert_every_node_has_one_row(placement)
    shuffled = np.random.default_rng(1).permutation(1_000) + 2_000
    later = np.concatenate([np.arange(2_000), shuffled])
    other = stream_of(src, dst[later], names.size)
    assert_same_placement(placement, make_placement("streaming", other, 2_000, 3))


def assert_same_placement(one: Placement, other: Placement) -> None:
    everyone: Tensor = torch.arange(one.num_nodes)
    assert torch.equal(one.owner(everyone), other.owner(everyone))
    assert torch.equal(one.row(everyone), other.row(everyone))


def test_modulo_is_made_without_looking_at_events() -> None:
    src, dst, names = communities(2, 5, 10)
    placement = make_placement("modulo", stream_of(src, dst, names.size), 5, 3)
    assert placement == ModuloPlacement(10, 3)


def test_an_unknown_kind_is_refused() -> None:
    src, dst, names = communities(2, 5, 10)
    with pytest.raises(ValueError, match="modulo or streaming, got 'hash'"):
        make_placement("hash", stream_of(src, dst, names.size), 5, 3)  # type: ignore[arg-type]


_ELSEWHERE = """
import zlib
import numpy as np
from pres_dist.memory.partition import streaming_partition
src, dst = np.random.default_rng(0).zipf(1.3, size=(2, 5_000)) % 400
print(zlib.crc32(streaming_partition(src, dst, 500, 3).tobytes()))
"""


def test_all_processes_come_to_the_same_partition() -> None:
    """Each worker makes it for itself: nothing may depend on the process."""
    answers = {
        subprocess.run(
            [sys.executable, "-c", _ELSEWHERE],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            timeout=60,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1
