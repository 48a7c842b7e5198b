"""A plan of faults: what it says, who reads it, and that each fault happens once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pres_dist import failpoint as failpoints
from pres_dist.errors import ConfigError
from pres_dist.failpoint import VARIABLE, failpoint, set_identity
from pres_dist.parallel.shutdown import ShutdownRequest
from tests.support.fault_injector import disarm
from tests.support.fault_plan import FaultPlan

PLAN = (
    FaultPlan()
    .kill(rank=1, step=7)
    .stop(rank=0, step=3, place="after_step")
    .stall(shard=0, ms=500)
    .duplicate(rank=0)
    .delay(rank=1, ms=5, step=2, passes=3)
)


@pytest.fixture(autouse=True)
def _disarmed() -> object:
    yield
    disarm()


def test_a_plan_survives_the_environment(tmp_path: Path) -> None:
    _, _, text = PLAN.environment(tmp_path)[VARIABLE].partition(" ")
    assert FaultPlan.from_json(text).faults == PLAN.faults
    assert PLAN.faults[2].place == "before_push"
    assert PLAN.faults[3].place == "send"


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ('{"verb": "eat", "rank": 0}', "verb must be one of kill"),
        ('{"verb": "kill", "rank": 0, "place": "here"}', "place must be one of before_step"),
        ('{"verb": "kill"}', "a rank or a shard, and not both"),
        ('{"verb": "kill", "rank": -1}', "rank must be an integer >= 0"),
        ('{"verb": "kill", "rank": 0, "place": "during_push"}', "the places of a shard"),
        ('{"verb": "delay", "shard": 0, "ms": 5}', "happen to what a worker sends|of a shard"),
        ('{"verb": "stall", "rank": 0}', "take ms > 0"),
        ('{"verb": "kill", "rank": 0, "when": 3}', "must be .*verb.*when"),
        ('{"rank": 0}', "must be .*verb"),
    ],
)
def test_a_wrong_plan_is_a_clear_error(fault: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        FaultPlan.from_json(f'{{"folder": "here", "faults": [{fault}]}}')
    with pytest.raises(ConfigError, match="must be"):
        FaultPlan.from_json("kill everybody")


def test_a_fault_happens_once_at_its_step_or_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalls: list[float] = []
    monkeypatch.setattr(time, "sleep", stalls.append)
    plan = FaultPlan().stall(rank=0, step=2, ms=70).stall(rank=0, step=1, passes=2, ms=90)
    monkeypatch.setenv(VARIABLE, plan.environment(tmp_path)[VARIABLE])
    set_identity(rank=1)  # a fault of another worker
    failpoint("before_step", 5)
    set_identity(rank=0)
    for step, expected in enumerate([[], [], [0.07], [0.07, 0.09], [0.07, 0.09]]):
        failpoint("after_step", step)
        failpoint("before_step", step)
        assert stalls == expected
    set_identity(rank=0)  # the process that was started in its place
    failpoint("before_step", 9)
    assert len(stalls) == 2


def test_without_a_plan_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    set_identity(rank=0)
    assert failpoints._inject is None
    failpoint("before_step", 0)


@pytest.mark.parametrize("name", ["nowhere:arm", "tests.support.fault_injector:nothing", "?"])
def test_an_injector_that_is_none_is_a_clear_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(ConfigError, match=f"{VARIABLE} must be MODULE:FUNCTION ARGUMENT, got"):
        set_identity(rank=0)


SAVES = """
import os, sys
from pathlib import Path
from pres_dist.failpoint import set_identity, failpoint
from pres_dist.files import write_atomically
set_identity(rank=0)
failpoint("before_step", 3)
folder = Path(sys.argv[1]) / "checkpoints"
folder.mkdir(parents=True)
for number in range(3):
    write_atomically(folder / f"{number}", "x" * 100_000)
"""


@pytest.mark.parametrize(
    ("place", "code", "written"),
    [
        ("open", signal.SIGKILL, ["0"]),
        ("fsync", signal.SIGKILL, ["0"]),
        ("rename", signal.SIGKILL, ["0"]),
        ("write", signal.SIGXFSZ, []),
    ],
)
def test_system_calls_of_a_save(place: str, code: int, written: list[str], tmp_path: Path) -> None:
    """Files renamed before the fault are whole, whatever happens to the next file."""
    passes = {"open": 3, "fsync": 1, "rename": 1, "write": 0}[place]
    plan = FaultPlan().kill(rank=0, step=3, place=place, passes=passes)
    done = subprocess.run(
        [sys.executable, "-c", SAVES, str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path), **plan.environment(tmp_path / "marks")},
        capture_output=True,
        timeout=240,
    )
    assert done.returncode == -code, done.stderr
    files = [path for path in (tmp_path / "checkpoints").iterdir() if path.name[0] != "."]
    assert sorted(path.name for path in files) == written
    assert all(path.stat().st_size == 100_000 for path in files)


def test_a_second_notice_ends_at_once_unless_it_comes_with_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, request = [100.0], ShutdownRequest()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert [request.receive(), request.asked] == [True, True]
    now[0] += 0.5  # the same, passed on by the launcher
    assert request.receive()
    now[0] += 3
    assert not request.receive()
