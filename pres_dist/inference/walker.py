"""Memory of all nodes that can be moved to any point of a stream.

The best checkpoint holds the memory at the end of the training split. Later events are
processed as in evaluation: the validation split, the test split and each extension are cut
into temporal batches of `evaluation.batch_size`. The memory at a time t is the result of all
complete batches before t, followed by the events before t of the batch that contains t, as a
smaller batch. So it does not depend on earlier queries.

A stream may grow while it is served. Appended events are cut into the batches that
`pres-dist extend` would cut with all of them at once, however they were grouped into requests.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import NonFiniteError
from pres_dist.evaluation.scoring import plan_of, take_in
from pres_dist.events.chunk import EventChunk
from pres_dist.events.split import as_index, batch_bounds
from pres_dist.inference.node_numbering import NodeNumbering, remap_nodes
from pres_dist.inference.versions import RunState
from pres_dist.memory.local import LocalStore
from pres_dist.memory.null import NullStore
from pres_dist.memory.state import NodeState
from pres_dist.model.tgn import TGN, UpdatedMemory
from pres_dist.sampling.growing import GrowingAdjacency, GrowingPairs, GrowingTables
from pres_dist.step.batches import TemporalBatch, batch_of
from pres_dist.step.forward import Forward
from pres_dist.step.history import Queries, joined_queries
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan
from pres_dist.training.setup import Parts
from pres_dist.training.stores import layout_of

Report = Callable[[int, int, int], None]
"""Progress callback: events or rows so far, then work done and total work in the same unit."""

Watch = Callable[[TemporalBatch, Sequence[Forward]], None]
"""Called with each temporal batch that memory was updated with, and its slices' results."""

MOST_QUERIES = 1 << 13
"""Most nodes that are embedded at once, which bounds memory use."""
_NOWHERE = sys.maxsize
"""Position of a memory from which no move can continue."""


def quiet(events: int, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class _Growing:
    """Columns and histories of a stream that grows."""

    tables: GrowingTables
    adjacency: GrowingAdjacency
    pairs: GrowingPairs | None


class MemoryWalker:
    """Memory of all nodes that is moved through a stream.

    Args:
        parts: parts of the run.
        state: state of the run, with the memory to start from.
        replay: start from an empty memory instead, and walk through the training split too.
        reopen: returns the state again, with a memory that has not seen a given event.
    """

    def __init__(
        self, parts: Parts, state: RunState, replay: bool, reopen: Callable[[int], RunState]
    ) -> None:
        self.parts = parts
        self.pipeline = parts.evaluation_pipeline
        self.num_nodes = parts.data.stream.num_nodes
        self.replayed = replay
        self._reopen = reopen
        self._borders = _borders(parts, state.segments, replay)
        """First event of each temporal batch, and the event after the last complete one."""
        self._undo: tuple[Tensor, NodeState] | None = None
        self._growing: _Growing | None = None
        self._position = self._seen = self._start(state)

    @property
    def model(self) -> TGN:
        """Model of the run."""
        return self.parts.model

    @property
    def device(self) -> torch.device:
        """Device of the model and the memory."""
        return self.parts.device

    @property
    def num_events(self) -> int:
        """Number of events, including appended ones."""
        return self.pipeline.tables.t_E.numel()

    @property
    def first_event(self) -> int:
        """First event that memory can be updated with."""
        return self._borders[0]

    @property
    def latest(self) -> int:
        """First time after all events."""
        return int(self.pipeline.tables.t_E[-1]) + 1

    @property
    def earliest(self) -> int:
        """First time that the memory can be moved to."""
        first = self.first_event if self.parts.config.model.has_memory else 0
        if self._growing is not None:
            first = self._borders[-1]
        t_E = self.pipeline.tables.t_E
        return int(t_E[first - 1]) + 1 if first else int(t_E[0])

    def first_event_at(self, t: int) -> int:
        """Return the id of the first event at or after a time."""
        return int(torch.searchsorted(self.pipeline.tables.t_E, t))

    def batch_start(self, event: int) -> int:
        """Return the first event of the temporal batch of an event; `event` at the stream's end."""
        if event >= self.num_events:
            return event
        return self._borders[max(bisect_right(self._borders, event) - 1, 0)]

    def move_to(self, event: int, report: Report = quiet, watch: Watch | None = None) -> None:
        """Move the memory to a point in the stream: it has seen exactly the events before `event`.

        The memory moves forward from its current position, or starts again from the checkpoint.

        Args:
            event: id of the first event that the memory has not seen. If the stream grows, it
                must not be before the batch that is still open.
            report: progress callback.
            watch: called after every temporal batch that the memory is updated with.
        """
        if not self.parts.config.model.has_memory or event == self._seen:
            return
        self._seen = -1  # unknown if the move fails or is interrupted
        if self._undo is not None:
            # The last batch was cut short at an earlier query: it must be repeated as a whole.
            store = self.pipeline.store
            assert isinstance(store, LocalStore), "one worker keeps its memory itself"
            store.put_back(*self._undo)
            self._undo = None
        if event < self._position:
            assert self._growing is None, "the batches of a growing stream cannot be undone"
            self._position = _NOWHERE
            self._position = self._start(self._reopen(event))
        start, borders = self._position, self._borders
        for number in range(bisect_left(borders, start), len(borders)):
            first = borders[number]
            if first >= event:
                break
            # The last batch of a growing stream is open: later events may still join it.
            end = borders[number + 1] if number + 1 < len(borders) else self.num_events + 1
            self._take_in(first, min(end, event), end, watch)
            done = min(end, event) - start
            report(done, done, event - start)
        self._seen = event

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
        at = torch.tensor(now, device=self.device)
        parts = zip(nodes.split(MOST_QUERIES), t.split(MOST_QUERIES), strict=True)
        queries = joined_queries([self.pipeline.query(*part, at) for part in parts])
        if not bool(torch.isfinite(queries.embedded_QA).all()):
            raise NonFiniteError(f"embeddings at time {now} must be finite, and are not")
        return queries

    def memory(self, nodes: Tensor, now: int) -> UpdatedMemory:
        """Return the memory of distinct nodes, their mail applied; `nodes` may be on the host."""
        return self.pipeline.memory(nodes.to(self.device), torch.tensor(now, device=self.device))

    def known_nodes(self, event: int) -> Tensor:
        """Return the sorted nodes that have an event before the given one."""
        nodes = torch.arange(self.num_nodes, device=self.device)
        start, end = self.pipeline.sampler.adjacency.history(nodes, torch.full_like(nodes, event))
        return nodes[end > start]

    def events_of(self, node: int, event: int, most: int | None = None) -> Tensor:
        """Return the ascending ids of a node's events before `event`, or its `most` latest."""
        adjacency = self.pipeline.sampler.adjacency
        one = torch.tensor([node], device=self.device)
        start, end = (int(bound) for bound in adjacency.history(one, torch.full_like(one, event)))
        if most is not None:
            start = max(start, end - most)
        positions = torch.arange(start, end, device=self.device)
        return adjacency.event_at(one.expand_as(positions), positions)

    def partners(self, node: int, event: int) -> tuple[Tensor, Tensor]:
        """Return a node's partners before an event, ascending, with counts."""
        events = self.events_of(node, event)
        own = torch.full_like(events, node)
        others = self.pipeline.sampler.adjacency.other_endpoint(own, events)
        return torch.unique(others, return_counts=True)

    def let_grow(self) -> None:
        """Let the stream grow; the memory must have seen all of its events.

        Raises:
            DataError: the stream has too many nodes.
        """
        num_nodes, log = self.num_nodes, self.pipeline.log
        tables = GrowingTables(self.pipeline.tables)
        adjacency = GrowingAdjacency(self.pipeline.sampler.adjacency, tables, num_nodes)
        pairs = None if log is None else GrowingPairs(log.pairs, tables, num_nodes)
        self.pipeline = self.pipeline.over(tables, adjacency, pairs)
        self._growing = _Growing(tables, adjacency, pairs)

    def append(self, events: EventChunk, num_nodes: int) -> None:
        """Append events that follow all others, and update the memory with complete batches.

        Args:
            events: events in order of time, with nodes below `num_nodes`.
            num_nodes: number of nodes including new ones, which have no earlier events.
        """
        assert self._growing is not None, "let_grow was not called"
        self._make_room(num_nodes)
        self._growing.tables.append(events)
        self._growing.adjacency.append(len(events))
        if self._growing.pairs is not None:
            self._growing.pairs.append()
        first = self._borders[-1]
        # Memory takes in a batch only when later events can no longer change where it ends.
        open_t = self._growing.tables.t_E[first:].cpu().numpy()
        bounds = batch_bounds(open_t, self.parts.config.evaluation.batch_size)
        # The last bound is the end of the stream so far, which later events move.
        self._borders += [first + bound for bound in bounds[1:-1]]
        if self._borders[-1] > first:
            self.move_to(self._borders[-1])

    def _start(self, state: RunState) -> int:
        """Load the memory to start from, and return the first event that it has not seen."""
        if self.replayed:
            self.parts.store.reset()
        elif self.parts.config.model.has_memory:
            self.parts.store.load_state_dict(state.memory)
            return state.memory_end
        return self.first_event

    def _take_in(self, first: int, stop: int, end: int, watch: Watch | None) -> None:
        """Update the memory with the events from `first` to `stop` of a batch that ends at `end`.

        An incomplete batch is undone by the next move, which then reads the memory before it. So
        is one that is interrupted while it is written.
        """
        data, world = self.parts.data, self.parts.world
        learns = self.replayed and first < data.split.train_end
        events = np.arange(first, stop)
        if learns and isinstance(data.kept, np.ndarray):  # nodes are held out
            events = data.kept[slice(*np.searchsorted(data.kept, [first, stop]))]
        if events.size:
            pipeline = self.parts.train_pipeline if learns else self.pipeline
            events_B = torch.from_numpy(events).to(self.device)
            batch = batch_of(pipeline.tables, events_B, int(events[0]))
            plan = plan_of(pipeline, batch, world)
            if stop < end and not learns:
                self._undo = _rows_before(pipeline, plan)
            else:  # statistics cannot be undone: until the batch is whole, the next move restarts
                self._position = _NOWHERE
            forwards = take_in(pipeline, batch, plan, world, learns)
            if watch is not None:
                watch(batch, forwards)
        if stop == end:
            self._position = end

    def _make_room(self, num_nodes: int) -> None:
        """Grow the store to at least `num_nodes` rows, by half or more so that this is rare."""
        self.num_nodes = max(self.num_nodes, num_nodes)
        store = self.pipeline.store
        if num_nodes <= store.num_nodes:
            return
        room = max(num_nodes, store.num_nodes * 3 // 2)
        if isinstance(store, NullStore):
            self.pipeline.store = NullStore(room)
            return
        larger = layout_of(self.parts.config, self.parts.data.time_unit, self.device).make(room)
        old, new = (NodeNumbering(0, num, 0, False) for num in (store.num_nodes, room))
        larger.load_state_dict(remap_nodes(store.state_dict(), old, new))
        self.pipeline.store = larger


def _borders(parts: Parts, segments: Sequence[int], replay: bool) -> list[int]:
    """Return the first event of each temporal batch after the training split, and the end.

    Args:
        parts: parts of the run.
        segments: ascending ends of the segments that batches do not cross: validation split, test
            split and each extension.
        replay: include the batches of the training split.
    """
    t, size = parts.data.stream.t, parts.config.evaluation.batch_size
    borders = [parts.data.split.train_end]
    if replay:
        kept = parts.data.kept
        bounds = batch_bounds(t[as_index(kept)], size)
        # Events of held-out nodes lie between the kept ones; the walk passes over them.
        borders = [0, *(int(kept[bound]) for bound in bounds[1:-1]), *borders]
    for end in segments:
        first = borders[-1]
        borders += [first + bound for bound in batch_bounds(t[first:end], size)[1:]]
    return borders


def _rows_before(pipeline: BatchPipeline, plan: Plan) -> tuple[Tensor, NodeState]:
    """Return the nodes that the batch of a plan will write, and their current rows."""
    nodes = plan.nodes_V[plan.writes_V]
    if plan.deliveries is not None:
        nodes = torch.unique(torch.cat([nodes, plan.deliveries.nodes_X]))
    return nodes, pipeline.store.pull(nodes).state
