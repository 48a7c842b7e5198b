"""Peak memory and speed of the temporal adjacency: build it, then sample every event once.

    python benchmarks/sampling_memory.py data/flights3m
    python benchmarks/sampling_memory.py --synthesize 100000000

Samples the 10 most recent neighbors of source, destination and one negative of
each event, in temporal batches of 4,000. Resident memory counts the pages of the
memory-mapped stream that were read, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pres_dist.config.sampling import SamplingConfig
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import NegativeSampler, destinations_of
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import TemporalLoader
from pres_dist.training.timing import peak_rss_bytes


def measure(path: Path) -> dict[str, Any]:
    """Build the adjacency of a stream and go through it once."""
    torch.set_num_threads(1)
    opened = time.perf_counter()
    stream = EventStream.open(path)
    started = time.perf_counter()
    tables = EventTables(stream)
    adjacency = TemporalAdjacency(stream, tables)
    built, built_rss = time.perf_counter(), peak_rss_bytes()
    sampler = NeighborSampler(adjacency, SamplingConfig(), seed=0)
    every = range(stream.num_events)
    negatives = NegativeSampler(
        "random", stream, destinations_of(stream), adjacency, stream.num_events, seed=0
    )
    found = 0
    for batch in TemporalLoader(every, stream.t, 4000).batches(tables):
        negatives_B1 = negatives.sample(batch.src_B, batch.dst_B, batch.events_B, 1, epoch=0)
        nodes_Q = torch.cat([batch.src_B, batch.dst_B, negatives_B1[:, 0]])
        before_Q = adjacency.first_event_at(batch.t_B).repeat(3)
        found += int(sampler.sample(nodes_Q, before_Q).mask_QK.sum())
    ended = time.perf_counter()
    return {
        "stream": stream.name,
        "events": stream.num_events,
        "nodes": stream.num_nodes,
        "open_ms": round(1000 * (started - opened), 1),
        "build_seconds": round(built - started, 1),
        "peak_rss_after_build_mib": round(built_rss / 2**20),
        "sampling_seconds": round(ended - built, 1),
        "events_per_second": round(stream.num_events / (ended - built)),
        "neighbors_found": found,
        "peak_rss_mib": round(peak_rss_bytes() / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stream", nargs="?", type=Path)
    parser.add_argument("--synthesize", type=int, help="make a stream of so many events first")
    arguments = parser.parse_args()
    if arguments.synthesize is None:
        print(json.dumps(measure(arguments.stream), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        path, events = f"{folder}/synthetic", str(arguments.synthesize)
        command = [sys.executable, "-m", "pres_dist", "data", "synthesize", "--out", path]
        # Processes of their own, so that neither's memory counts as the other's.
        subprocess.run([*command, "--events", events], check=True, stdout=sys.stderr)
        subprocess.run([sys.executable, __file__, path], check=True)


if __name__ == "__main__":
    main()
