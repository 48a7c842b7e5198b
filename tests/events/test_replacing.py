"""A stream that is replaced is never lost: killed or failing at every change of the disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from pres_dist import staging
from pres_dist.errors import DataError
from pres_dist.events.builtin import load_stream
from pres_dist.events.storage import read_meta
from pres_dist.events.stream import EventStream
from pres_dist.events.writer import StreamWriter
from tests.events.dying import DIE, DONE, FAIL, NONE, REFUSED, at_change

KILLED = -9


def write(path: Path, name: str) -> None:
    with StreamWriter(path, name=name, force=True) as writer:
        writer.append([0, 1], [2, 3], [1, 2])


def write_while(path: Path, meanwhile: Callable[[], None], force: bool) -> None:
    with StreamWriter(path, name="new", force=force) as writer:
        writer.append([0], [1], [1])
        meanwhile()


def fail_to_write(path: Path) -> None:
    with pytest.raises(DataError), StreamWriter(path, force=True) as writer:
        writer.append([-1], [2], [1])


def name_of(path: Path) -> str:
    """Of a stream all of whose bytes are right."""
    return EventStream.verify(path).name


def ends(what: str, folder: Path, exchange: bool) -> Iterator[tuple[int, Path]]:
    """Exit code and place of a stream `old` that a process was replacing by `new`, per change."""
    for point in count():
        path = folder / f"{point}" / "st"
        write(path, "old")
        code = at_change(point, what, write, path, "new", exchange=exchange)
        yield code, path
        if code == NONE:
            return


@pytest.mark.attack(
    "`data import --force` killed at every change of the disk, then an import of a bad file",
    before="at one of 15 places the old stream was gone, and the next import deleted both copies",
    after="the old stream or the new one is there, whole; the next import that succeeds cleans up",
)
@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_loses_nothing(exchange: bool, tmp_path: Path) -> None:
    codes = []
    for code, path in ends(DIE, tmp_path, exchange):
        codes.append(code)
        if exchange:
            assert name_of(path) in ("old", "new")
        fail_to_write(path)
        assert name_of(path) in ("old", "new")
        write(path, "third")
        assert name_of(path) == "third"
        assert os.listdir(path.parent) == ["st"]
    assert codes == [KILLED] * (len(codes) - 1) + [NONE]
    assert len(codes) > 12


@pytest.mark.attack(
    "the second rename of `data import --force`, or any other change of the disk, fails with EIO",
    before="exit code 2 and no stream",
    after="exit code 2 and the old stream in its place, or the new one where only cleaning failed",
)
@pytest.mark.parametrize("exchange", [True, False])
def test_a_failure_loses_nothing(exchange: bool, tmp_path: Path) -> None:
    codes = []
    for code, path in ends(FAIL, tmp_path, exchange):
        codes.append(code)
        assert name_of(path) == ("old" if code == REFUSED else "new")
        write(path, "third")
        assert os.listdir(path.parent) == ["st"]
    assert set(codes) <= {NONE, DONE, REFUSED}
    assert codes.count(REFUSED) > 8


def test_a_kill_of_the_import_that_puts_the_old_one_back_loses_nothing(tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    for _, path in ends(DIE, tmp_path, exchange=False):
        if not path.exists():
            shutil.copytree(path.parent, torn)
            break
    for point in count():
        path = tmp_path / f"again-{point}" / "st"
        shutil.copytree(torn, path.parent)
        code = at_change(point, DIE, write, path, "third", exchange=False)
        if code == NONE:
            break
        assert load_stream(path).name in ("old", "third")
    assert point > 8


def test_who_opens_a_stream_puts_back_what_a_killed_writer_moved_away(tmp_path: Path) -> None:
    for _, path in ends(DIE, tmp_path, exchange=False):
        if not path.exists():
            assert load_stream(path).name == "old"
            return
    raise AssertionError("no kill between the two renames")


def test_both_renames_back_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that cannot be put back at once is put back by the next import of any source."""
    path, rename = tmp_path / "st", os.rename
    write(path, "old")

    def broken(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    def cannot(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(staging, "_rename_exchange", cannot)
    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(os, "rename", broken)
        with pytest.raises(DataError, match="Input/output error"):
            write(path, "new")
    assert not path.exists()
    fail_to_write(path)
    assert name_of(path) == "old"
    assert os.listdir(tmp_path) == ["st"]


def test_what_the_format_before_left_is_put_back(tmp_path: Path) -> None:
    """Names with the number of a process, which has gone."""
    import socket

    partial = tmp_path / f".st.partial-{socket.gethostname()}-999999999"
    write(tmp_path / "old", "old")
    (tmp_path / "old").rename(f"{partial}.replaced")
    write(tmp_path / "new", "new")
    (tmp_path / "new").rename(partial)
    fail_to_write(tmp_path / "st")
    assert name_of(tmp_path / "st") == "old"


def test_a_writer_at_work_is_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "st"
    with StreamWriter(path, name="slow") as slow:
        slow.append([0], [1], [1])
        write(path, "quick")
        assert len(os.listdir(tmp_path)) == 2
        shutil.rmtree(path)
    assert name_of(path) == "slow"
    assert os.listdir(tmp_path) == ["st"]


def test_many_at_once(tmp_path: Path) -> None:
    """Each replaces a whole stream by a whole one; none takes another's folder for a leftover."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write(tmp_path / "st", f"{number}"), range(64)))
    assert int(name_of(tmp_path / "st")) in range(64)
    assert os.listdir(tmp_path) == ["st"]


def test_the_stream_of_another_writer_is_not_replaced_without_force(tmp_path: Path) -> None:
    path = tmp_path / "st"
    with pytest.raises(DataError, match="already exists; use --force"):
        write_while(path, lambda: write(path, "quick"), force=False)
    assert name_of(path) == "quick"
    assert os.listdir(tmp_path) == ["st"]


@pytest.mark.attack(
    "`data import --force` over a stream with notes, a subfolder and the source CSV in its folder",
    before="all of them deleted, exit code 0",
    after="one error that names them; nothing is changed",
)
@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_force_deletes_only_what_an_import_made(moment: str, tmp_path: Path) -> None:
    path = tmp_path / "st"
    write(path, "old")
    (path / ".adjacency-12.npy").touch()

    def add() -> None:
        for name in ("notes.txt", "a.csv", ".hidden"):
            (path / name).write_text("mine")
        (path / "folder").mkdir()

    if moment == "before":
        add()
    with pytest.raises(DataError, match=r"elsewhere first: \.hidden, a\.csv, folder, notes"):
        write_while(path, add if moment == "meanwhile" else lambda: None, force=True)
    assert read_meta(path).name == "old"
    assert {"notes.txt", "a.csv", ".hidden", "folder", ".adjacency-12.npy"} <= {*os.listdir(path)}
    assert os.listdir(tmp_path) == ["st"]


def test_force_replaces_what_was_made_of_the_stream_too(tmp_path: Path) -> None:
    path = tmp_path / "st"
    write(path, "old")
    for made in (".adjacency-12", ".pairs-7"):
        (path / f"{made}.npy").touch()
        (path / f"{made}.sha256").touch()
    write(path, "new")
    assert not list(path.glob(".*-*"))
