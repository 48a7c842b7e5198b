"""Accuracy of the planner's number of distinct nodes of a time slice.

Three answers for the rows that W workers pull an event: what the slices of many batches of
the training split pull (endpoints, a negative each, and the recent neighbors of all); the
planner's interpolation of counts on slices of other sizes; and a power law fitted to the
stream's degrees.

    python benchmarks/plan_touched.py STREAM... > table.md
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.run import RunConfig
from pres_dist.config.sampling import SamplingConfig
from pres_dist.events.builtin import load_stream
from pres_dist.events.split import chronological_split
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.planner.power_law import (
    PowerLawTouches,
    fitted_exponent,
    of_degrees,
    power_law,
)
from pres_dist.planner.touched import count_touches
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import NegativeSampler, destinations_of
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import TemporalBatch, TemporalLoader
from pres_dist.step.gather import gather

_SEED = 0


class Work:
    """Nodes that workers would gather for a stream's temporal batches."""

    def __init__(self, stream: EventStream, options: argparse.Namespace) -> None:
        train_end = chronological_split(stream).train_end
        self._tables = EventTables(stream, torch.device("cpu"))
        adjacency = TemporalAdjacency(stream, self._tables)
        sampling = SamplingConfig(num_neighbors=options.neighbors)
        self._sampler = NeighborSampler(adjacency, sampling, _SEED)
        destinations = destinations_of(stream, range(train_end))
        self._negatives = NegativeSampler(
            "random", stream, destinations, adjacency, train_end, _SEED
        )
        sweep = TemporalLoader(range(train_end), stream.t, options.batch_size)
        self._chosen = np.linspace(0, len(sweep) - 1, options.batches).astype(int).tolist()
        self._sweep = sweep

    def batches(self) -> Iterator[TemporalBatch]:
        for number in self._chosen:
            yield self._sweep.batch(self._tables, number)

    def nodes(self, batch: TemporalBatch) -> Tensor:
        """Distinct nodes [U] that a worker pulls to compute these events."""
        events = (batch.src_B, batch.dst_B, batch.events_B)
        negatives_BM = self._negatives.sample(*events, num=1, epoch=1)
        return gather(batch, negatives_BM, self._sampler, self._tables, 1, epoch=1).nodes_U


def time_slices(batch: TemporalBatch, world: int) -> list[TemporalBatch]:
    cuts = [batch.events_B.numel() * rank // world for rank in range(world + 1)]
    return [batch.part(slice(*ends)) for ends in pairwise(cuts)]


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
