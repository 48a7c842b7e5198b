"""Remains and errors of a command whose Ray cluster breaks; without Ray."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pres_dist.report.run_lock import lock_run
from tests.support.launched import Launched, wait_until

COMMAND = """
import subprocess, sys, time
from pathlib import Path
from pres_dist.parallel.supervise import report, supervised

end, folder = sys.argv[1], Path(sys.argv[2])

def command():
    part = subprocess.Popen(["sleep", "100"], start_new_session=True)
    # An orphan, as the agents of a raylet are when that is killed.
    subprocess.run(["sh", "-c", "sleep 100 & "], start_new_session=True)
    report(watch={"raylet": part.pid}, needed=str(folder / "private" / "r"))
    report(remove=str(folder / "private"), run=str(folder / "run"), end=str(folder / "end"))
    (folder / "begun").write_text(str(part.pid))
    if end == "code":
        report(ending=True)
        part.kill()
        return 3
    if end == "defect":
        raise ValueError("a defect")
    time.sleep(100)

sys.exit(supervised(command))
"""


@contextmanager
def supervised(tmp_path: Path, end: str = "") -> Iterator[Launched]:
    (tmp_path / "private" / "r").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "LATEST").touch()
    with Launched([sys.executable, "-c", COMMAND, end, str(tmp_path)]) as launched:
        wait_until((tmp_path / "begun").exists, launched)
        yield launched


def part(tmp_path: Path) -> psutil.Process:
    while not (number := (tmp_path / "begun").read_text()):
        time.sleep(0.01)
    return psutil.Process(int(number))


def driver(launched: Launched) -> psutil.Process:
    (child,) = psutil.Process(launched.process.pid).children()[:1]
    return child


def error_of(launched: Launched) -> str:
    (line,) = launched.errors().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(("end", "code"), [("code", 3), ("defect", 1)])
def test_the_commands_own_end_is_left_alone(tmp_path: Path, end: str, code: int) -> None:
    (tmp_path / "private" / "r").mkdir(parents=True)
    with Launched([sys.executable, "-c", COMMAND, end, str(tmp_path)]) as launched:
        assert launched.wait() == code
        assert "error: " not in launched.errors()
        assert ("ValueError: a defect" in launched.errors()) == (end == "defect")
    assert not (tmp_path / "private").exists()


def test_a_part_of_the_cluster_that_dies_is_told(tmp_path: Path) -> None:
    """Workers are asked to end, and have time until they let go of the run."""
    with supervised(tmp_path) as launched:
        with lock_run(tmp_path / "run"):
            part(tmp_path).kill()
            wait_until((tmp_path / "end").exists, launched)
            assert launched.process.poll() is None
        assert launched.wait() == 1
        expected = f"`pres-dist resume {tmp_path / 'run'}` continues from the newest checkpoint"
        assert f"raylet of Ray was killed or has failed, and the cluster with it; {expected}" in (
            error_of(launched)
        )
    assert not (tmp_path / "private").exists()


def test_a_part_that_has_stopped_is_given_up(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", ":".join(sys.path))
        command = COMMAND.replace(
            "end, folder =",
            "import pres_dist.parallel.supervise as s; s._STOPPED_S = 0.5; end, folder =",
        )
        (tmp_path / "private" / "r").mkdir(parents=True)
        with Launched([sys.executable, "-c", command, "", str(tmp_path)]) as launched:
            wait_until((tmp_path / "begun").exists, launched)
            part(tmp_path).suspend()
            assert launched.wait() == 1
            assert (
                "raylet of Ray has been stopped for 0.5 s; no checkpoint was written yet: run"
                in (error_of(launched))
            )


@pytest.mark.attack(
    "the temporary folder of Ray is removed while it runs",
    before="the run could not restart workers any more, and told nothing",
    after="workers write a checkpoint and end; one error that names `resume`",
)
def test_a_folder_that_disappears_is_told(tmp_path: Path) -> None:
    with supervised(tmp_path) as launched:
        (tmp_path / "private" / "r").rmdir()
        assert launched.wait() == 1
        assert "the folder that Ray needs while it runs was removed" in error_of(launched)


def test_a_driver_that_is_killed_is_told(tmp_path: Path) -> None:
    with supervised(tmp_path) as launched:
        driver(launched).kill()
        assert launched.wait() == 1
        assert "Ray's driver was ended by SIGKILL" in error_of(launched)
    assert not (tmp_path / "private").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_signals_reach_the_driver(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """This driver has no handlers, but for Python's own, which prints a traceback."""
    with supervised(tmp_path) as launched:
        launched.process.send_signal(number)
        assert launched.wait() == code
        assert "error: " not in launched.errors()
    assert not (tmp_path / "private").exists()


def test_the_driver_ends_with_its_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path) as launched:
        child = driver(launched)
        launched.process.kill()
        launched.wait()
        child.wait(240)
        part(tmp_path).kill()  # Ray binds these to the driver by itself
        for process in launched.processes():
            process.kill()
