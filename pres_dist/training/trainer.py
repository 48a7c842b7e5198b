"""Training loop: sweep, step, checkpoint, validate, stop."""

from __future__ import annotations

import time
from copy import deepcopy
from functools import partial
from typing import Any, NoReturn

import torch

from pres_dist.errors import CheckpointError, TerminatedError
from pres_dist.failpoint import failpoint
from pres_dist.memory.state import Pulled
from pres_dist.parallel.whole_memory import begin_epoch, own_memory
from pres_dist.records import EpochMeans, EpochRecord, Losses, Metrics
from pres_dist.report.metrics_log import MetricsLog, NoLog
from pres_dist.report.progress import Progress
from pres_dist.step.plan import Plan
from pres_dist.step.prefetch import Prefetch
from pres_dist.training.checkpoint import BEST, Checkpoint, Checkpoints, NoCheckpoints
from pres_dist.training.identity import load_model
from pres_dist.training.loss import Loss
from pres_dist.training.schedule import Schedule, stretches
from pres_dist.training.setup import Parts
from pres_dist.training.state import Position, check_tensors, load_optimizer
from pres_dist.training.step import TrainingStep, Update
from pres_dist.training.tasks.pretrained import begin_training
from pres_dist.training.timing import EpochTimer, Throughput, so_far
from pres_dist.training.totals import EpochTotals

_LOG_SHARE = 50
"""Approximate number of step records per epoch."""


class Trainer:
    """Trains the parts of a run and writes metrics and checkpoints to its folder.

    Every epoch starts from empty memory, ends with a checkpoint, and is validated
    with the memory at the end of its training.

    Args:
        parts: model, store, steps and data.
        checkpoints: checkpoints to write.
        log: log that writes metrics.jsonl.
        progress: progress reporter.
    """

    def __init__(
        self,
        parts: Parts,
        checkpoints: Checkpoints | NoCheckpoints,
        log: MetricsLog | NoLog,
        progress: Progress,
    ) -> None:
        self.parts, self.checkpoints, self.log, self.progress = parts, checkpoints, log, progress
        self.config = parts.config.training
        self.schedule = Schedule(parts.train_sweep, parts.world.grid.replicas)
        self.prefetch = Prefetch(parts.train_step, parts.config.memory.staleness)
        self.step = TrainingStep(parts, self.schedule, self.prefetch)
        self.optimizer = self.step.optimizer
        self._evaluator = parts.task.evaluator(parts, parts.config.evaluation)
        self.totals = EpochTotals(parts.device)
        self.position = Position()
        self._started = time.perf_counter()

    def fit(self) -> None:
        """Train until the last epoch, or until the validation metric stops improving."""
        self.progress.start(self.config.epochs, self.schedule.num_events)
        while self.position.epoch <= self.config.epochs and not self._exhausted():
            timer = EpochTimer(self.parts)
            with self.parts.world.notice.heeded():
                resumed_at = self._train_epoch()
            timer.training_ended(self.step.take_gradient_bytes())
            self.totals.all_reduce(self.parts.world)
            validation = self._validate()
            self._log_epoch(validation, timer, resumed_at)
            self._next_epoch(validation)
            if self.parts.world.agree():
                self._end_early()

    def seconds(self) -> float:
        """Return the wall-clock seconds of the run, including time before a resume."""
        return self.position.seconds + time.perf_counter() - self._started

    def restore_best(self) -> None:
        """Load weights and memory of the best epoch."""
        load_model(self.parts, self.parts.world.run_on_rank0(lambda: self.checkpoints.open(BEST)))

    def _exhausted(self) -> bool:
        position, patience = self.position, self.config.patience
        return bool(patience) and position.epoch - 1 - position.best_epoch >= patience

    def _train_epoch(self) -> int:
        """Train the rest of the epoch; return the step of the epoch that it started from."""
        position, first, end = self.position, self.position.batch, self.schedule.num_steps
        if first == 0:
            parts = self.parts
            begin_epoch(parts.store, parts.world, parts.config.parallel.handover)
            self.totals = EpochTotals(self.parts.device)
            self.prefetch.staleness.clear()
        begin_training(self.parts.model)
        meter = Throughput(self.schedule.events_before(first))
        # No prefetch crosses a checkpoint, so that a run resumed from it reads the same state.
        for steps in stretches(first, end, position.step, self.config.checkpoint_every):
            plans = [partial(self.step.plan, number, position.epoch) for number in steps]
            for number, (plan, pulled) in zip(steps, self.prefetch.steps(plans), strict=True):
                failpoint("before_step", position.step)
                self._train_step(plan, pulled, number, meter)
                failpoint("after_step", position.step - 1)
                if self.parts.world.shall_end(position.step):
                    # No checkpoint with stale reads: a resumed run would read newer state.
                    if not self.parts.config.memory.staleness:
                        self._save()
                    self._end_early()
            self._save()
        return first

    def _end_early(self) -> NoReturn:
        where = self.position
        text = (
            f"SIGTERM: ended after step {where.step}; "
            "`pres-dist resume` goes on from the newest checkpoint"
        )
        self.checkpoints.wait()
        self.progress.note(text)
        raise TerminatedError(text)

    def _train_step(self, plan: Plan, pulled: Pulled, number: int, meter: Throughput) -> None:
        position = self.position
        done = self.step.run(plan, pulled, number, position.epoch, position.updates)
        self.totals.add(done)
        position.batch += 1
        position.step += 1
        position.updates += len(done.updates)
        self.parts.clock.step_ended(position.batch, self.schedule.num_steps)
        self._report(done.updates[-1], meter)

    def _report(self, update: Update, meter: Throughput) -> None:
        """Write a step record at intervals only, since reading the loss waits for the device."""
        position = self.position
        if position.batch % max(self.schedule.num_steps // _LOG_SHARE, 1):
            return
        done, loss = self.schedule.events_before(position.batch), update.loss
        total = float(loss.total)
        rate = meter.rate(done)
        self.progress.batch(position.epoch, done, total, rate)
        self.log.write(
            {
                "kind": "step",
                "step": position.step,
                "epoch": position.epoch,
                "events": done,
                "loss": total,
                **self._losses(loss),
                "coherence": self._if_memory(1 - float(loss.incoherence)),
                "gate": self._gate(),
                "optimizer_steps": position.updates,
                "learning_rate": update.rate,
                "events_per_second": rate,
                "staleness": self._staleness(),
                "worker_0": so_far(self.parts, self.totals),
            }
        )

    def _validate(self) -> Metrics:
        """Return the task's metrics on the validation split, with the memory after training."""
        world, events = self.parts.world, self.parts.data.split.validation
        return world.run_on_last_replica(
            lambda: self._evaluator.after_epoch(events, world.own_replica())
        )

    def _log_epoch(self, validation: Metrics, timer: EpochTimer, resumed_at: int) -> None:
        means = self._means()
        record: EpochRecord = {
            "kind": "epoch",
            "step": self.position.step,
            "epoch": self.position.epoch,
            "optimizer_steps": self.position.updates,
            "largest_batch": self.schedule.largest_batch,
            **means,
            "coherence": self._if_memory(means["coherence"]),
            **timer.record(self.schedule.num_events - self.schedule.events_before(resumed_at)),
            "staleness": self._staleness(),
            "checkpoints": vars(self.checkpoints.take_totals()),
            "validation": validation,
        }
        self.log.write(record)
        self.progress.epoch(record)

    def _staleness(self) -> dict[str, int]:
        """Return the number of steps of the epoch by the staleness of their read, in pushes."""
        return {str(lag): number for lag, number in sorted(self.prefetch.staleness.items())}

    def _losses(self, loss: Loss) -> Losses:
        """Return the terms of the loss that the task learns."""
        losses: Losses = {}
        if "link" in self.parts.task.losses:
            losses["link_loss"] = float(loss.link)
        if "label" in self.parts.task.losses:
            losses["label_loss"] = float(loss.label)
        return losses

    def _means(self) -> EpochMeans:
        """Return means over the epoch, without losses that the task does not have."""
        means, learned = self.totals.means(), self.parts.task.losses
        if "link" not in learned:
            del means["link_loss"]
        if "label" not in learned:
            del means["label_loss"]
        return means

    def _next_epoch(self, validation: Metrics) -> None:
        """Update the best epoch and advance; without a validation metric the newest is the best."""
        position = self.position
        metric = validation.get(self.parts.task.best_by)
        if metric is None or metric > position.best_metric:
            position.best_metric = position.best_metric if metric is None else metric
            position.best_epoch = position.epoch
            self.checkpoints.mark_best()
        position.epoch, position.batch = position.epoch + 1, 0

    def _if_memory(self, value: float | None) -> float | None:
        """Return a metric of the memory, or None if the model has no memory."""
        return value if self.parts.config.model.has_memory else None

    def _gate(self) -> float | None:
        correction = self.parts.model.correction
        gate = None if correction is None else correction.gate
        return None if gate is None else float(gate.detach())

    def _save(self) -> None:
        failpoint("before_checkpoint", self.position.step)
        with self.checkpoints.blocking():
            memory = own_memory(self.parts.store, self.parts.world)
            self.checkpoints.save(self.position.step, self.state_dict(), memory)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, apart from memory, that makes a resumed run bit-identical.

        All workers take part; only the result on rank 0 is complete.
        """
        position = self.position.model_dump() | {"seconds": self.seconds()}
        world = self.parts.world
        totals = deepcopy(self.totals)
        totals.all_reduce(world)
        return {
            "fingerprint": self.parts.data.stream.identity,
            "model": self.parts.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "totals": totals.state_dict(),
            "staleness": dict(self.prefetch.staleness),
            "position": position,
            "random": world.gather_to_rank0(self._random_state()),
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint of the same run."""
        load_model(self.parts, checkpoint)
        state, where = checkpoint.training_state(), str(checkpoint.file)
        position, steps = state.position, self.schedule.num_steps
        if position.epoch > self.config.epochs + 1 or position.batch > steps:
            raise CheckpointError(
                f"{where}: position must be within {self.config.epochs} epochs of {steps} batches, "
                f"got epoch {position.epoch}, batch {position.batch}"
            )
        load_optimizer(self.optimizer, state.optimizer, where)
        sums = {"sums": state.totals.sums, "pending_max": state.totals.pending_max}
        check_tensors(self.totals.state_dict(), sums, f"{where}: totals")
        if self.parts.world.is_rank0:  # sums over all workers: only one may continue them
            self.totals.load_state_dict(sums)
        self.prefetch.staleness.update(state.staleness)
        self.position = position
        try:
            self._set_random_state(state.random)
        except (KeyError, RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"{where}: random: not the state of a generator: {reason}"
            ) from None

    def _random_state(self) -> dict[str, torch.Tensor]:
        """Return the states of torch's generators, which dropout uses."""
        states = {"cpu": torch.get_rng_state()}
        if self.parts.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.parts.device)
        return states

    def _set_random_state(self, workers: list[dict[str, torch.Tensor]]) -> None:
        """Restore this rank's RNG state, or rank 0's if the checkpoint has fewer ranks."""
        rank = self.parts.world.rank
        states = workers[rank if rank < len(workers) else 0]
        torch.set_rng_state(states["cpu"].cpu())
        if "cuda" in states and self.parts.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"].cpu(), self.parts.device)
