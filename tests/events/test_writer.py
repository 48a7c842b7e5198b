from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from pres_dist.errors import DataError
from pres_dist.events.storage import StreamExistsError
from pres_dist.events.stream import EventStream
from pres_dist.events.writer import StreamWriter


def write(path, **options):
    with StreamWriter(path, **options) as writer:
        writer.append([0, 1], [2, 3], [1, 2])
        writer.append([0], [3], [2])
    return EventStream.verify(path)


def test_chunks_make_one_stream(tmp_path):
    stream = write(tmp_path / "s", detect_bipartite=True, metadata={"source": "test"})
    assert stream.src.tolist() == [0, 1, 0]
    assert stream.t.tolist() == [1, 2, 2]
    assert (stream.name, stream.num_nodes, stream.num_sources) == ("s", 4, 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_nothing_stays_after_an_exception(error, tmp_path):
    def interrupted() -> None:
        with StreamWriter(tmp_path / "s") as writer:
            writer.append([0], [1], [1])
            raise error

    with pytest.raises(error):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_order_is_checked_across_chunks(tmp_path):
    with StreamWriter(tmp_path / "s", locate=lambda row: f"row {row}") as writer:
        writer.append([0], [1], [2])
        with pytest.raises(DataError, match=r"row 1: time must not decrease .* got 1 after 2"):
            writer.append([0], [1], [1])


def test_nothing_stays_after_a_data_error(tmp_path):
    with pytest.raises(DataError), StreamWriter(tmp_path / "s") as writer:
        writer.append([-1], [1], [2])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [1], [1], [[1.0]]), "events must have 0 edge features, got 1"),
        (([0], [1], [1], None, [1]), "either every event has a label or none has"),
        (([0], [1, 2], [1]), "dst must have 1 rows, got 2"),
    ],
)
def test_every_chunk_has_the_same_columns(arguments, message, tmp_path):
    with pytest.raises(DataError, match=message), StreamWriter(tmp_path / "s") as writer:
        writer.append(*arguments)


def test_no_events(tmp_path):
    with pytest.raises(DataError, match="at least one event"), StreamWriter(tmp_path / "s"):
        pass
    assert os.listdir(tmp_path) == []


def test_existing_stream_is_kept_unless_forced(tmp_path):
    write(tmp_path / "s")
    with pytest.raises(StreamExistsError, match="already exists; use --force"):
        write(tmp_path / "s")
    assert write(tmp_path / "s", name="other", force=True).name == "other"
    assert os.listdir(tmp_path) == ["s"]


def test_failed_replacement_keeps_the_old_stream(tmp_path):
    write(tmp_path / "s")
    with pytest.raises(DataError), StreamWriter(tmp_path / "s", force=True) as writer:
        writer.append([-1], [0], [0])
    assert EventStream.verify(tmp_path / "s").num_events == 3
    assert os.listdir(tmp_path) == ["s"]


def test_force_replaces_only_streams(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep me")
    with pytest.raises(StreamExistsError, match="--force replaces only streams"):
        write(tmp_path / "precious", force=True)
    assert (tmp_path / "precious" / "file").read_text() == "keep me"


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write here"):
        write(tmp_path / "file" / "s")


def test_full_disk(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pres_dist.events.columns.ColumnFile.append", full)
    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        write(tmp_path / "s")
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from pres_dist.events.writer import StreamWriter
with StreamWriter(sys.argv[1]) as writer:
    writer.append([0], [1], [1])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_writer_publishes_nothing_and_the_next_one_cleans_up(tmp_path):
    path = tmp_path / "s"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert all(name.startswith(".s.partial-") for name in os.listdir(tmp_path))
    write(path)
    assert os.listdir(tmp_path) == ["s"]


def test_separate_ids_are_moved_after_sorting(tmp_path):
    with StreamWriter(tmp_path / "s", separate_ids=True, sort=True) as writer:
        writer.append([3, 0], [0, 1], [9, 8])
    stream = EventStream.verify(tmp_path / "s")
    assert stream.num_sources == 4
    assert stream.src.tolist() == [0, 3]
    assert stream.dst.tolist() == [5, 4]


def test_too_many_nodes_together(tmp_path):
    large = np.array([2**63 - 2])
    with (
        pytest.raises(DataError, match="sources and destinations together"),
        StreamWriter(tmp_path / "s", separate_ids=True) as writer,
    ):
        writer.append(large, large, [1])
