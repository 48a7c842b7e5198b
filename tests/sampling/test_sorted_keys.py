"""Keys of half-edges: the same bits sorted in memory and in a file, whatever the budget."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.events.columns import ColumnReader, forget_pages
from pres_dist.events.stream import EventStream
from pres_dist.sampling import sorted_keys
from pres_dist.sampling.sorted_keys import HalfEdges
from tests.support.nightly import drawn
from tests.support.random_streams import Case, cases


def by_hand(case: Case) -> list[int]:
    """Keys one by one, in Python's integers."""
    stream, found = case.stream, []
    nodes = sorted({*stream.src.tolist(), *stream.dst.tolist()})
    ranked = stream.num_nodes * stream.num_events >= 1 << 63
    for event, ends in enumerate(zip(stream.src.tolist(), stream.dst.tolist(), strict=True)):
        if case.keep is None or case.keep[event]:
            rows = {nodes.index(node) if ranked else node for node in ends}
            found += [row * stream.num_events + event for row in rows]
    return sorted(found)


def written(edges: HalfEdges, memory_bytes: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys.npy"
        edges.write(file, memory_bytes)
        assert [path.name for path in Path(folder).iterdir()] == ["keys.npy"]
        return np.load(file, allow_pickle=False)


@settings(max_examples=drawn(80, 3))
@given(
    case=cases(),
    chunk=st.sampled_from([1, 7, 100]),
    memory_bytes=st.sampled_from([1, 64, 200, 1 << 20]),
)
def test_memory_and_file_hold_what_a_loop_finds(case: Case, chunk: int, memory_bytes: int) -> None:
    expected = by_hand(case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_keys, "CHUNK_EVENTS", chunk)
        edges = HalfEdges(case.stream, case.keep)
        assert edges.sorted().tolist() == expected
        keys = written(edges, memory_bytes)
    assert keys.dtype == np.int64
    assert keys.tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_many_ranges_a_hub_and_a_mask(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    src = np.where(random.random(5000) < 0.4, 77, random.zipf(1.5, 5000) % 300)
    dst = random.integers(0, 300, 5000)
    stream = EventStream.from_arrays(src, dst, np.arange(5000), num_nodes=400)
    edges = HalfEdges(stream, random.random(5000) < 0.8 if seed % 2 else None)
    monkeypatch.setattr(sorted_keys, "CHUNK_EVENTS", 512)
    largest = 0
    read = ColumnReader.read

    def noted(self: ColumnReader, rows: slice) -> np.ndarray:
        nonlocal largest
        largest = max(largest, rows.stop - rows.start)
        return read(self, rows)

    monkeypatch.setattr(ColumnReader, "read", noted)
    np.testing.assert_array_equal(written(edges, 8 * 600), edges.sorted())
    # The hub has more than that, and is in order as it comes.
    assert 300 < largest <= 600


def test_no_event_is_kept() -> None:
    stream = EventStream.from_arrays([0, 1], [1, 2], [0, 1])
    edges = HalfEdges(stream, np.zeros(2, dtype=bool))
    assert edges.sorted().tolist() == written(edges, 1).tolist() == []


def test_the_digest_is_of_all_that_decides() -> None:
    def digest(
        src: list[int], dst: list[int], num_nodes: int = 9, keep: list[bool] | None = None
    ) -> str:
        stream = EventStream.from_arrays(src, dst, [0, 1], num_nodes=num_nodes)
        return HalfEdges(stream, None if keep is None else np.array(keep)).digest()

    whole = digest([0, 1], [1, 2])
    others = [
        digest([0, 2], [1, 2]),
        digest([0, 1], [1, 3]),
        digest([0, 1], [1, 2], num_nodes=10),
        digest([0, 1], [1, 2], keep=[True, True]),
        digest([0, 1], [1, 2], keep=[True, False]),
        digest([1, 2], [0, 1]),
    ]
    assert len({whole, *others}) == 7
    assert whole == digest([0, 1], [1, 2])


def resident_bytes(file: Path) -> int:
    """Pages of a file in this process's memory."""
    maps = Path("/proc/self/smaps").read_text().split("\n")
    places = [number for number, line in enumerate(maps) if line.endswith(str(file))]
    sizes = [next(line for line in maps[place:] if line.startswith("Rss:")) for place in places]
    return sum(1024 * int(size.split()[1]) for size in sizes)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which pages are in memory")
def test_pages_of_the_stream_are_let_go_of(tmp_path: Path) -> None:
    events = np.arange(100_000)
    stream = EventStream.from_arrays(events % 500, events % 70, events)
    stored = stream.save(tmp_path / "s")
    first = stored.src[:10]
    assert int(stored.src.sum()) == int(stream.src.sum())
    assert resident_bytes(tmp_path / "s" / "src.npy") > 700_000
    np.testing.assert_array_equal(HalfEdges(stored).sorted(), HalfEdges(stream).sorted())
    assert resident_bytes(tmp_path / "s" / "src.npy") == 0
    assert first.tolist() == stream.src[:10].tolist()


def test_pages_that_somebody_wrote_to_stay(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5000))
    own = np.load(tmp_path / "a.npy", mmap_mode="c")
    own[:] = 7
    forget_pages(own)
    forget_pages(own[3:])
    assert own.tolist() == [7] * 5000
