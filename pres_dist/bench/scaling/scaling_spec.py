"""Expand a configuration and numbers of workers into the runs of a scaling bench."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from pres_dist.bench.job import Job
from pres_dist.bench.scaling.scaling_config import Launcher, Mode, ScalingConfig
from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.parallel.grid import training_grid

Changes = tuple[tuple[str, str], ...]
"""Settings by full name, as typed."""
Round = tuple[int, int]
"""Seed and repeat: every setup runs once in each round."""
BATCH = "training.batch_size"


@dataclass(frozen=True)
class Setup:
    """A compared setup: a launcher, a number of workers, a temporal batch and other settings.

    Attributes:
        batch_size: events in a temporal batch, of all workers together.
        changes: other settings that differ from the bench's configuration.
    """

    launcher: Launcher
    workers: int
    batch_size: int
    changes: Changes = ()

    @property
    def label(self) -> str:
        """Readable name, also used for file names."""
        changed = "".join(f"-{name.split('.')[-1]}{value}" for name, value in self.changes)
        text = f"{self.launcher}-w{self.workers}-b{self.batch_size}{changed}"
        return "".join(c if c.isalnum() or c in "-._" else "_" for c in text)


@dataclass(frozen=True)
class ScalingRun(Job):
    """One run: a setup with a seed.

    An interrupted run restarts from scratch, since its duration is the result.
    """

    setup: Setup
    seed: int
    repeat: int
    config: RunConfig
    resumes = False

    @property
    def distinguished_by(self) -> tuple[str | int, ...]:
        """Launcher, number of workers and repeat."""
        return self.setup.launcher, self.setup.workers, self.repeat

    @property
    def label(self) -> str:
        """Readable name, with seed and repeat."""
        return f"{self.setup.label}-s{self.seed}-r{self.repeat}"

    def arguments(self, file: Path, run_dir: Path) -> list[str]:
        """Return the arguments of `pres-dist train` or `pres-dist ray`."""
        if self.setup.launcher == "torchrun":
            return super().arguments(file, run_dir)
        workers = ["--num-workers", str(self.setup.workers), "--max-failures", "0"]
        return ["ray", str(file), *workers, "--run-dir", str(run_dir)]

    def launcher(self, scratch: Path) -> list[str]:
        """Return the arguments of torchrun as in launch/torchrun.sh, closed to other hosts."""
        if self.setup.launcher != "torchrun":
            return []
        return [
            *("-m", "pres_dist.parallel.agent", "--nnodes=1", "--max-restarts=0"),
            *(f"--nproc-per-node={self.setup.workers}", "--local-addr=127.0.0.1"),
            *("--rdzv-backend=c10d", "--rdzv-conf=store_type=file"),
            f"--rdzv-endpoint={scratch.absolute() / 'rendezvous'}",
            *(f"--rdzv-id={scratch.name}", f"--log-dir={scratch.absolute()}"),
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that keep torchrun's workers on this machine."""
        if self.setup.launcher != "torchrun":
            return {}
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        return {
            "GLOO_SOCKET_IFNAME": loopback,
            "NCCL_SOCKET_IFNAME": loopback,
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            # Shorter than the runner's grace period, or workers would outlive their agent.
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "5",
        }


class ScalingSpec:
    """A scaling bench with every run validated.

    Args:
        asked: configuration of the bench.
        path: configuration file of the runs.
        overrides: settings that override it, as typed.

    Raises:
        ConfigError: The configuration is invalid, or cannot be divided among the workers.
    """

    def __init__(self, asked: ScalingConfig, path: Path, overrides: Sequence[str]) -> None:
        self.asked, self._path, self._overrides = asked, path, list(overrides)
        for text in (*overrides, *asked.references):
            if "training.seed" in text.split("=")[0] or ",training.seed=" in text:
                raise ConfigError("command line: training.seed has no effect here, --seeds has it")
        self.base = self._load([])
        self._batch = _numbered(self.base, str(path))
        if not self.base.training.num_threads:
            # First, so that a setting on the command line wins.
            self._overrides.insert(0, "--training.num-threads=1")
            self.base = self._load([])
        # Every setup, with the scaling modes that it is a point of; references have none.
        self.modes: dict[Setup, list[Mode]] = {}
        for launcher, workers, mode in product(asked.launchers, asked.workers, asked.modes):
            size = self._batch * workers if mode == "weak" else self._batch
            self.modes.setdefault(Setup(launcher, workers, size), []).append(mode)
        for setup in self._references():
            self.modes.setdefault(setup, [])
        self._made: dict[tuple[Setup, Round], ScalingRun] = {}
        for setup in self.modes:
            self._check(setup)

    @property
    def rounds(self) -> list[Round]:
        """All rounds: every seed once, then every seed again for each repeat."""
        return [(seed, repeat) for repeat in range(self.asked.repeats) for seed in self.asked.seeds]

    def runs(self) -> Iterator[ScalingRun]:
        """Yield the runs round by round, so that other load on the machine affects all setups."""
        for seed, repeat in self.rounds:
            for setup in self.modes:
                yield self.run(setup, (seed, repeat))

    def run(self, setup: Setup, at: Round) -> ScalingRun:
        """Return the run of a setup in a round."""
        if (setup, at) not in self._made:
            config = self._config(setup, [f"--training.seed={at[0]}"])
            config = config.model_copy(update={"name": setup.label})
            self._made[setup, at] = ScalingRun(setup, *at, config)
        return self._made[setup, at]

    def _config(self, setup: Setup, more: Sequence[str] = ()) -> RunConfig:
        changed = [f"--{name}={value}" for name, value in setup.changes]
        return self._load([f"--{BATCH}={setup.batch_size}", *changed, *more])

    def _load(self, more: Sequence[str]) -> RunConfig:
        return load_config(self._path, [*self._overrides, *more])

    def _references(self) -> Iterator[Setup]:
        """Yield the configurations of one worker; the fastest is the baseline of efficiency."""
        batch = self._batch
        make, parallel = partial(Setup, self.asked.launchers[0], 1), self.base.parallel
        # To one worker, replicas, epochs and slices only cut its work into pieces.
        alone: Changes = ()
        if parallel.epochs * parallel.replicas > 1:
            alone = (("parallel.epochs", "1"), ("parallel.replicas", "1"))
        whole = (*alone, ("parallel.slices", "1")) if parallel.slices not in (None, 1) else alone
        largest = batch * max(self.asked.workers) if "weak" in self.asked.modes else batch
        yield make(batch, alone)
        yield make(batch, whole)
        yield make(largest, whole)
        for text in self.asked.references:
            values = dict((*alone, *_settings(text)))
            size = self._load([f"--{name}={value}" for name, value in values.items()])
            values.pop(BATCH, None)
            yield make(_numbered(size, "command line: --reference"), tuple(values.items()))

    def _check(self, setup: Setup) -> None:
        """Raise ConfigError for settings that would otherwise fail only at run time."""
        config = self._config(setup)
        try:
            training_grid(config.parallel, 0, setup.workers)
        except ConfigError as error:
            raise ConfigError(f"command line: --workers {setup.workers}: {error}") from None
        store = config.memory.store
        if store == "local" and setup.workers > 1:
            raise ConfigError(
                "memory.store must be auto, sharded or server where several workers share a "
                "memory, got local"
            )
        if store == "server" and setup.launcher != "ray":
            raise ConfigError("memory.store: server needs --launcher ray, got torchrun")


def _numbered(config: RunConfig, place: str) -> int:
    """Return the temporal batch size; raise ConfigError if calibration would choose it."""
    if config.training.batch_size == "auto":
        raise ConfigError(
            f"{place}: training.batch_size must be a number where workers are compared, got auto"
        )
    return config.training.batch_size


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and values parsed from text like `parallel.slices=1,training.num_threads=2`."""
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ConfigError(
                f"command line: --reference takes NAME=VALUE,... of settings, got {part!r}"
            )
        yield name.strip(), value.strip()
