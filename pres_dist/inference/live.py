"""Trained model of a run, with memory that can be moved to any time.

The best checkpoint holds the memory at the end of the training split. Later events are
processed as in evaluation: the validation split, the test split and each extension are cut
into temporal batches of `evaluation.batch_size`. The memory at a time t is the result of all
complete batches before t, followed by the events before t of the batch that contains t, as a
smaller batch. So it does not depend on earlier queries.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, DataError, NonFiniteError
from pres_dist.evaluation.scoring import plan_of, take_in
from pres_dist.events.lookup import NodeLookup
from pres_dist.inference.stretches import Stretch, stretches_of
from pres_dist.inference.times import latest_allowed, shown
from pres_dist.inference.versions import RunState, current_version, open_state
from pres_dist.memory.local import LocalStore
from pres_dist.memory.state import NodeState
from pres_dist.model.tgn import TGN, UpdatedMemory
from pres_dist.parallel.grid import evaluation_grid
from pres_dist.parallel.world import World
from pres_dist.report.run_folder import read_config
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.step.batches import TemporalBatch, batch_of
from pres_dist.step.forward import Forward
from pres_dist.step.history import Queries, joined_queries
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan
from pres_dist.training.setup import Parts, assemble, choose_device
from pres_dist.training.state import load_weights
from pres_dist.training.stores import without_servers

Report = Callable[[int, int, int], None]
"""Progress callback: events or rows so far, then work done and total work in the same unit."""

Watch = Callable[[TemporalBatch, Sequence[Forward]], None]
"""Called with each temporal batch that memory was updated with, and its slices' results."""

MOST_QUERIES = 1 << 13
"""Most nodes that are embedded at once, which bounds memory use."""


def quiet(events: int, done: int, total: int) -> None:
    """Report nothing."""


class LiveRun:
    """Best epoch of a run over its stream, on one worker.

    Args:
        run_dir: folder of the run.
        replay: rebuild the memory from the first event with the final weights, which allows
            times inside the training split and costs accuracy (docs/pres.md).
        opened: state to start from that is not in the folder yet.
        device: device to compute on, as in `training.device`. None uses the device that the run
            was trained on, or the best device of this machine if that one is missing.
        stream: current path of the run's stream; None if it was not moved.

    Raises:
        ConfigError: `run_dir` is not a run folder, or there are several workers.
        CheckpointError: there is no usable checkpoint, or it belongs to other events.
        DataError: the stream cannot be used.
    """

    def __init__(
        self,
        run_dir: Path,
        replay: bool = False,
        opened: RunState | None = None,
        device: str | None = None,
        stream: Path | None = None,
    ) -> None:
        _check_alone()
        self.run_dir, self.moved_stream = run_dir, stream
        self.config: RunConfig = without_servers(read_config(run_dir, stream))
        if stream is not None and (version := current_version(run_dir)) is not None:
            raise ConfigError(
                f"{run_dir}: was extended, and all of its events are in {version}/stream: "
                f"--data.stream has no effect, got {stream}"
            )
        if device is not None:
            training = self.config.training.model_copy(update={"device": device})
            self.config = self.config.model_copy(update={"training": training})
        self._open = partial(
            open_state, run_dir, self.config, choose_device(self.config, trained=True)
        )
        state = opened or self._open()
        self.state = replace(state, memory={})  # the store holds it
        self._world = World(evaluation_grid(self.config.parallel, 0, 1))
        self.parts: Parts = assemble(self.config, state.data, self._world)
        self.stream, self.pipeline = self.parts.data.stream, self.parts.evaluation_pipeline
        self.lookup = NodeLookup(self.stream)
        self.replayed = replay
        self._stretches = stretches_of(self.parts, state.segments, replay)
        self._position = self._seen = 0
        self._undo: tuple[Tensor, NodeState] | None = None
        self._begin(state)

    @property
    def model(self) -> TGN:
        return self.parts.model

    @property
    def device(self) -> torch.device:
        return self.parts.device

    @property
    def checkpoint(self) -> str:
        """Name of the weights: their checkpoint, and a hash if they were trained further."""
        return self.state.weights_name

    @property
    def digest(self) -> str:
        """SHA-256 of the state that the weights are from, unique among checkpoints and runs."""
        return self.state.weights_digest

    @property
    def latest(self) -> int:
        """First time after all events of the stream."""
        return int(self.stream.t[-1]) + 1

    @property
    def earliest(self) -> int:
        """First time that the memory can be moved to."""
        first = self._stretches[0].first_event
        if first == 0 or not self.config.model.has_memory:
            return int(self.stream.t[0])
        return int(self.stream.t[first - 1]) + 1

    @property
    def scores_links(self) -> bool:
        """True if the link decoder has been trained."""
        return "link" in self.parts.task.losses or self.config.task.pretrained is not None

    def require_links(self) -> None:
        """Raise ConfigError unless the run has learned to score links."""
        if not self.scores_links:
            raise ConfigError(
                f"scores and recommendations need a run that learned links, this one learned "
                f"{self.config.task.kind} from labels alone (task.link_weight 0)"
            )

    def check_time(self, t: int, where: str) -> None:
        """Raise DataError for a time that the memory cannot be moved to."""
        latest = latest_allowed(self.stream, t, None) + 1
        if t > latest:
            raise DataError(
                f"{where} must be at most {latest} in the stream's unit, or ages would not be "
                f"int64, got {t}"
            )
        if t >= self.earliest:
            return
        hint = (
            "; a replay (--replay, in Python replay=True) rebuilds the memory from the first "
            "event, which costs accuracy"
        )
        first, last, got = (shown(self.stream, at) for at in (self.earliest, self.latest - 1, t))
        raise DataError(
            f"{where} must be at least {first}, where the memory of the checkpoint ends (the "
            f"last event is at {last}), got {got}{'' if self.replayed else hint}"
        )

    def first_event_at(self, t: int) -> int:
        """Return the id of the first event at or after a time."""
        return int(np.searchsorted(self.stream.t, t, side="left"))

    def batch_start(self, event: int) -> int:
        """Return the first event of the temporal batch of an event; `event` at the stream's end."""
        if event >= self.stream.num_events:
            return event
        for stretch in reversed(self._stretches):
            if event >= stretch.first_event:
                return stretch.borders[bisect_right(stretch.borders, event) - 1]
        return self._stretches[0].first_event

    @property
    def first_event(self) -> int:
        """First event that memory can be updated with."""
        return self._stretches[0].first_event

    def move_to(self, event: int, report: Report = quiet, watch: Watch | None = None) -> None:
        """Move the memory to a point in the stream: it has seen exactly the events before `event`.

        The memory moves forward from its current position, or starts again from the checkpoint.

        Args:
            event: id of the first event that the memory has not seen.
            report: progress callback.
            watch: called after every temporal batch that the memory is updated with.
        """
        if not self.config.model.has_memory or event == self._seen:
            return
        self._step_back()
        if event < self._position:
            self._begin(self._open(until=event))
        start = self._position
        for stretch in self._stretches:
            self._sweep(
                stretch, event, lambda at: report(at - start, at - start, event - start), watch
            )
        self._seen = event

    def embed(self, nodes: Tensor, t: Tensor, now: int) -> Tensor:
        """Return the [n, A] embeddings of nodes; see `query`."""
        return self.query(nodes, t, now).embedded_QA

    def query(self, nodes: Tensor, t: Tensor, now: int) -> Queries:
        """Embed nodes [n] at their times [n] from the current memory, for scoring.

        Args:
            nodes: int64, on the run's device or the host.
            t: int64, none before the time of the memory.
            now: the time that the memory was moved to.

        Raises:
            NonFiniteError: an embedding is NaN or infinite.
        """
        nodes, t = nodes.to(self.device), t.to(self.device)
        queries = query_in_parts(self.pipeline, nodes, t, now)
        if not bool(torch.isfinite(queries.embedded_QA).all()):
            raise NonFiniteError(f"embeddings at time {now} must be finite, and are not")
        return queries

    def memory(self, nodes: Tensor, now: int) -> UpdatedMemory:
        """Return the memory of distinct nodes, their mail applied; `nodes` may be on the host."""
        return self.pipeline.memory(nodes.to(self.device), torch.tensor(now, device=self.device))

    def known_nodes(self, event: int) -> Tensor:
        """Return the sorted nodes that have an event before the given one."""
        nodes = torch.arange(self.stream.num_nodes, device=self.parts.device)
        start, end = self.pipeline.sampler.adjacency.history(nodes, torch.full_like(nodes, event))
        return nodes[end > start]

    def partners(self, node: int, event: int) -> tuple[Tensor, Tensor]:
        """Return a node's partners before an event, with counts."""
        one = torch.tensor([node], device=self.parts.device)
        return partners_of(self.pipeline.sampler.adjacency, one, event)

    def _begin(self, state: RunState) -> None:
        """Load the weights, and the memory unless it is replayed."""
        load_weights(self.parts.model, state.weights, f"{self.run_dir}: {state.checkpoint}")
        self.parts.model.eval()
        self._undo = None
        self._position = self._seen = self._stretches[0].first_event
        if self.replayed:
            self.parts.store.reset()
        elif self.config.model.has_memory:
            self.parts.store.load_state_dict(state.memory)
            self._position = self._seen = state.memory_end

    def _sweep(
        self,
        stretch: Stretch,
        event: int,
        report: Callable[[int], None],
        watch: Watch | None,
    ) -> None:
        """Update the memory with the events of a stretch that come before the given event."""
        for first, end in zip(stretch.borders, stretch.borders[1:], strict=False):
            if first < self._position or first >= event:
                continue
            batch = self._batch(stretch, first, min(end, event))
            if batch is not None:
                forwards = self._take_in(stretch, batch, undoable=event < end)
                if watch is not None:
                    watch(batch, forwards)
            if event >= end:
                self._position = end
            report(min(end, event))

    def _batch(self, stretch: Stretch, first: int, end: int) -> TemporalBatch | None:
        events = stretch.between(first, end)
        if not len(events):
            return None
        tables = self.pipeline.tables
        events_B = torch.as_tensor(np.asarray(events)).to(tables.device)
        return batch_of(tables, events_B, int(events[0]))

    def _take_in(self, stretch: Stretch, batch: TemporalBatch, undoable: bool) -> Sequence[Forward]:
        pipeline = self.parts.train_pipeline if stretch.learns else self.pipeline
        plan = plan_of(pipeline, batch, self._world)
        if undoable and stretch.learns:  # statistics cannot be undone: the next move restarts
            self._position = self.stream.num_events + 1
        elif undoable:
            self._undo = rows_before(pipeline, plan)
        return take_in(pipeline, batch, plan, self._world, stretch.learns)

    def _step_back(self) -> None:
        """Undo the partial batch that the memory was last updated with."""
        if self._undo is not None:
            store = self.parts.store
            assert isinstance(store, LocalStore), "one worker keeps its memory itself"
            store.put_back(*self._undo)
            self._undo = None


def query_in_parts(pipeline: BatchPipeline, nodes: Tensor, t: Tensor, now: int) -> Queries:
    """Embed nodes at their times, at most `MOST_QUERIES` at once."""
    at = torch.tensor(now, device=nodes.device)
    pairs = zip(nodes.split(MOST_QUERIES), t.split(MOST_QUERIES), strict=True)
    return joined_queries([pipeline.query(*pair, at) for pair in pairs])


def rows_before(pipeline: BatchPipeline, plan: Plan) -> tuple[Tensor, NodeState]:
    """Return the nodes that the batch of a plan will write, and their current rows."""
    nodes = plan.nodes_V[plan.writes_V]
    if plan.deliveries is not None:
        nodes = torch.unique(torch.cat([nodes, plan.deliveries.nodes_X]))
    return nodes, pipeline.store.pull(nodes).state


def partners_of(adjacency: TemporalAdjacency, one: Tensor, event: int) -> tuple[Tensor, Tensor]:
    """Return the partners of one node [1] before an event, ascending, with counts."""
    start, end = adjacency.history(one, torch.full_like(one, event))
    positions = torch.arange(int(start), int(end), device=one.device)
    own = one.expand_as(positions)
    others = adjacency.other_endpoint(own, adjacency.event_at(own, positions))
    return torch.unique(others, return_counts=True)


def _check_alone() -> None:
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    if workers > 1:
        raise ConfigError(
            f"a trained run is used by one worker (embed, score, recommend, extend), got "
            f"{workers}: start it without torchrun"
        )
