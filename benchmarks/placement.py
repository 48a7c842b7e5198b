"""Which rows a worker pulls from others, by the placement of nodes.

    python benchmarks/placement.py STREAM... > table.md

For some temporal batches of the training split, spread evenly over it, the nodes of each
worker are gathered as in training: endpoints, a negative each, and the recent neighbors
of all. Workers compute time slices; then, to show what a partition could buy, the events
whose source they keep.

Shapes: N nodes, W workers, B events of a temporal batch, U distinct nodes of a worker.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.sampling import SamplingConfig
from pres_dist.events.split import chronological_split
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.memory.partition import mixed
from pres_dist.memory.placement import Placement, TablePlacement, make_placement
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import NegativeSampler, destinations_of
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import Sweep, TemporalBatch
from pres_dist.step.gather import gather

_SEED = 0


class Work:
    """What workers would gather of a stream's temporal batches."""

    def __init__(self, stream: EventStream, options: argparse.Namespace) -> None:
        self.train_end = chronological_split(stream).train_end
        self._tables = EventTables(stream, torch.device("cpu"))
        adjacency = TemporalAdjacency(stream, self._tables)
        sampling = SamplingConfig(num_neighbors=options.neighbors)
        self._sampler = NeighborSampler(adjacency, sampling, _SEED)
        destinations = destinations_of(stream, range(self.train_end))
        self._negatives = NegativeSampler(
            "random", stream, destinations, adjacency, self.train_end, _SEED
        )
        sweep = Sweep(range(self.train_end), stream.t, options.batch_size)
        self._chosen = np.linspace(0, len(sweep) - 1, options.batches).astype(int).tolist()
        self._sweep = sweep

    def batches(self) -> Iterator[TemporalBatch]:
        for number in self._chosen:
            yield next(self._sweep.batches(self._tables, number))

    def nodes(self, batch: TemporalBatch) -> Tensor:
        """Distinct nodes [U] that a worker pulls to compute these events."""
        events = (batch.src_B, batch.dst_B, batch.events_B)
        negatives_BM = self._negatives.sample(*events, num=1, epoch=1)
        return gather(batch, negatives_BM, self._sampler, self._tables, 1, epoch=1).nodes_U


def time_slices(batch: TemporalBatch, world: int) -> list[TemporalBatch]:
    cuts = [batch.events_B.numel() * rank // world for rank in range(world + 1)]
    return [batch.part(slice(*ends)) for ends in pairwise(cuts)]


def by_source(batch: TemporalBatch, placement: Placement) -> list[TemporalBatch]:
    owner_B = placement.owner(batch.src_B)
    return [
        TemporalBatch(*(column[owner_B == rank] for column in vars(batch).values()))
        for rank in range(placement.world)
    ]


@dataclass
class Shares:
    """Sums over batches.

    Attributes:
        rows: rows that were pulled, and those of other workers among them.
        fullest: rows asked of the owner that most were asked of.
        busiest: events of the worker that had most.
    """

    world: int
    rows: int = 0
    remote: int = 0
    fullest: int = 0
    events: int = 0
    busiest: int = 0

    def add(self, parts: list[TemporalBatch], pulled: list[Tensor], placement: Placement) -> None:
        asked_WW = torch.stack(
            [torch.bincount(placement.owner(nodes), minlength=self.world) for nodes in pulled]
        )
        self.rows += int(asked_WW.sum())
        self.remote += int(asked_WW.sum() - asked_WW.diagonal().sum())
        self.fullest += int(asked_WW.sum(0).max())
        sizes = [part.events_B.numel() for part in parts]
        self.events += sum(sizes)
        self.busiest += max(sizes)

    def cells(self) -> list[str]:
        return [
            f"{self.rows / self.events:.2f}",
            f"{100 * self.remote / self.rows:.1f}%",
            f"{self.world * self.fullest / self.rows:.2f}",
            f"{self.world * self.busiest / self.events:.2f}",
        ]


def placements(stream: EventStream, train_end: int, world: int) -> dict[str, Placement]:
    hashed_N = (mixed(np.arange(stream.num_nodes)) % np.uint64(world)).astype(np.int64)
    return {
        "modulo": make_placement("modulo", stream, train_end, world),
        "hash": TablePlacement(torch.from_numpy(hashed_N), world),
        "streaming": make_placement("streaming", stream, train_end, world),
    }


def rows_of(stream: EventStream, work: Work, world: int) -> Iterator[list[str]]:
    candidates = placements(stream, work.train_end, world)
    shares = {(how, name): Shares(world) for how in ("slices", "source") for name in candidates}
    for batch in work.batches():
        slices = time_slices(batch, world)
        pulled = [work.nodes(part) for part in slices]
        for name, placement in candidates.items():
            shares["slices", name].add(slices, pulled, placement)
            parts = by_source(batch, placement)
            shares["source", name].add(parts, [work.nodes(part) for part in parts], placement)
    for (how, name), share in shares.items():
        sizes = [len(candidates[name].nodes_of(rank)) for rank in range(world)]
        kept = f"{world * max(sizes) / stream.num_nodes:.2f}"
        yield [stream.name, str(world), how, name, kept, *share.cells()]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("streams", nargs="+", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--batch-size", type=int, default=4_000, help="events of all workers")
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--batches", type=int, default=40, help="batches that are looked at")
    return parser.parse_args()


def main(options: argparse.Namespace) -> None:
    print("| stream | W | computed by | placement | nodes kept, most / mean ", end="")
    print("| rows pulled an event | remote | rows asked of an owner, most / mean ", end="")
    print("| events computed, most / mean |")
    print("|---" * 9 + "|")
    for path in options.streams:
        stream = EventStream.open(path)
        work = Work(stream, options)
        for world in options.workers:
            for cells in rows_of(stream, work, world):
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(parse())
