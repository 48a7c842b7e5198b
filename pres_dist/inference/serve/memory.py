"""Memory of a run that is extended event by event.

The memory is updated in temporal batches, cut as a sweep over all events would cut them
(`step/batches.py`), however the events were grouped into requests. For a query, the events of
the last, still open batch that the query may see are applied as a batch of their own; this
update is undone before the memory advances. So the memory is a function of the events alone. It
depends neither on queries nor on the grouping of events, and equals that of `pres-dist extend`
with all events at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.evaluation.scoring import plan_of, take_in
from pres_dist.events.chunk import EventChunk
from pres_dist.inference.live import LiveRun, Report, query_in_parts, quiet, rows_before
from pres_dist.inference.relaying import NodeNumbers, relaid
from pres_dist.memory.local import LocalStore
from pres_dist.memory.null import NullStore
from pres_dist.memory.state import NodeState
from pres_dist.model.tgn import TGN
from pres_dist.parallel.grid import evaluation_grid
from pres_dist.parallel.world import World
from pres_dist.sampling.growing import GrowingAdjacency, GrowingPairs, GrowingTables
from pres_dist.step.batches import batch_of
from pres_dist.step.history import Queries
from pres_dist.training.stores import layout_of


class GrowingMemory:
    """Model, memory and histories of a run, including appended events.

    Args:
        live: the run; its store is used and modified.
        report: progress callback that counts the run's own events that memory has seen.
    """

    def __init__(self, live: LiveRun, report: Report = quiet) -> None:
        live.move_to(live.stream.num_events, report)
        self.tables = GrowingTables(live.pipeline.tables)
        self.adjacency = GrowingAdjacency(
            live.pipeline.sampler.adjacency, self.tables, live.stream.num_nodes
        )
        self.pairs: GrowingPairs | None = None
        if live.pipeline.log is not None:
            self.pairs = GrowingPairs(live.pipeline.log.pairs, self.tables, live.stream.num_nodes)
        self.pipeline = live.pipeline.over(self.tables, self.adjacency, self.pairs)
        self.num_nodes = live.stream.num_nodes
        self._has_memory = live.config.model.has_memory
        self._batch_size = live.config.evaluation.batch_size
        self._layout = layout_of(live.config, live.parts.data.time_unit, live.device)
        self._world = World(evaluation_grid(live.config.parallel, 0, 1))
        self._closed = self._seen = live.stream.num_events
        self._undo: tuple[Tensor, NodeState] | None = None

    @property
    def model(self) -> TGN:
        return self.pipeline.model

    @property
    def device(self) -> torch.device:
        return self.tables.device

    @property
    def num_events(self) -> int:
        """Number of events, of the run and appended."""
        return self.tables.t_E.numel()

    @property
    def latest(self) -> int:
        """First time after all events."""
        return int(self.tables.t_E[-1]) + 1

    @property
    def earliest(self) -> int:
        """First time that the memory can be moved to."""
        return int(self.tables.t_E[self._closed - 1]) + 1

    def first_event_at(self, t: int) -> int:
        """Return the id of the first event at or after a time."""
        return int(torch.searchsorted(self.tables.t_E, t))

    def append(self, events: EventChunk, num_nodes: int) -> None:
        """Append events that follow all others.

        Args:
            events: events in order of time, with nodes below `num_nodes`.
            num_nodes: number of nodes including new ones, which have no earlier events.
        """
        self._make_room(num_nodes)
        self.tables.append(events)
        self.adjacency.append(len(events))
        if self.pairs is not None:
            self.pairs.append()
        while (cut := self._next_cut()) is not None:
            self._step_back()
            self._take_in(cut)
            self._closed = self._seen = cut

    def see(self, event: int) -> None:
        """Move the memory so that it has seen exactly the events before the given one.

        Args:
            event: id of the first event that is not seen; not before the open batch.
        """
        assert event >= self._closed, "closed batches cannot be taken out again"
        if event == self._seen:
            return
        self._step_back()
        if event > self._closed:
            self._take_in(event, undoable=True)
        self._seen = event

    def query(self, nodes: Tensor, t: Tensor, now: int) -> Queries:
        """Embed nodes [n] at their times [n] for scoring, as `LiveRun.query` does."""
        return query_in_parts(self.pipeline, nodes, t, now)

    def _next_cut(self) -> int | None:
        """Return the end of the open batch; None until later events determine it."""
        t_E, cut = self.tables.t_E, self._closed + self._batch_size
        if cut >= self.num_events:
            return None
        if t_E[cut - 1] == t_E[cut]:
            run_start = int(torch.searchsorted(t_E, t_E[cut]))
            if run_start > self._closed:
                return run_start
            cut = int(torch.searchsorted(t_E, t_E[cut], right=True))
        return cut if cut < self.num_events else None

    def _take_in(self, end: int, undoable: bool = False) -> None:
        """Update the memory with the events of the open batch before the given one."""
        if not self._has_memory:
            return
        events = torch.arange(self._closed, end, device=self.device)
        batch = batch_of(self.tables, events, self._closed)
        plan = plan_of(self.pipeline, batch, self._world)
        if undoable:
            self._undo = rows_before(self.pipeline, plan)
        take_in(self.pipeline, batch, plan, self._world, learn=False)

    def _step_back(self) -> None:
        if self._undo is not None:
            assert isinstance(self.pipeline.store, LocalStore)
            self.pipeline.store.put_back(*self._undo)
            self._undo = None
        self._seen = self._closed

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
        larger = self._layout.make(room)
        old, new = (NodeNumbers(0, num, 0) for num in (store.num_nodes, room))
        larger.load_state_dict(relaid(store.state_dict(), old, new))
        self.pipeline.store = larger
