"""Memory in checkpoints: written by some workers, read by any others, and nothing else in it."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from pres_dist.errors import CheckpointError
from pres_dist.files import sha256
from pres_dist.memory import saved_metadata
from pres_dist.memory.local import LocalStore
from pres_dist.memory.placement import Placement
from pres_dist.memory.saved import SavedMemory
from pres_dist.memory.state import MemoryStore
from pres_dist.parallel.grid import Grid
from pres_dist.parallel.whole_memory import load_memory, own_memory
from pres_dist.parallel.world import World
from pres_dist.training.checkpoint import Checkpoints
from pres_dist.training.checkpoint_folder import MANIFEST
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.states import assert_same
from tests.support.store_of_all import TablePlacement, make_local, make_store
from tests.support.store_rows import Layout, random_state

LAYOUT = Layout(num_nodes=11, num_slots=2)


@pytest.fixture(scope="module")
def gloo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    with GlooWorld(2, tmp_path_factory.mktemp("gloo")) as world:
        yield world


def filled(seed: int, layout: Layout = LAYOUT) -> LocalStore:
    store = make_local(layout)
    for step in range(3):
        state = random_state(layout, layout.num_nodes, seed + step, [100 * step] * layout.num_nodes)
        store.push(layout.everyone, state, learn=True)
    return store


def world_of(worker: Worker, replicas: int = 1) -> World:
    grid = Grid(worker.rank, worker.world, worker.world // replicas, replicas=replicas)
    return World(grid, worker.group, worker.group)


def part_of(store: MemoryStore, whole: LocalStore) -> None:
    """Give a store the rows of another."""
    nodes_S = store.kept_nodes()
    rows = {
        part: {name: table[nodes_S] for name, table in tables.items()}
        for part, tables in whole.state_dict().items()
    }
    store.load_state_dict(rows)


@contextmanager
def blind(worker: Worker, only: bool) -> Iterator[None]:
    """Let worker 1 see no folder of the others."""
    if only and worker.rank:
        with mock.patch.object(Path, "is_dir", return_value=False):
            yield
    else:
        yield


def save_shards(worker: Worker, run_dir: Path, owners: list[int] | None, blinded: bool) -> None:
    placement = None if owners is None else TablePlacement(torch.tensor(owners), 2)
    store, world = make_store(worker, LAYOUT, placement), world_of(worker)
    part_of(store, filled(5))
    with blind(worker, blinded):
        checkpoints = Checkpoints(run_dir, world=world)
        checkpoints.save(1, {"rank": worker.rank}, own_memory(store, world))
        checkpoints.close()
        checkpoints.wait()


def load_shards(worker: Worker, run_dir: Path, blinded: bool) -> MemoryStore:
    store, world = make_store(worker, LAYOUT, Placement(11, 2)), world_of(worker)
    with blind(worker, blinded):
        newest = world.run_on_rank0(Checkpoints(run_dir).open)
        load_memory(store, newest.memory, world)
    expected = make_store(worker, LAYOUT)
    part_of(expected, filled(5))
    assert_same(expected.state_dict(), store.state_dict())
    assert newest.state == {"rank": 0}
    return True  # type: ignore[return-value]


@pytest.mark.parametrize("owners", [None, [1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1], [1] * 11])
@pytest.mark.parametrize("blinded", [False, True])
def test_any_workers_find_their_rows_again(
    gloo: GlooWorld, tmp_path: Path, owners: list[int] | None, blinded: bool
) -> None:
    """Written by two, whoever keeps what, whether or not both see the folder."""
    gloo.run(2, save_shards, tmp_path, owners, blinded)
    alone = make_local(LAYOUT)
    load_memory(alone, Checkpoints(tmp_path).open().memory, World())
    assert_same(filled(5).state_dict(), alone.state_dict())
    assert gloo.run(2, load_shards, tmp_path, blinded) == [True, True]
    files = {path.name for path in (tmp_path / "checkpoints/step-00000001/memory").iterdir()}
    assert files == {".metadata", "__0_0.distcp"} | (set() if blinded else {"__1_0.distcp"})


def save_replicas(worker: Worker, run_dir: Path) -> list[Any]:
    """A local store in each of two replicas; the state that each loads again."""
    store, world = filled(5 + worker.rank), world_of(worker, replicas=2)
    checkpoints = Checkpoints(run_dir, world=world)
    checkpoints.save(1, {}, own_memory(store, world))
    checkpoints.close()
    again = make_local(LAYOUT)
    load_memory(again, world.run_on_rank0(checkpoints.open).memory, world)
    assert_same(filled(5 + worker.rank).state_dict(), again.state_dict())
    return [True]


def test_each_replica_finds_its_own_memory(gloo: GlooWorld, tmp_path: Path) -> None:
    assert gloo.run(2, save_replicas, tmp_path) == [[True], [True]]
    saved, alone = Checkpoints(tmp_path).open().memory, make_local(LAYOUT)
    load_memory(alone, saved, World())  # what training left is the last one's
    assert_same(filled(6).state_dict(), alone.state_dict())
    with pytest.raises(CheckpointError, match="must hold 3 memory replicas, got 2"):
        load_memory(alone, saved, World(Grid(0, 3, 1, replicas=3)))


def fail_at_worker_1(worker: Worker, run_dir: Path) -> str:
    store, world = make_store(worker, LAYOUT), world_of(worker)
    checkpoints = Checkpoints(run_dir, world=world)
    checkpoints.save(1, {}, own_memory(store, world))
    checkpoints.wait()
    full = mock.patch(
        "torch.distributed.checkpoint.FileSystemWriter.write_data",
        side_effect=OSError(28, "No space left on device"),
    )
    with full if worker.rank else mock.MagicMock():
        checkpoints.save(2, {}, own_memory(store, world))
        checkpoints.close()
    with pytest.raises(CheckpointError) as caught:
        checkpoints.wait()
    return str(caught.value)


def test_when_one_worker_cannot_write_all_know_and_the_last_one_stays(
    gloo: GlooWorld, tmp_path: Path
) -> None:
    for text in gloo.run(2, fail_at_worker_1, tmp_path):
        assert "No space left" in text
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"LATEST", "step-00000001"}
    assert Checkpoints(tmp_path).open().name == "step-00000001"


# ------------------------------------------------------- what does not belong there


def test_tables_and_nodes_of_another_layout_are_refused(tmp_path: Path) -> None:
    saved = _saved(tmp_path)
    for other, text in (
        (replace(LAYOUT, num_slots=1), "must have tables of"),
        (replace(LAYOUT, num_components=0), "must have tables of"),
        (replace(LAYOUT, num_nodes=10), "must be of 10 nodes, got node 10"),
        (replace(LAYOUT, num_nodes=12), "must hold 12 nodes, got 11"),
    ):
        with pytest.raises(CheckpointError, match=text):
            load_memory(make_local(other), saved.open().memory, World())


class _Payload:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_planted_pickle_does_not_run_though_its_hash_is_right(tmp_path: Path) -> None:
    """Whoever can write a checkpoint can write its manifest."""
    checkpoints, target = _saved(tmp_path), tmp_path / "ran"
    folder = checkpoints.folder / checkpoints.name("LATEST")
    (folder / "memory/.metadata").write_bytes(pickle.dumps(_Payload(target)))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"]["memory/.metadata"] = sha256(folder / "memory/.metadata")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"posix\.mkdir is not allowed in a checkpoint"):
        checkpoints.open()
    assert not target.exists()


def test_only_memory_formats_are_read_by_getattr() -> None:
    """Early releases of Python 3.11 pickle an enum's member as a call of getattr."""

    def read(kind: str, name: str) -> Any:
        text = f"cbuiltins\ngetattr\n(ctorch.distributed.checkpoint.metadata\n{kind}\nV{name}\ntR."
        return saved_metadata._Unpickler(io.BytesIO(text.encode())).load()

    assert read("_MEM_FORMAT_ENCODING", "TORCH_PRESERVE_FORMAT").name == "TORCH_PRESERVE_FORMAT"
    with pytest.raises(pickle.UnpicklingError, match="is not allowed in a checkpoint"):
        read("Metadata", "__init__")
    with pytest.raises(KeyError):
        read("_MEM_FORMAT_ENCODING", "__class__")


@pytest.mark.parametrize("name", ["torch.load", "torch.hub.load", "torch.serialization.load"])
def test_no_function_of_torch_is_taken_for_plain_data(tmp_path: Path, name: str) -> None:
    checkpoints = _saved(tmp_path)
    file = checkpoints.folder / checkpoints.name("LATEST") / "memory/.metadata"
    module, _, function = name.rpartition(".")
    file.write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(CheckpointError, match="is not allowed in a checkpoint"):
        SavedMemory.open(file.parent)


@pytest.mark.parametrize("name", ["state.pt", "memory/.metadata", "memory/__0_0.distcp"])
def test_a_file_that_the_manifest_leaves_out_is_an_error(tmp_path: Path, name: str) -> None:
    checkpoints = _saved(tmp_path)
    file = checkpoints.folder / checkpoints.name("LATEST") / MANIFEST
    manifest = json.loads(file.read_text())
    del manifest["sha256"][name]
    file.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=f"must name {re.escape(name)}"):
        checkpoints.open()


def _saved(run_dir: Path) -> Checkpoints:
    checkpoints = Checkpoints(run_dir)
    checkpoints.save(1, {}, own_memory(filled(5), World()))
    checkpoints.wait()
    return checkpoints
