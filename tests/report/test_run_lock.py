"""One writer for each run folder; a lock that ends with its holder; a folder that is moved away."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.report import run_lock
from pres_dist.report.run_folder import create_run_folder, read_config
from pres_dist.report.run_lock import LOCK, lock_run
from pres_dist.report.run_record import RECORD
from pres_dist.run_files import CONFIG, ENVIRONMENT

HOLD = """
import sys, time
from pathlib import Path
from pres_dist.report.run_record import RECORD
from pres_dist.report.run_lock import lock_run

sys.argv = ["pres-dist", "train", "my file.yaml\\x1b[31m"]
lock = lock_run(Path(sys.stdin.readline().strip()))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def held(folder: Path, launch: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a folder."""
    environment = {} if launch is None else {"TORCHELASTIC_RUN_ID": launch}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_the_holder_is_named_and_its_death_releases_the_lock(tmp_path: Path) -> None:
    with held(tmp_path) as holder:
        with pytest.raises(ConfigError, match="only one process at a time") as refused:
            lock_run(tmp_path, 0.2)
        assert f"process {holder.pid} on " in str(refused.value)
        assert "pres-dist train 'my file.yaml" in str(refused.value)
        assert "\x1b" not in str(refused.value)
        holder.send_signal(signal.SIGKILL)
        lock_run(tmp_path).release()  # waits until the process has gone
    with lock_run(tmp_path) as lock, pytest.raises(ConfigError, match=f"process {os.getpid()} on "):
        lock_run(lock.folder, 60)  # its own process will not let go


def test_a_later_attempt_of_the_same_launch_waits_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "launch-1")
    with held(tmp_path, "launch-1") as holder, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lock_run, tmp_path, 0)
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        holder.kill()
        waiting.result(30).release()
    with held(tmp_path, "launch-2"), pytest.raises(ConfigError, match="in use by process"):
        lock_run(tmp_path, 0)


@pytest.mark.parametrize("there_already", [False, True])
def test_one_of_many_that_start_together_gets_the_folder(
    tmp_path: Path, there_already: bool
) -> None:
    racers, rounds = 6, 10
    with ThreadPoolExecutor(racers) as pool:
        for number in range(rounds):
            folder, start = tmp_path / f"new-{number}" / "run", Barrier(racers)
            if there_already:
                folder.mkdir(parents=True)

            def claim(seed: int, folder: Path = folder, start: Barrier = start) -> int | None:
                config = RunConfig.model_validate({"training": {"seed": seed}})
                start.wait()
                try:
                    with create_run_folder(config, folder):
                        return seed
                except ConfigError:
                    return None

            won = [seed for seed in pool.map(claim, range(racers)) if seed is not None]
            assert len(won) == 1
            assert read_config(folder).training.seed == won[0]
            assert {path.name for path in folder.iterdir()} == {LOCK, CONFIG, ENVIRONMENT, RECORD}


def test_a_start_that_was_killed_halfway_leaves_no_dead_end(tmp_path: Path) -> None:
    for name in (LOCK, ENVIRONMENT, RECORD, f".{CONFIG}.abc"):
        (tmp_path / name).touch()
    create_run_folder(RunConfig(), tmp_path).release()
    with pytest.raises(ConfigError, match="must be new or empty"):
        create_run_folder(RunConfig(), tmp_path)


def test_a_folder_that_is_not_empty_gets_no_lock_file(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="must be new or empty"):
        create_run_folder(RunConfig(), tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("change", ["moved", "replaced", "removed", "lock removed"])
def test_a_folder_that_is_no_longer_there_is_noticed(tmp_path: Path, change: str) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    other.mkdir()
    with create_run_folder(RunConfig(), ours) as lock, lock_run(other):
        lock.check()
        if change == "lock removed":
            (ours / LOCK).unlink()
        else:
            ours.rename(tmp_path / "elsewhere")
        if change == "replaced":
            other.rename(ours)
        if change == "removed":
            ours.mkdir()
        with pytest.raises(ConfigError, match=r"ours: must stay in its place"):
            lock.check()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match=r"\.lock: cannot be written"):
        lock_run(tmp_path)
    assert not (tmp_path / "precious").exists()


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refuse)
        lock_run(tmp_path).release()
    monkeypatch.setattr(run_lock, "_mount", lambda _: ("nfs4", ["rw", "local_lock=all"]))
    lock_run(tmp_path).release()
    monkeypatch.setattr(run_lock, "_mount", lambda _: ("nfs4", ["rw", "local_lock=none"]))
    lock_run(tmp_path).release()
    no_locks, only_here = caplog.messages
    assert "its file system has no locks" in no_locks
    assert "(nfs4, local_lock=all) do not reach other machines" in only_here
