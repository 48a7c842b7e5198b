"""Build the parts of a run from its configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from pres_dist.config.data import DataConfig
from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.config.run import RunConfig
from pres_dist.evaluation.ranking_negatives import check_negatives, negatives_of
from pres_dist.events.builtin import load_stream
from pres_dist.events.identity import check_same_events
from pres_dist.events.split import (
    Split,
    as_index,
    chronological_split,
    official_split,
    unseen_nodes,
)
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables, standardize
from pres_dist.host_memory import keep_freed_memory
from pres_dist.memory.state import MemoryStore
from pres_dist.memory.traffic import Traffic
from pres_dist.model.embedding import num_hops
from pres_dist.model.tgn import TGN, StreamShape
from pres_dist.parallel.device import device_of, is_here
from pres_dist.parallel.whole_memory import load_memory
from pres_dist.parallel.world import World
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.mixture import training_negatives
from pres_dist.sampling.negatives import Negatives, destinations_of
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.sampling.stored_keys import on_disk
from pres_dist.step.batches import TemporalLoader
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.stages import StageClock
from pres_dist.training.checkpoint import Checkpoint
from pres_dist.training.logs import num_log_numbers, open_log, standardize_numbers
from pres_dist.training.state import load_weights
from pres_dist.training.stores import Close, layout_of, open_store
from pres_dist.training.tasks.classification import Classification, labels_of
from pres_dist.training.tasks.link_prediction import LinkPrediction
from pres_dist.training.tasks.pretrained import freeze_encoder
from pres_dist.training.tasks.task import Task


@dataclass(frozen=True)
class Data:
    """Event stream of a run, its split, and its columns on the device.

    Attributes:
        kept: ids of training events; a range unless nodes are held out.
        unseen_N: bool, True for nodes without a training event.
        unit_end: end of the events that define the time unit, if the run was extended after its
            first training: its weights depend on the unit of the first training split.
        log_bipartite: whether the event log is read as that of a bipartite stream; None if the
            stream decides.
    """

    stream: EventStream
    split: Split
    tables: EventTables
    kept: range | np.ndarray
    unseen_N: np.ndarray
    unit_end: int | None = None
    log_bipartite: bool | None = None

    @property
    def reads_bipartite(self) -> bool:
        """True if a decoder reads the event log as that of a bipartite stream."""
        return self.stream.bipartite if self.log_bipartite is None else self.log_bipartite

    @property
    def time_unit(self) -> float:
        """Mean gap between training events, in the stream's own units; at least 1."""
        t, end = self.stream.t, self.unit_end or self.split.train_end
        return max(float(int(t[end - 1]) - int(t[0])) / max(end - 1, 1), 1.0)


@dataclass(frozen=True)
class Parts:
    """All objects that training and evaluation use.

    Attributes:
        close: releases the store; all workers call it at the end of the run.
        train_pipeline: pipeline that reads only the histories visible in training.
        evaluation_pipeline: pipeline with the same model and store that reads all histories.
    """

    config: RunConfig
    data: Data
    task: Task
    model: TGN
    store: MemoryStore
    close: Close
    train_pipeline: BatchPipeline
    evaluation_pipeline: BatchPipeline
    train_negatives: Negatives
    world: World
    clock: StageClock

    @property
    def device(self) -> torch.device:
        return self.data.tables.device

    @property
    def traffic(self) -> Traffic | None:
        """Traffic of this worker, or None if its store does not count it."""
        return getattr(self.store, "traffic", None)

    @cached_property
    def train_loader(self) -> TemporalLoader:
        """Loader of the training events, which are cut into batches on the first use."""
        return self.evaluation_loader(self.data.kept, self.config.training.events_per_batch)

    def evaluation_loader(self, events: range | np.ndarray, batch_size: int) -> TemporalLoader:
        """Return a loader of any events of the stream."""
        return TemporalLoader(events, self.data.stream.t, batch_size)

    def load(self, checkpoint: Checkpoint) -> None:
        """Load weights and node state; raise CheckpointError if they are of other events."""
        state = checkpoint.training_state()
        check_same_events(self.data.stream, state.fingerprint)
        load_weights(self.model, state.model, str(checkpoint.file))
        load_memory(self.store, checkpoint.memory, self.world)

    def evaluation_negatives(self, config: EvaluationConfig) -> Negatives:
        """Return the negatives that events are ranked against in an evaluation."""
        adjacency = self.evaluation_pipeline.sampler.adjacency
        return negatives_of(config, self.data.stream, self.data.split, adjacency)


def load_data(config: RunConfig, device: torch.device) -> Data:
    """Open and split the stream; raise DataError or ConfigError if it cannot be used."""
    stream = load_stream(config.data.stream, config.data.max_events)
    return split_data(stream, config, device)


def split_data(stream: EventStream, config: RunConfig, device: torch.device) -> Data:
    """Split a loaded stream according to the configuration.

    Raises:
        DataError, ConfigError: the stream cannot be split or evaluated this way.
    """
    split = split_of(config.data, stream)
    check_negatives(config.evaluation, stream, split)
    return data_of(stream, split, config, device)


def data_of(stream: EventStream, split: Split, config: RunConfig, device: torch.device) -> Data:
    """Combine a stream with a split of its events, or of the first of them."""
    mask = split.training_mask(stream)
    kept = split.train if mask is None else np.flatnonzero(mask)
    tables = _tables(stream, kept, config.data.standardize, device)
    return Data(stream, split, tables, kept, unseen_nodes(stream, split))


def split_of(config: DataConfig, stream: EventStream) -> Split:
    """Return the split defined by the configuration."""
    hidden = (config.held_out_share, config.split_seed)
    if config.split == "official":
        return official_split(stream, *hidden)
    return chronological_split(stream, config.train_share, config.validation_share, *hidden)


def _tables(
    stream: EventStream, kept: range | np.ndarray, scaled: bool, device: torch.device
) -> EventTables:
    """Copy the columns to the device; scale features by statistics of the training events."""
    edges, nodes = stream.edge_features, stream.node_features
    if edges is not None:
        edges = edges[as_index(kept)]
    return EventTables(
        stream,
        device,
        standardize(edges) if scaled and edges is not None else None,
        standardize(nodes) if scaled and nodes is not None else None,
    )


def assemble(config: RunConfig, data: Data, world: World | None = None) -> Parts:
    """Build model, store, samplers and steps; initialize weights from the run's seed.

    The caller must call `Parts.close` at the end, also after an error.
    """
    world = world or World()
    device, clock = data.tables.device, StageClock()
    task: Task = LinkPrediction(config.sampling.num_negatives)
    if config.task.kind != "link_prediction":
        where = f"task.kind {config.task.kind}"
        labels = labels_of(data.stream, config.task.missing_label, data.kept, where)
        num_negatives = config.sampling.num_negatives
        task = Classification(config.task, labels, data.kept, num_negatives, device)
    # The same seed on all workers, which so draw the same weights and need not send them.
    torch.manual_seed(config.training.seed)
    stream, num_numbers = data.stream, num_log_numbers(config, data)
    shape = StreamShape(stream.edge_dim, stream.node_dim, data.time_unit, num_numbers)
    classifier = task.classifier(config.model, shape.edge_dim)
    model = TGN(config.model, config.memory, config.pres, shape, classifier).to(device)
    if config.task.pretrained is not None:
        freeze_encoder(model)
    layout = layout_of(config, data.time_unit, device)
    store, close = open_store(config, data.stream, layout, world)
    adjacency = _adjacency(config, data, world)
    # Training sees no event of a held-out node, neither as a neighbor nor in the event log.
    training_adjacency, keep_E = adjacency, None
    if isinstance(data.kept, np.ndarray):
        keep_E = np.zeros(data.stream.num_events, dtype=bool)
        keep_E[data.kept] = True
        training_adjacency = _adjacency(config, data, world, keep_E)
    sampler = NeighborSampler(adjacency, config.sampling, config.training.seed)
    log = open_log(config, data, sampler, world)
    train_sampler, train_log = sampler.over(training_adjacency), log
    if keep_E is not None:
        train_log = open_log(config, data, train_sampler, world, keep_E)
    pipeline = BatchPipeline(
        model=model,
        store=store,
        tables=data.tables,
        sampler=sampler,
        num_hops=num_hops(config.model),
        mail_hops=config.model.mail_hops,
        log=log,
        clock=clock,
    )
    train_pipeline = replace(
        pipeline, sampler=train_sampler, log=train_log, reads_lag=config.memory.staleness > 0
    )
    negatives = training_negatives(
        config.sampling.negatives,
        data.stream,
        destinations_of(data.stream, data.kept),
        training_adjacency,
        data.kept,
        data.split.train_end,
        config.training.seed,
    )
    parts = Parts(
        config, data, task, model, store, close, train_pipeline, pipeline, negatives, world, clock
    )
    standardize_numbers(parts)
    return parts


def _adjacency(
    config: RunConfig, data: Data, world: World, keep_E: np.ndarray | None = None
) -> TemporalAdjacency:
    """Return the histories of nodes; if stored in a file, one worker writes it and all read it."""
    home = config.sampling.adjacency

    def build() -> TemporalAdjacency:
        return TemporalAdjacency(data.stream, data.tables, keep_E, home)

    return world.rank0_first(build) if on_disk(home, data.stream.num_events) else build()


@contextmanager
def assembled(config: RunConfig, device: torch.device, world: World) -> Iterator[Parts]:
    """Assemble the parts over the run's own stream; close the store at the end of the block."""
    data = world.rank0_first(lambda: load_data(config, device))
    parts = assemble(config, data, world)
    try:
        yield parts
    finally:
        parts.close()


def choose_device(config: RunConfig, trained: bool = False) -> torch.device:
    """Return the torch device of the configuration; set this process's threads, memory and sums.

    Args:
        config: the settings.
        trained: if this machine lacks the configured device, use the best available one,
            since the run may have been trained on another machine.
    """
    keep_freed_memory()
    if config.training.num_threads:
        torch.set_num_threads(config.training.num_threads)
    if config.training.deterministic:
        # cuBLAS reads this when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    name = config.training.device
    return device_of("auto" if trained and not is_here(name) else name)
