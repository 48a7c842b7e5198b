"""Kinds of faults that faults.py lets happen to its job."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fault_nodes import Node, as_root, rehearse_node
from rehearsal import STEPS, Launch, happened, launch, ray, recoveries, resumed, torchrun

sys.path.append(str(Path(__file__).parents[1]))

from tests.support.fault_plan import FaultPlan

NO_FAULT: tuple[type[Exception], ...] = ()
_PERMISSION = (PermissionError,)
_WRITES = 6 * STEPS
"""Writes that a shard surely gets in the job."""


@dataclass(frozen=True)
class Told:
    """Outcome of a rehearsal.

    Attributes:
        faults: that happened.
        recoveries: seconds until the run went on, one for each fault that stopped it.
        last_words: of the command.
    """

    faults: int
    recoveries: list[float]
    last_words: str


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        rehearse: runs the job in a folder, `run` below it, with random points to draw from.
        runs: how often, if nobody says otherwise.
        refuses: errors that say that this machine cannot do it.
    """

    name: str
    rehearse: Callable[[Path, random.Random], Told]
    runs: int = 2
    refuses: tuple[type[Exception], ...] = NO_FAULT


def planned(
    command: Callable[[Path], list[str]], plan: Callable[[random.Random], FaultPlan]
) -> Callable[[Path, random.Random], Told]:
    """The job with a plan of faults, which it must survive by itself."""

    def rehearse(folder: Path, draw: random.Random) -> Told:
        ended = launch(command(folder / "run"), plan(draw).environment(folder / "marks")).end()
        return _told(folder, ended)

    return rehearse


def _told(folder: Path, *ended: Launch) -> Told:
    faults = happened(folder / "marks")
    lines = [line for each in ended for line in each.lines]
    code, text = ended[-1].code, ended[-1].text().splitlines()[-6:]
    return Told(len(faults), recoveries(faults, lines), f"exit code {code}: {' / '.join(text)}")


def _steps(draw: random.Random, num: int) -> list[int]:
    return sorted(draw.sample(range(1, STEPS - 1), num))


def _kill_workers(draw: random.Random) -> FaultPlan:
    plan = FaultPlan()
    for step in _steps(draw, 4):
        place = draw.choice(["before_step", "after_step", "before_checkpoint", "after_checkpoint"])
        plan = plan.kill(rank=draw.randrange(2), step=step, place=place)
    return plan


def _stop_worker(draw: random.Random) -> FaultPlan:
    return FaultPlan().stop(rank=draw.randrange(2), step=draw.randrange(STEPS))


def _terminate_worker(draw: random.Random) -> FaultPlan:
    plan = FaultPlan()
    for step in _steps(draw, 3):
        plan = plan.terminate(rank=draw.randrange(2), step=step)
    return plan


def _kill_in_save(draw: random.Random) -> FaultPlan:
    plan = FaultPlan()
    for step, place in zip(_steps(draw, 4), ("open", "write", "fsync", "rename"), strict=True):
        passes = 0 if place == "write" else draw.randrange(4)
        plan = plan.kill(rank=0, step=step, place=place, passes=passes)
    return plan


def _kill_shards(draw: random.Random) -> FaultPlan:
    plan = FaultPlan()
    for place in draw.sample(["before_push", "during_push", "after_push"], 3):
        plan = plan.kill(shard=draw.randrange(2), step=draw.randrange(20, 60), place=place)
    return plan


def _slow_shard(draw: random.Random) -> FaultPlan:
    plan = FaultPlan()
    for write in draw.sample(range(_WRITES // 3), 8):
        plan = plan.stall(shard=draw.randrange(2), step=write, ms=draw.randrange(100, 1000))
    return plan


def _pushes(draw: random.Random) -> FaultPlan:
    plan = FaultPlan()
    for step in _steps(draw, 10):
        plan = plan.duplicate(rank=draw.randrange(2), step=step)
        plan = plan.reorder(rank=draw.randrange(2), step=step)
        plan = plan.delay(rank=draw.randrange(2), step=step, ms=draw.randrange(10, 300))
    return plan


def _patience(seconds: float) -> tuple[str, str]:
    return "--parallel.timeout_s", str(seconds)


def _stopping(run: Path) -> list[str]:
    return torchrun(run, *_patience(15))


def kill_driver(folder: Path, draw: random.Random) -> Told:
    """SIGKILL of `pres-dist ray` itself, then `pres-dist resume`."""
    started = launch(ray(folder / "run"))
    started.wait_until((folder / "run" / "checkpoints" / "LATEST").exists)
    time.sleep(draw.uniform(0, 4))
    _note(folder)
    started.process.kill()
    started.end()
    return _told(folder, started, launch(resumed(folder / "run")).end())


def terminate_launcher(folder: Path, draw: random.Random) -> Told:
    """SIGTERM to torchrun, as a scheduler sends it, then a launch that resumes."""
    return _terminated(folder, draw, torchrun(folder / "run"))


def terminate_driver(folder: Path, draw: random.Random) -> Told:
    """SIGTERM to `pres-dist ray`, then `pres-dist resume`."""
    return _terminated(folder, draw, ray(folder / "run"))


def _terminated(folder: Path, draw: random.Random, command: list[str]) -> Told:
    started = launch(command)
    started.wait_until((folder / "run" / "checkpoints" / "LATEST").exists)
    time.sleep(draw.uniform(0, 3))
    _note(folder)
    started.process.send_signal(signal.SIGTERM)
    started.end(60)
    if started.code != 143:
        return _told(folder, started)
    return _told(folder, started, launch(resumed(folder / "run")).end())


def fill_disk(folder: Path, draw: random.Random) -> Told:
    """A tmpfs of a few MB under the run folder; one clear error, then more room and a resume."""
    run = folder / "run"
    run.mkdir()
    megabytes = draw.randrange(6, 20)
    as_root("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(run))
    try:
        full = launch(torchrun(run, restarts=0)).end()
        _note(folder)
        if full.code == 0 or "Traceback" in "".join(line for _, line in full.lines):
            return _told(folder, full)
        as_root("mount", "-o", "remount,size=500m", str(run))
        told = _told(folder, full, launch(resumed(run)).end())
        subprocess.run(["cp", "-a", str(run), str(folder / "kept")], check=True)
    finally:
        subprocess.run(["umount", str(run)], check=False)
    run.rmdir()
    (folder / "kept").rename(run)
    return told


def lose_node(happen: Callable[[Node], None]) -> Callable[[Path, random.Random], Told]:
    """A Ray node with a memory shard is lost; the run goes on on the other node."""

    def rehearse(folder: Path, draw: random.Random) -> Told:
        moment, driver = rehearse_node(folder, draw, happen)
        _note(folder, moment)
        return _told(folder, driver)

    return rehearse


def _note(folder: Path, moment: float | None = None) -> None:
    (folder / "marks").mkdir(exist_ok=True)
    (folder / "marks" / "fault-0").write_text(f"{moment or time.time()}")


KINDS = [
    Kind("worker SIGKILL (torchrun)", planned(torchrun, _kill_workers), 3),
    Kind("worker SIGSTOP (torchrun, timeout 15 s)", planned(_stopping, _stop_worker), 3),
    Kind("worker SIGTERM (torchrun)", planned(torchrun, _terminate_worker)),
    Kind("launcher SIGTERM (torchrun), resume", terminate_launcher),
    Kind("SIGKILL in a save: open, write, fsync, rename", planned(torchrun, _kill_in_save), 3),
    Kind("disk full (tmpfs), room made, resume", fill_disk, 2, _PERMISSION),
    Kind("memory shard SIGKILL around a push (Ray)", planned(ray, _kill_shards)),
    Kind("slow memory shard (Ray)", planned(ray, _slow_shard), 1),
    Kind("pushes duplicated, reordered, delayed (Ray)", planned(ray, _pushes), 2),
    Kind("driver SIGKILL (Ray), resume", kill_driver, 2),
    Kind("driver SIGTERM (Ray), resume", terminate_driver, 2),
    Kind("network cut off a node with a shard (Ray)", lose_node(Node.cut_off), 1, _PERMISSION),
    Kind("node with a shard removed (Ray)", lose_node(Node.die), 1, _PERMISSION),
]
