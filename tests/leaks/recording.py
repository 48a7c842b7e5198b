"""A run as it looks from outside: what was scored, against what, and what was left behind.

Nothing here knows how scores come about. A run is the shipped `Trainer`, from the first
epoch to the final evaluation, over a stream in memory; whatever passes through
`BatchPipeline.forward` is written down.

Shapes: B events, M negatives an event.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream
from pres_dist.memory.saved import SavedMemory, write_tensors
from pres_dist.memory.state import Pulled
from pres_dist.parallel.world import World
from pres_dist.report.progress import Progress
from pres_dist.step.forward import Forward
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan
from pres_dist.training.checkpoint import Checkpoint, SaveTotals
from pres_dist.training.evaluate_run import final_metrics
from pres_dist.training.setup import assemble, split_data
from pres_dist.training.trainer import Trainer
from tests.support.states import tensors_of

Tables = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """An event that was scored.

    Attributes:
        epoch: during or after which, counted from 1; the final evaluation is one more.
        training: whether weights were about to be moved by it.
        event: its id.
        last: the last event of its temporal batch.
        scores: of the event, of its negatives, and whatever else the model says of it.
        negatives: [M] ids.
        company: its scores less what they are without the first half of its batch; or None.
    """

    epoch: int
    training: bool
    event: int
    last: int
    scores: np.ndarray
    negatives: np.ndarray
    company: np.ndarray | None = None

    def __str__(self) -> str:
        stage = "training" if self.training else "evaluation"
        return f"event {self.event} in the {stage} of epoch {self.epoch}"


@dataclass
class Record:
    """Everything that a worker's run showed.

    Attributes:
        rows: scored events, in the order in which they were scored.
        trained: weights, memory and statistics at the end of each epoch's training; of all
            workers, and known to the first of them alone.
        carried: for each epoch, the worker's own store when its evaluation began; empty where
            others evaluate.
        validated: the same after its validation.
        validation: its metrics.
        best_epoch: the one that the final evaluation is of.
        final: metrics of the final evaluation.
    """

    rows: list[Row] = field(default_factory=list)
    trained: list[Tables] = field(default_factory=list)
    carried: dict[int, Tables] = field(default_factory=dict)
    validated: list[Tables] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    final: dict[str, Any] = field(default_factory=dict)


def record_run(
    config: RunConfig, stream: EventStream, world: World, company: bool = False
) -> Record:
    """Train and evaluate, and write down what can be seen.

    Args:
        config: what to run.
        stream: over these events.
        world: as this worker.
        company: also score the second half of each temporal batch without the first.
    """
    torch.set_num_threads(1)
    parts = assemble(config, split_data(stream, config, torch.device("cpu")), world)
    observer = _Observer(parts.store, world)
    trainer = Trainer(parts, observer, observer, Progress())  # type: ignore[arg-type]
    with observer.watching(company):
        trainer.fit()
        trainer.restore_best()
        observer.record.best_epoch = trainer.state.best_epoch
        observer.record.final = final_metrics(parts, config.evaluation)
    return observer.record


class _Observer:
    """Stands for the checkpoints and for the log of a run."""

    def __init__(self, store: Any, world: World) -> None:
        self.record = Record()
        self._store, self._world, self._epoch = store, world, 1
        self._newest: dict[str, Any] = {}
        self._best: dict[str, Any] = {}
        self._folder = tempfile.TemporaryDirectory()  # of the leader's, all others' are unused

    def blocking(self) -> AbstractContextManager[None]:
        return nullcontext()

    def save(self, step: int, state: Mapping[str, Any], memory: Mapping[str, Tensor]) -> None:
        parts = self._world.gather_to_rank0(dict(memory))
        whole = {name: tensor for part in parts for name, tensor in part.items()}
        if self._world.is_rank0:
            self._newest = {"state": deepcopy(dict(state)), "memory": whole}
            self.record.trained.append(_tables({"model": state["model"], "memory": whole}))

    def mark_best(self) -> None:
        self._best = self._newest

    def take_totals(self) -> SaveTotals:
        return SaveTotals()

    def open(self, which: str) -> Checkpoint:
        folder = Path(self._folder.name)
        write_tensors(folder, self._best["memory"], None)
        memory = SavedMemory.open(folder)
        return Checkpoint(which, self._best["state"], memory, digest="", run=None)

    def write(self, entry: Mapping[str, Any]) -> None:
        if entry["kind"] == "epoch":
            self.record.validated.append(_tables(self._store.state_dict()))
            self.record.validation.append(entry["validation"])
            self._epoch += 1

    @contextmanager
    def watching(self, company: bool) -> Iterator[None]:
        score = BatchPipeline.forward

        def forward(
            step: BatchPipeline, plan: Plan, pulled: Pulled, number: int = 0, *received: Any
        ) -> Forward:
            done = score(step, plan, pulled, number, *received)
            alone = None
            if company and done.positive_B.numel() > 1:
                alone = self._second_half(score, step, plan, done, number)
            self._note(step, plan, done, number, alone)
            return done

        with mock.patch.object(BatchPipeline, "forward", forward):
            yield

    def _note(
        self,
        step: BatchPipeline,
        plan: Plan,
        done: Forward,
        number: int,
        alone: np.ndarray | None,
    ) -> None:
        if not len(done.positive_B):  # a replay scores nothing
            return
        if not step.model.training and self._epoch not in self.record.carried:
            self.record.carried[self._epoch] = _tables(step.store.state_dict())
        last = max(_last(part) for part in plan.parts)
        negatives_BM = _negatives(done).numpy()
        scores = _scores(done)
        first_alone = len(scores) - len(alone) if alone is not None else len(scores)
        for row, event in enumerate(plan.parts[number].batch.events_B.tolist()):
            differs = None
            if alone is not None and row >= first_alone:
                differs = scores[row] - alone[row - first_alone]
            self.record.rows.append(
                Row(
                    self._epoch,
                    step.model.training,
                    event,
                    last,
                    scores[row],
                    negatives_BM[row],
                    differs,
                )
            )

    def _second_half(
        self, score: Any, step: BatchPipeline, plan: Plan, done: Forward, number: int
    ) -> np.ndarray:
        whole = plan.parts[number].batch
        half = slice(whole.num_events // 2, whole.num_events)
        negatives_BM = _negatives(done)[half]
        epoch = self._epoch if step.model.training else 0
        own = step.plan([whole.part(half)], [negatives_BM], epoch)
        with torch.no_grad():
            return _scores(score(step, own, step.read(own)))


def _last(part: Any) -> int:
    events_B = part.batch.events_B
    return int(events_B[-1]) if events_B.numel() else -1


def _negatives(done: Forward) -> torch.Tensor:
    return done.gathered.nodes_U[done.gathered.index_BM]


def _scores(done: Forward) -> np.ndarray:
    """All that the model says of each event: the event's own score first."""
    num_events = len(done.positive_B)
    said = [
        column.detach().view(num_events, -1)
        for column in vars(done).values()
        if isinstance(column, torch.Tensor) and len(column) == num_events
    ]
    return torch.cat(said, dim=1).numpy()


def _tables(state: Any) -> Tables:
    """Copy every tensor of a nested state."""
    return {name: value.detach().cpu().clone().numpy() for name, value in tensors_of(state)}
