"""Training under a fault every so many seconds, for a long time.

    python benchmarks/soak.py --minutes 30 --every 30

Two workers under torchrun train an endless job; processes are killed and stopped at random. Its
speed between faults is compared with that of the same job left alone for a tenth of the time,
and what the launch holds (memory, descriptors, shared memory) is looked at after each fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from leftovers import scratch
from rehearsal import Launch, launch, torchrun

from pres_dist.report.environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "reliability" / "soak.json"
RATE = re.compile(r"([\d,]+) events/s")
ENDLESS = ("--training.epochs", "100000", "--training.keep_checkpoints", "1")
WARM_S = 5.0
"""Seconds after a start whose speed does not count."""


@dataclass(frozen=True)
class Held:
    """Resources that all processes of a launch hold together.

    Attributes:
        after_s: seconds since the start.
        rss_mb: resident memory.
        descriptors: open files, sockets and pipes.
        shared_mb: of /dev/shm, whoever uses it.
    """

    after_s: float
    processes: int
    rss_mb: float
    descriptors: int
    shared_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with scratch() as folder:
        quiet = _undisturbed(folder / "quiet", arguments.minutes * 6)
        record = _soak(folder / "run", arguments.minutes * 60, arguments.every, arguments.seed)
    speed = record["events_per_second"]
    record |= {"undisturbed_events_per_second": quiet, "environment": describe_environment(0)}
    arguments.out.write_text(json.dumps(record, indent=1))
    first, last = record["held"][0], record["held"][-1]
    print(f"{record['faults']} faults in {arguments.minutes:g} min, all recovered from")
    print(f"between them {speed:,.0f} events/s, undisturbed {quiet:,.0f} ({speed / quiet:.0%})")
    print(f"median time to recover {record['recovery_s']:.1f} s")
    for name in ("processes", "rss_mb", "descriptors", "shared_mb"):
        print(f"{name}: {first[name]:,.0f} after the first start, {last[name]:,.0f} at the end")


def _undisturbed(run: Path, seconds: float) -> float:
    started = _started(run)
    time.sleep(seconds)
    _end(started)
    return _speed(started, [])


def _soak(run: Path, seconds: float, every: float, seed: int) -> dict:
    draw, started = random.Random(seed), _started(run)
    begun, faults, recoveries, held = time.time(), [], [], [_held(started, 0.0)]
    while time.time() - begun < seconds:
        time.sleep(every)
        kind = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
        faults.append(time.time())
        _worker(started, draw.randrange(2)).send_signal(kind)
        started.wait_until(lambda: _progress_after(started, faults[-1]))
        recoveries.append(_progress_after(started, faults[-1])[0] - faults[-1])
        time.sleep(1)
        held.append(_held(started, time.time() - begun))
        print(
            f"{held[-1].after_s:5.0f} s: {kind.name}, went on after {recoveries[-1]:.1f} s",
            flush=True,
        )
    _end(started)
    return {
        "seed": seed,
        "faults": len(faults),
        "recovery_s": round(statistics.median(recoveries), 1),
        "events_per_second": _speed(started, faults),
        "held": [asdict(each) for each in held],
    }


def _started(run: Path) -> Launch:
    started = launch(torchrun(run, *ENDLESS, "--parallel.timeout_s", "10", restarts=10_000))
    started.wait_until(lambda: _progress_after(started, 0.0))
    return started


def _progress_after(started: Launch, moment: float) -> list[float]:
    """Return the times of reported batches, once all workers have started since the moment."""
    starts = [at for at, line in started.lines if line.startswith("run folder") and at > moment]
    return [at for at, line in started.lines if starts and at > starts[-1] and RATE.search(line)]


def _worker(started: Launch, rank: int) -> psutil.Process:
    for process in started.processes():
        try:
            if process.environ().get("RANK") == str(rank):
                return process
        except psutil.Error:
            continue
    raise RuntimeError(f"no worker {rank}:\n{started.text()}")


def _speed(started: Launch, faults: list[float]) -> float:
    """Median events/s of what was told of apart from faults and the starts after them."""
    starts = [at for at, line in started.lines if line.startswith("run folder")]
    rates = []
    for at, line in started.lines:
        found = RATE.search(line)
        last_start = max((start for start in starts if start <= at), default=at)
        pending = any(last_start < fault < at for fault in faults)
        if found and "left in epoch" in line and at - last_start > WARM_S and not pending:
            rates.append(float(found.group(1).replace(",", "")))
    return statistics.median(rates) if rates else float("nan")


def _held(started: Launch, after_s: float) -> Held:
    processes = started.processes()
    resident = descriptors = 0
    for process in processes:
        try:
            resident += process.memory_info().rss
            descriptors += process.num_fds()
        except psutil.Error:
            continue
    shared = psutil.disk_usage("/dev/shm").used if os.path.isdir("/dev/shm") else 0
    return Held(after_s, len(processes), resident / 2**20, descriptors, shared / 2**20)


def _end(started: Launch) -> None:
    started.process.send_signal(signal.SIGTERM)
    started.end(60)


if __name__ == "__main__":
    main()
