"""Event logs for decoders that read them.

Shapes: E events, n training events, F numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pres_dist.config.run import RunConfig
from pres_dist.model.history import HistoryDecoder
from pres_dist.parallel.world import World
from pres_dist.sampling.event_log import EventLog, PairLog, numbers_of
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.sampling.stored_keys import on_disk

if TYPE_CHECKING:
    from pres_dist.training.setup import Data, Parts

_SAMPLE = 2048
"""Largest number of training events to estimate mean and standard deviation from."""


def num_log_numbers(config: RunConfig, data: Data) -> int:
    """Return the number of inputs that the decoder reads from the log; 0 if it reads none."""
    return len(numbers_of(data.reads_bipartite)) if config.model.decoder == "history" else 0


def open_log(
    config: RunConfig,
    data: Data,
    sampler: NeighborSampler,
    world: World,
    keep_E: np.ndarray | None = None,
) -> EventLog | None:
    """Return the log over the sampler's histories; None if the decoder reads none.

    If the pairs are stored in a file, one worker writes it and all read it.

    Args:
        config: configuration of the run.
        data: its events.
        sampler: sampler over the histories of nodes.
        world: the workers.
        keep_E: [E] bool, False for events that the log may not contain; all when None.
    """
    if config.model.decoder != "history":
        return None
    stream, home = data.stream, config.sampling.adjacency

    def build() -> PairLog:
        return PairLog(stream, data.tables.device, keep_E, home)

    pairs = world.rank0_first(build) if on_disk(home, stream.num_events) else build()
    common = config.model.reads_common_neighbors
    return EventLog(sampler, pairs, data.tables, data.reads_bipartite, common)


def standardize_numbers(parts: Parts) -> None:
    """Set the decoder's mean and standard deviation of log inputs from training events.

    The events are spread evenly over the training split, each with one negative of the kind used
    in training. The constants are therefore the same on all workers and use no later event.
    """
    log, decoder = parts.train_pipeline.log, parts.model.decoder
    if log is None or not parts.config.data.standardize:
        return
    assert isinstance(decoder, HistoryDecoder)
    kept, tables = parts.data.kept, parts.data.tables
    places = np.linspace(0, len(kept) - 1, min(_SAMPLE, len(kept))).astype(np.int64)
    chosen = torch.tensor([int(kept[place]) for place in places], device=tables.device)
    src_n, dst_n = tables.src_E[chosen], tables.dst_E[chosen]
    negatives_n1 = parts.train_negatives.sample(src_n, dst_n, chosen, 1, epoch=0)
    candidates_n2 = torch.cat([dst_n[:, None], negatives_n1], dim=1)
    t_n = tables.times(chosen)
    before_n = log.sampler.adjacency.first_event_at(t_n)
    decoder.standardize(log.numbers(src_n, candidates_n2, t_n, before_n).flatten(0, 1))
