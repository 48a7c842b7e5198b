"""Simulated steps of many workers: stragglers, slow shards, reads ahead, lost nodes.

The plan grows with the workers: each has a slice of as many events. Times of computing and
of exchanges come from the planner's model of a machine; the simulation adds what one step
at a time does not show.

    python benchmarks/plan_simulation.py --workers 64,256,1024,4096
"""

from __future__ import annotations

import argparse

from pres_dist.config.load import load_config
from pres_dist.planner.failures import losses
from pres_dist.planner.layout import Layout
from pres_dist.planner.machine import load_machine
from pres_dist.planner.power_law import assumed_touches
from pres_dist.planner.predict import predict
from pres_dist.planner.simulate import Disturbed, cluster_of, disturbed
from pres_dist.planner.units import duration
from pres_dist.planner.workload import Workload


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", default="64,256,1024,4096", help="by commas")
    parser.add_argument("--local-batch", type=int, default=500, help="events of a slice")
    parser.add_argument("--nodes", type=float, default=1e8)
    parser.add_argument("--events", type=float, default=1e10)
    parser.add_argument("--machine", default="two-cores")
    parser.add_argument("--mtbf-hours", type=float, default=50_000, help="of a node")
    parser.add_argument("--restart-seconds", type=float, default=120)
    options, overrides = parser.parse_known_args()
    config, machine = load_config(None, overrides), load_machine(options.machine)
    work = Workload(config, int(options.nodes), int(options.events))
    touch = assumed_touches(config, work.num_nodes, work.num_events, 0, 1.0, 0.0)
    counts = [int(count) for count in options.workers.split(",")]
    found, lossy = [], []
    for workers in counts:
        plan = Layout(workers, 1, 1, workers * options.local_batch)
        cost = predict(work, plan, machine, touch)
        cluster = cluster_of(cost, plan, machine)
        found.append(disturbed(cluster))
        lossy.append(losses(work, plan, machine, options.mtbf_hours, options.restart_seconds))
        print(
            f"{workers:,} workers: computing {duration(cluster.compute_s)}, a shard's pulls "
            f"{duration(workers * cluster.pull_s)} and pushes "
            f"{duration(workers * cluster.push_s)}, gradients {duration(cluster.reduce_s)}"
        )
    heads = " | ".join(f"{count:,}" for count in counts)
    print(f"\n| scenario | staleness | {heads} |\n{'|---' * (2 + len(counts))}|")
    for rows in zip(*found, strict=True):
        print(f"| {rows[0].name} | {rows[0].staleness} | {' | '.join(map(_cell, rows))} |")
    print(f"\n| | {heads} |\n{'|---' * (1 + len(counts))}|")
    for name, values in (
        ("a failure somewhere every", [duration(one.failures.mtbf_s) for one in lossy]),
        ("a checkpoint takes", [duration(one.failures.save_s) for one in lossy]),
        ("best time between checkpoints", [duration(one.best_s) for one in lossy]),
        ("by Young", [duration(one.young_s) for one in lossy]),
        ("by Daly", [duration(one.daly_s) for one in lossy]),
        ("time that ends up in weights", [f"{one.useful:.1%}" for one in lossy]),
    ):
        print(f"| {name} | {' | '.join(values)} |")


def _cell(row: Disturbed) -> str:
    return f"{row.throughput:.0%} ({row.found.waiting:.0%}, {row.found.reading:.0%})"


if __name__ == "__main__":
    main()
