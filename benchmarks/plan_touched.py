"""How well the planner knows the distinct nodes of a time slice.

Three answers for the rows that W workers pull an event: what the slices of many batches
pull, as `benchmarks/placement.py` counts them; the planner's interpolation of counts on
slices of other sizes; and a power law fitted to the stream's degrees.

    python benchmarks/plan_touched.py STREAM... > table.md
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from placement import Work, time_slices

from pres_dist.config.run import RunConfig
from pres_dist.events.builtin import load_stream
from pres_dist.events.split import chronological_split
from pres_dist.events.stream import EventStream
from pres_dist.planner.power_law import (
    PowerLawTouches,
    fitted_exponent,
    of_degrees,
    power_law,
)
from pres_dist.planner.touched import count_touches


def fitted(stream: EventStream, config: RunConfig, batch: int) -> PowerLawTouches:
    """The power law with the stream's own nodes, events, steepness and repeats."""
    end = chronological_split(stream).train_end
    src, dst = np.asarray(stream.src[:end]), np.asarray(stream.dst[:end])
    ends = [src, dst] if stream.bipartite else [np.concatenate([src, dst])] * 2
    sides = [of_degrees(np.bincount(side)) for side in ends]
    exponents = [fitted_exponent(side, batch) for side in sides]
    laws = [
        power_law(int(side.num_nodes), exponent)
        for side, exponent in zip(sides, exponents, strict=True)
    ]
    pairs = len(np.unique(src * stream.num_nodes + dst))
    return PowerLawTouches(
        laws[0],
        laws[1],
        stream.bipartite,
        end if stream.bipartite else 2 * end,
        config.sampling.num_negatives,
        config.sampling.num_neighbors,
        1,
        config.memory.mailbox_slots,
        1 - pairs / end,
        f"exponents {exponents[0]:.2f} and {exponents[1]:.2f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("streams", nargs="+")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8, 64])
    parser.add_argument("--batch-size", type=int, default=4000)
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--batches", type=int, default=40)
    options = parser.parse_args()
    config = RunConfig()
    print("| stream | W | rows pulled an event | interpolated | error | power law | error | |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.streams:
        stream = load_stream(name)
        work = Work(stream, options)
        counted = count_touches(stream, config, options.batch_size)
        law = fitted(stream, config, options.batch_size)
        for world in options.workers:
            pulled = [
                sum(work.nodes(part).numel() for part in time_slices(batch, world))
                / batch.num_events
                for batch in work.batches()
            ]
            seen = float(np.mean(pulled))
            each = options.batch_size / world
            told = [model.touched(each).pulled / each for model in (counted, law)]
            cells = [f"{one:.2f} | {one / seen - 1:+.0%}" for one in told]
            print(
                f"| {stream.name} | {world} | {seen:.2f} | {' | '.join(cells)} | {law.name}, "
                f"{law.repeat_share:.0%} repeats |",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
