"""Keys that are kept on disk: made once, checked before use, made anew when they are not right."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pres_dist.config.load import load_config
from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.planner.touched import count_touches
from pres_dist.sampling import stored_keys as module
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.sorted_keys import HalfEdges
from pres_dist.sampling.stored_keys import keys_of, on_disk, stored_keys
from pres_dist.staging import Staged
from pres_dist.training.evaluate_run import stream_baselines
from pres_dist.training.setup import assemble, load_data


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRES_DIST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "adjacency"


@pytest.fixture
def stream(tmp_path: Path) -> EventStream:
    random = np.random.default_rng(0)
    ends = random.integers(0, 40, (2, 500))
    return EventStream.from_arrays(*ends, np.arange(500)).save(tmp_path / "stream")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that keys are written to."""
    write, files = HalfEdges.write, list[Path]()

    def noted(self: HalfEdges, file: Path, memory_bytes: int) -> None:
        files.append(file)
        write(self, file, memory_bytes)

    monkeypatch.setattr(HalfEdges, "write", noted)
    return files


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*adjacency-*.npy*"))


def test_made_once_beside_the_stream_and_mapped(
    stream: EventStream, cache: Path, made: list[Path]
) -> None:
    expected = keys_of(HalfEdges(stream), "memory")
    first, second = (keys_of(HalfEdges(stream), "disk") for _ in range(2))
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    assert isinstance(second, np.memmap)
    assert len(made) == 1
    assert len(files_of(stream.path)) == 1
    assert not cache.exists()
    EventStream.verify(stream.path)  # a hidden file is no damage


def test_other_events_and_other_masks_have_files_of_their_own(
    stream: EventStream, cache: Path, made: list[Path]
) -> None:
    keep = np.arange(500) % 2 == 0
    for edges in (HalfEdges(stream), HalfEdges(stream.head(300)), HalfEdges(stream, keep)):
        np.testing.assert_array_equal(keys_of(edges, "disk"), edges.sorted())
    assert len(made) == len(files_of(stream.path)) == 3
    # Another stream at the same place: the file of the one before is not taken for its own.
    swapped = replace(stream, src=stream.dst, dst=stream.src).save(stream.path, force=True)
    edges = HalfEdges(swapped.head(499))
    np.testing.assert_array_equal(keys_of(edges, "disk"), edges.sorted())
    changed = replace(stream, src=(np.asarray(stream.src) + 1) % 40)
    edges = HalfEdges(changed)
    np.testing.assert_array_equal(keys_of(edges, "disk"), edges.sorted())


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def no_digest(file: Path) -> None:
    file.with_suffix(".sha256").unlink()


def foreign_digest(file: Path) -> None:
    file.with_suffix(".sha256").write_bytes(b"\xff\x00")


def of_other_events(file: Path) -> None:
    np.save(file, np.arange(7.0))


@pytest.mark.parametrize(
    "damage", [cut_short, flip_a_bit, empty, no_digest, foreign_digest, of_other_events]
)
def test_a_file_that_is_not_right_is_made_anew(
    damage: Callable[[Path], None], stream: EventStream, cache: Path, made: list[Path]
) -> None:
    edges = HalfEdges(stream)
    keys_of(edges, "disk")
    damage(files_of(stream.path)[0])
    np.testing.assert_array_equal(keys_of(edges, "disk"), edges.sorted())
    assert len(made) == 2
    keys_of(edges, "disk")
    assert len(made) == 2


def test_a_header_of_another_shape_is_not_believed(
    stream: EventStream, cache: Path, made: list[Path]
) -> None:
    """Not even where the digest beside it fits."""
    edges = HalfEdges(stream)
    keys_of(edges, "disk")
    file = files_of(stream.path)[0]
    np.save(file, np.zeros(3, dtype=np.float32))
    module.write_atomically(file.with_suffix(".sha256"), module.sha256(file))
    np.testing.assert_array_equal(keys_of(edges, "disk"), edges.sorted())
    assert len(made) == 2


def test_the_cache_where_the_stream_s_folder_cannot_be_written(
    stream: EventStream, cache: Path, made: list[Path], tmp_path: Path
) -> None:
    for unwritable in (replace(stream, path=tmp_path / "gone"), replace(stream, path=None)):
        edges = HalfEdges(unwritable)
        np.testing.assert_array_equal(keys_of(edges, "disk"), edges.sorted())
    assert len(made) == len(files_of(cache)) == 1


def test_nowhere_to_write(
    stream: EventStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("PRES_DIST_CACHE", str(tmp_path / "a file"))
    monkeypatch.setattr(module, "DISK_EVENTS", 1)
    edges = HalfEdges(replace(stream, path=tmp_path / "gone"))
    with pytest.raises(
        DataError, match=r"needs a folder that can be written.*gone: No such file.*a file"
    ):
        keys_of(edges, "disk")
    np.testing.assert_array_equal(keys_of(edges, "auto"), edges.sorted())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "stream"]


def test_a_failed_write_leaves_nothing(
    stream: EventStream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: HalfEdges, file: Path, memory_bytes: int) -> None:
        file.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HalfEdges, "write", full)
    with pytest.raises(DataError, match=r"room for 8,000 bytes .*No space left on device"):
        keys_of(HalfEdges(stream), "disk")
    assert files_of(stream.path) == files_of(cache) == []


def test_what_a_killed_process_left_is_removed(stream: EventStream, cache: Path) -> None:
    """A file that its writer holds is left alone."""
    file = stream.path / f".adjacency-{HalfEdges(stream).digest()}.npy"
    killed, at_work = Staged(file), Staged(file)
    killed.create()
    os.close(killed._descriptor)  # as the death of a process does
    at_work.create()
    keys_of(HalfEdges(stream), "disk")
    assert (killed.path.exists(), at_work.path.exists()) == (False, True)
    at_work.discard()


def test_several_at_a_time(stream: EventStream, cache: Path) -> None:
    edges = HalfEdges(stream)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: stored_keys(edges, [stream.path]), range(24)))
    for keys in found:
        np.testing.assert_array_equal(keys, edges.sorted())
    assert len(files_of(stream.path)) == 1


def test_from_how_many_events_on() -> None:
    assert [on_disk("auto", num) for num in (9_999_999, 10_000_000)] == [False, True]
    assert (on_disk("disk", 1), on_disk("memory", 1 << 40)) == (True, False)


def test_an_adjacency_from_disk_answers_as_one_in_memory(
    stream: EventStream, cache: Path, recwarn: pytest.WarningsRecorder
) -> None:
    tables = EventTables(stream)
    memory, disk = (TemporalAdjacency(stream, tables, home=home) for home in ("memory", "disk"))
    nodes_Q = torch.arange(40).repeat(5)
    before_Q = torch.arange(200) * 2
    bounds = memory.history(nodes_Q, before_Q)
    for found, expected in zip(disk.history(nodes_Q, before_Q), bounds, strict=True):
        assert torch.equal(found, expected)
    places = torch.where(bounds[1] > bounds[0], bounds[0], 0)
    assert torch.equal(memory.event_at(nodes_Q, places), disk.event_at(nodes_Q, places))
    assert len(recwarn) == 0


def test_runs_baselines_and_the_planner_go_through_it(
    stream: EventStream, cache: Path, made: list[Path]
) -> None:
    options = [f"--data.stream={stream.path}", "--sampling.adjacency=disk", "--preset=paper"]
    small = ["--memory.dim=4", "--model.embedding_dim=4", "--model.time_dim=4"]
    held_out = ["--data.held_out_share=0.1", "--training.device=cpu"]
    config = load_config(None, [*options, *small, *held_out])
    parts = assemble(config, load_data(config, torch.device("cpu")))
    parts.close()
    assert len(made) == 2  # all events, and those without held-out nodes
    stream_baselines(config)
    count_touches(stream, config, 50, slices_each=2)
    assert len(made) == 2
    for use in (stream_baselines, lambda config: count_touches(stream, config, 50, 2)):
        shutil.rmtree(stream.path)
        EventStream.from_arrays(stream.src, stream.dst, stream.t).save(stream.path)
        before = len(made)
        use(config)
        assert len(made) == before + 1
