"""Training loop: step, checkpoint, validate, stop."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any, NoReturn

import torch

from pres_dist.errors import CheckpointError, TerminatedError, first_line
from pres_dist.failpoint import failpoint
from pres_dist.parallel.whole_memory import begin_epoch, own_memory
from pres_dist.records import EpochRecord, Losses, Metrics
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.training.captured import CapturedSteps, refusal
from pres_dist.training.checkpoint import BEST, Checkpoint, Checkpoints, NoCheckpoints
from pres_dist.training.prefetch import StepIndex, StepInputs
from pres_dist.training.schedule import stretches
from pres_dist.training.setup import Parts
from pres_dist.training.state import TrainState, check_tensors, load_optimizer
from pres_dist.training.step import TrainingStep, Update
from pres_dist.training.tasks.pretrained import begin_training
from pres_dist.training.timing import EpochTimer, Throughput, so_far
from pres_dist.training.totals import EpochTotals

RECORDED_DEVICES = ("cuda",)
"""Devices that `training.capture: auto` records steps for: it is no faster on others."""
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
        log: MetricsSink,
        progress: Progress,
    ) -> None:
        self.parts, self.checkpoints, self.log, self.progress = parts, checkpoints, log, progress
        self.config = parts.config.training
        self._has_memory = parts.config.model.has_memory
        self.step = TrainingStep(parts)
        self.captured: CapturedSteps | None = None
        self.schedule, self.optimizer = self.step.schedule, self.step.optimizer
        self._last: Update | None = None
        self._evaluator = parts.task.evaluator(parts, parts.config.evaluation)
        self.totals = EpochTotals(parts.device)
        self.state = TrainState()
        self._started = time.perf_counter()

    def fit(self) -> None:
        """Train until the last epoch, or until the validation metric stops improving."""
        self.progress.start(self.config.epochs, self.parts.train_loader.num_events)
        if self.config.capture == "auto" and self.parts.device.type in RECORDED_DEVICES:
            self._capture()
        patience = self.config.patience
        while self.state.epoch <= self.config.epochs:
            if patience and self.state.epoch - 1 - self.state.best_epoch >= patience:
                break
            timer = EpochTimer(self.parts)
            with self.parts.world.shutdown.checked_each_step():
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
        return self.state.seconds + time.perf_counter() - self._started

    def restore_best(self) -> None:
        """Load weights and memory of the best epoch."""
        self.parts.load(self.parts.world.run_on_rank0(lambda: self.checkpoints.open(BEST)))

    def _train_epoch(self) -> int:
        """Train the rest of the epoch; return the step of the epoch that it started from."""
        parts, state, first = self.parts, self.state, self.state.batch
        if first == 0:
            begin_epoch(parts.store, parts.world, parts.config.parallel.handover)
            self.totals = EpochTotals(parts.device)
            self.step.prefetch.staleness.clear()
            if self.captured is not None:
                self.captured.trained.clear()
        begin_training(parts.model)
        meter = Throughput(self.schedule.events_before(first))
        # No prefetch crosses a checkpoint, so that a run resumed from it reads the same state.
        every, end = self.config.checkpoint_every, self.schedule.num_steps
        for numbers in stretches(first, end, state.step, every):
            indices = [StepIndex(state.epoch, number) for number in numbers]
            steps = indices if self.captured else self.step.prefetch.steps(indices)
            for inputs in steps:
                failpoint("before_step", state.step)
                self._train_step(inputs, meter)
                failpoint("after_step", state.step - 1)
                if parts.world.shall_end(state.step):
                    # No checkpoint with stale reads: a resumed run would read newer state.
                    if not parts.config.memory.staleness:
                        self._save()
                    self._end_early()
            self._save()
        return first

    def _end_early(self) -> NoReturn:
        text = (
            f"SIGTERM: ended after step {self.state.step}; "
            "`pres-dist resume` goes on from the newest checkpoint"
        )
        self.checkpoints.wait()
        self.progress.note(text)
        raise TerminatedError(text)

    def _capture(self) -> None:
        """Train by replays of a recorded step from now on, if all settings allow it."""
        unsupported = refusal(self.parts)
        if unsupported is None:
            self.captured = CapturedSteps(self.step)
        else:
            self.progress.note(f"training.capture: no recorded steps with {unsupported}")

    def _train_step(self, inputs: StepInputs | StepIndex, meter: Throughput) -> None:
        state = self.state
        if isinstance(inputs, StepInputs):
            result = self.step.run(inputs)
            self.totals.add(result)
            self._last = result.updates[-1]
        else:
            assert self.captured is not None
            self.captured.train(inputs, self.totals)
        state.batch += 1
        state.step += 1
        state.updates = self.step.num_updates
        self.parts.clock.step_ended(state.batch, self.schedule.num_steps)
        self._report(meter)

    def _settle(self) -> None:
        """Wait for the last replay, before any result of the step is read or saved."""
        if self.captured is not None:
            self.captured.settle(self.totals)
            self._last = self.captured.last

    def _report(self, meter: Throughput) -> None:
        """Write a step record at intervals only, since reading the loss waits for the device."""
        state, parts = self.state, self.parts
        if state.batch % max(self.schedule.num_steps // _LOG_SHARE, 1):
            return
        self._settle()
        assert self._last is not None
        update, loss = self._last, self._last.loss
        done, total = self.schedule.events_before(state.batch), float(loss.total)
        rate, correction = meter.rate(done), parts.model.correction
        gate = None if correction is None else correction.gate
        learned: Losses = {}
        if "link" in parts.task.losses:
            learned["link_loss"] = float(loss.link)
        if "label" in parts.task.losses:
            learned["label_loss"] = float(loss.label)
        self.progress.batch(state.epoch, done, total, rate)
        self.log.write(
            {
                "kind": "step",
                "step": state.step,
                "epoch": state.epoch,
                "events": done,
                "loss": total,
                **learned,
                "coherence": 1 - float(loss.incoherence) if self._has_memory else None,
                "gate": None if gate is None else float(gate.detach()),
                "optimizer_steps": state.updates,
                "learning_rate": update.rate,
                "events_per_second": rate,
                "staleness": self._staleness(),
                "worker_0": so_far(parts, self.totals),
            }
        )

    def _validate(self) -> Metrics:
        """Return the task's metrics on the validation split, with the memory after training."""
        world, events = self.parts.world, self.parts.data.split.validation
        return world.run_on_last_replica(
            lambda: self._evaluator.after_epoch(events, world.own_replica())
        )

    def _log_epoch(self, validation: Metrics, timer: EpochTimer, resumed_at: int) -> None:
        means, learned = self.totals.means(), self.parts.task.losses
        loader = self.parts.train_loader
        if "link" not in learned:
            del means["link_loss"]
        if "label" not in learned:
            del means["label_loss"]
        record: EpochRecord = {
            "kind": "epoch",
            "step": self.state.step,
            "epoch": self.state.epoch,
            "optimizer_steps": self.state.updates,
            "largest_batch": loader.largest_batch,
            **means,
            "coherence": means["coherence"] if self._has_memory else None,
            **timer.record(loader.num_events - self.schedule.events_before(resumed_at)),
            "staleness": self._staleness(),
            **self._captured_steps(),
            "checkpoints": vars(self.checkpoints.take_totals()),
            "validation": validation,
        }
        self.log.write(record)
        self.progress.epoch(record)

    def _captured_steps(self) -> EpochRecord:
        return {} if self.captured is None else {"captured": dict(self.captured.trained)}

    def _staleness(self) -> dict[str, int]:
        """Return the number of steps of the epoch by the staleness of their read, in pushes."""
        return {str(lag): number for lag, number in sorted(self.step.prefetch.staleness.items())}

    def _next_epoch(self, validation: Metrics) -> None:
        """Update the best epoch and advance; without a validation metric the newest is the best."""
        state, metric = self.state, validation.get(self.parts.task.best_by)
        if metric is None or metric > state.best_metric:
            state.best_metric = state.best_metric if metric is None else metric
            state.best_epoch = state.epoch
            self.checkpoints.mark_best()
        state.epoch, state.batch = state.epoch + 1, 0

    def _save(self) -> None:
        self._settle()
        failpoint("before_checkpoint", self.state.step)
        with self.checkpoints.blocking():
            memory = own_memory(self.parts.store, self.parts.world)
            self.checkpoints.save(self.state.step, self.state_dict(), memory)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, apart from memory, that makes a resumed run bit-identical.

        All workers take part; only the result on rank 0 is complete.
        """
        position = self.state.model_dump() | {"seconds": self.seconds()}
        world = self.parts.world
        totals = deepcopy(self.totals)  # the epoch goes on with this worker's own sums
        totals.all_reduce(world)
        return {
            "fingerprint": self.parts.data.stream.identity,
            "model": self.parts.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "totals": totals.state_dict(),
            "staleness": dict(self.step.prefetch.staleness),
            "position": position,
            "random": world.gather_to_rank0(self._random_state()),
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint of the same run."""
        self.parts.load(checkpoint)
        state, where = checkpoint.training_state(), str(checkpoint.file)
        position, steps = state.position, self.schedule.num_steps
        if position.epoch > self.config.epochs + 1 or position.batch > steps:
            raise CheckpointError(
                f"{where}: position must be within {self.config.epochs} epochs of {steps} batches, "
                f"got epoch {position.epoch}, batch {position.batch}"
            )
        load_optimizer(self.optimizer, state.optimizer, where)
        sums = dict(state.totals)
        check_tensors(self.totals.state_dict(), sums, f"{where}: totals")
        if self.parts.world.is_rank0:  # sums over all workers: only one may continue them
            self.totals.load_state_dict(sums)
        self.step.prefetch.staleness.update(state.staleness)
        self.state, self.step.num_updates = position, position.updates
        try:
            self._set_random_state(state.random)
        except (KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{where}: random: not the state of a generator: {first_line(error)}"
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
