"""CPU time of what a scoring service does, in one process without a network.

    python benchmarks/serve_cost.py runs/wikipedia-…

Where other work shares the machine, CPU time says more than latencies do. The run is copied
first, so that it stays as it is.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from serve_load import drawn_events

from pres_dist.inference.run import Run
from pres_dist.inference.serve.request_models import IngestRequest, RecommendRequest, ScoreRequest
from pres_dist.inference.serve.service import ScoringService

ROUNDS = 100


def measured(name: str, call: Callable[[int], object], before: Callable[[], object]) -> str:
    """A line with the median and the tail of the CPU milliseconds of a call."""
    spent = []
    for number in range(ROUNDS):
        before()
        began = time.process_time()
        call(number)
        spent.append(1000 * (time.process_time() - began))
    shown = [f"{np.quantile(spent, q):9.2f}" for q in (0.5, 0.95, 0.99)]
    return f"{name:44}{''.join(shown)}"


def main() -> None:
    """Measure each kind of request, with and without events before it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(shutil.copytree(options.run, Path(folder) / options.run.name))
        events = drawn_events(Run(run_dir), 20 * ROUNDS)
        waiting = iter(events)
        service = ScoringService(run_dir)

        def take_in(num: int) -> None:
            chosen = [next(waiting) for _ in range(num)]
            service.ingest(IngestRequest.model_validate({"events": chosen}))

        def score(first: int, num: int) -> None:
            pairs = [(event["src"], event["dst"]) for event in events[first : first + num]]
            service.score(ScoreRequest.model_validate({"pairs": pairs}))

        def recommend(number: int) -> None:
            service.recommend(RecommendRequest(src=events[number]["src"], top=10))

        def nothing() -> None:
            pass

        def event() -> None:
            take_in(1)

        print(f"{'CPU ms':44}{'p50':>9}{'p95':>9}{'p99':>9}")
        print(measured("1 event", lambda _: take_in(1), nothing))
        print(measured("10 events", lambda _: take_in(10), nothing))
        print(measured("score of 1 pair", lambda n: score(n, 1), nothing))
        print(measured("score of 1 pair after an event", lambda n: score(n, 1), event))
        print(measured("scores of 1,000 pairs", lambda n: score(n, 1000), nothing))
        print(measured("recommendations", recommend, nothing))
        print(measured("recommendations after an event", recommend, event))
        known = service.memory.known_nodes(service.memory.num_events)
        num = int(service.names.destinations()[known.cpu()].sum())
        service.close()
        began = time.process_time()
        with ScoringService(run_dir) as again:
            spent = time.process_time() - began
            print(f"start with {again.num_events:,} events in the journal: {spent:.2f} s of CPU")
        print(f"{num:,} candidates, {service.memory.num_events:,} events in all")


if __name__ == "__main__":
    main()
