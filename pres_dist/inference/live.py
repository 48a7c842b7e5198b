"""Trained model of a run, with memory that can be moved to any time."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, DataError
from pres_dist.events.lookup import NodeLookup
from pres_dist.inference.times import latest_allowed, shown
from pres_dist.inference.versions import RunState, current_version, open_state
from pres_dist.inference.walker import MemoryWalker
from pres_dist.parallel.grid import evaluation_grid
from pres_dist.parallel.world import World
from pres_dist.report.run_folder import read_config
from pres_dist.training.setup import assemble, choose_device
from pres_dist.training.state import load_weights
from pres_dist.training.stores import without_servers


class LiveRun(MemoryWalker):
    """Best epoch of a run over its stream, on one worker.

    Args:
        run_dir: folder of the run.
        replay: rebuild the memory from the first event with the final weights, which allows
            times inside the training split and costs accuracy (docs/explanation/pres.md).
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
        workers = int(os.environ.get("WORLD_SIZE", "1"))
        if workers > 1:
            raise ConfigError(
                f"a trained run is used by one worker (embed, score, recommend, extend), got "
                f"{workers}: start it without torchrun"
            )
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
        reopen = partial(open_state, run_dir, self.config, choose_device(self.config, trained=True))
        state = opened or reopen()
        self.state = replace(state, memory={})  # the store holds it
        world = World(evaluation_grid(self.config.parallel, 0, 1))
        parts = assemble(self.config, state.data, world)
        load_weights(parts.model, state.weights, f"{run_dir}: {state.checkpoint}")
        parts.model.eval()
        self.stream = parts.data.stream
        self.lookup = NodeLookup(self.stream)
        super().__init__(parts, state, replay, reopen)

    @property
    def checkpoint(self) -> str:
        """Name of the weights: their checkpoint, and a hash if they were trained further."""
        return self.state.weights_name

    @property
    def digest(self) -> str:
        """SHA-256 of the state that the weights are from, unique among checkpoints and runs."""
        return self.state.weights_digest

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
