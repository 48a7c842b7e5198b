"""Load on `pres-dist serve`: latencies, events/s, and a SIGKILL in the middle.

    python benchmarks/serve_load.py runs/wikipedia-… --events 20000

Events come from a file or are drawn from pairs that the run knows. One client sends events,
`--per-request` at a time and at most `--rate` of them a second; others ask for scores
(`--pairs` pairs a request) and recommendations meanwhile. Half-way the service is killed
(SIGKILL) and started again: what it then answers to one fixed question must be, bit for
bit, what it answered before. The run is copied first, so that it stays as it is.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pres_dist.inference.run import Run

TOKEN = "benchmark"


class Client:
    """One connection that asks one thing after the other."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, path: str, body: object = None) -> tuple[int, Any]:
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        self._connection.request("GET" if body is None else "POST", path, content, headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


def start(run_dir: Path) -> tuple[subprocess.Popen[str], int, float]:
    """A service, its port, and the seconds until it was ready."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pres_dist", "serve", str(run_dir), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PRES_DIST_TOKEN": TOKEN},
    )
    assert process.stdout is not None
    found = re.search(r":(\d+)$", process.stdout.readline().strip())
    if found is None:
        sys.exit("the service did not start")
    return process, int(found[1]), time.perf_counter() - began


def drawn_events(run: Run, num: int) -> list[dict[str, Any]]:
    """Pairs of the run's last events in another order, at later times."""
    stream, rng = run.stream, np.random.default_rng(0)
    chosen = rng.integers(stream.num_events // 2, stream.num_events, num)
    gaps = np.diff(stream.t[-num - 1 :]) if num < stream.num_events else np.ones(num, np.int64)
    t = int(stream.t[-1]) + 1 + np.cumsum(gaps)
    src, dst = (stream.raw_ids(column[chosen]) for column in (stream.src, stream.dst))
    events = [
        {"src": plain(s), "dst": plain(d), "t": int(w)} for s, d, w in zip(src, dst, t, strict=True)
    ]
    if stream.edge_features is not None:
        for event, row in zip(events, stream.edge_features[chosen].tolist(), strict=True):
            event["features"] = row
    return events


def plain(raw: Any) -> str | int:
    return raw if isinstance(raw, str) else int(raw)


class Load:
    """One client that sends events, and others that ask meanwhile."""

    def __init__(self, options: argparse.Namespace, events: list[dict[str, Any]]) -> None:
        self._options, self._events = options, events
        self._pairs = [[event["src"], event["dst"]] for event in events]
        self.seconds: dict[str, list[float]] = {"events": [], "score": [], "recommend": []}
        self.statuses: dict[int, int] = {}
        self.ingest_seconds = 0.0

    def run(self, port: int, first: int, end: int) -> None:
        """Send events first to end; ask until they are in."""
        done = threading.Event()
        asking = [
            threading.Thread(target=self._ask, args=(port, kind, done))
            for kind in ("score", "recommend")
            for _ in range(self._options.clients)
        ]
        for thread in asking:
            thread.start()
        began = time.perf_counter()
        client, size, rate = Client(port), self._options.per_request, self._options.rate
        for place in range(first, end, size):
            part = self._events[place : min(place + size, end)]
            self._timed(client, "events", "/v1/events", {"events": part, "after": place})
            if rate:
                wait = (place + len(part) - first) / rate - (time.perf_counter() - began)
                time.sleep(max(wait, 0))
        self.ingest_seconds += time.perf_counter() - began
        done.set()
        for thread in asking:
            thread.join()

    def _ask(self, port: int, kind: str, done: threading.Event) -> None:
        client, rng = Client(port), np.random.default_rng(1)
        while not done.is_set():
            chosen = rng.integers(0, len(self._pairs), self._options.pairs)
            body: dict[str, Any] = {"pairs": [self._pairs[place] for place in chosen]}
            if kind == "recommend":
                body = {"src": self._pairs[chosen[0]][0], "top": 10}
            self._timed(client, kind, f"/v1/{kind}", body)
            time.sleep(self._options.pause)

    def _timed(self, client: Client, kind: str, path: str, body: dict[str, Any]) -> None:
        began = time.perf_counter()
        status, answer = client(path, body)
        self.seconds[kind].append(time.perf_counter() - began)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status not in (200, 429):
            sys.exit(f"{path}: {status} {answer}")


def lines(load: Load, num_events: int) -> Iterator[str]:
    """A table of what was measured."""
    yield f"{'':12}{'requests':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}{'max ms':>10}"
    for kind, seconds in load.seconds.items():
        shown = [f"{1000 * np.quantile(seconds, q):10.2f}" for q in (0.5, 0.95, 0.99, 1)]
        yield f"{kind:12}{len(seconds):>10,}{''.join(shown)}"
    yield f"events taken in: {num_events:,}, {num_events / load.ingest_seconds:,.0f} a second"


def main() -> None:
    """Measure, and say with what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--events", type=int, default=20_000, help="to send (20,000)")
    parser.add_argument("--per-request", type=int, default=10, help="events a request (10)")
    parser.add_argument("--rate", type=float, default=0, help="events a second at most (no limit)")
    parser.add_argument("--pairs", type=int, default=10, help="pairs a score request (10)")
    parser.add_argument("--clients", type=int, default=1, help="that ask for each kind (1)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between questions (0)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(shutil.copytree(options.run, Path(folder) / options.run.name))
        run = Run(run_dir)
        load = Load(options, drawn_events(run, options.events))
        process, port, seconds = start(run_dir)
        print(f"ready after {seconds:.1f} s: {run.stream.num_events:,} events known")
        half = options.events // 2 // options.per_request * options.per_request
        load.run(port, 0, half)
        question = ("/v1/score", {"pairs": load._pairs[:50]})
        before = Client(port)(*question)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process, port, seconds = start(run_dir)
        after = Client(port)(*question)
        print(f"SIGKILL; ready again after {seconds:.1f} s, {half:,} events from the journal")
        print(f"the same bits: {before == after and before[0] == 200}")
        load.run(port, half, options.events)
        status = Client(port)("/v1/status")[1]
        process.send_signal(signal.SIGTERM)
        process.wait()
    print("\n".join(lines(load, options.events)))
    print(f"status codes {load.statuses}; journal {status['journal_bytes'] / 1e6:.1f} MB")
    if before != after or status["num_events"] != options.events:
        sys.exit("the service has forgotten something")
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    print(f"torch {torch.__version__}, OMP_NUM_THREADS {threads}, {platform.processor()}")


if __name__ == "__main__":
    main()
