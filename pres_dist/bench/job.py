"""Interface of a bench's run, as used by the ledger and the runner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from pres_dist.config.run import RunConfig


class Job(ABC):
    """A run with a name and the command that starts it.

    Attributes:
        config: the complete, resolved configuration.
        seed: seed of the run.
        resumes: True if an interrupted run resumes from its checkpoint, False if it restarts from
            scratch.
    """

    config: RunConfig
    seed: int
    resumes: bool = True

    @property
    @abstractmethod
    def identity(self) -> str:
        """Identity of the computation and its setup: equal for jobs that are the same run."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash that identifies the run, stable across versions."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Readable name of the run."""

    @property
    def digest(self) -> str:
        """Beginning of the fingerprint, for file names."""
        return self.fingerprint[:10]

    @property
    def key(self) -> str:
        """Name of the run's files: label and digest."""
        return f"{self.label}-{self.digest}"

    def arguments(self, file: Path, run_dir: Path) -> list[str]:
        """Return the arguments of pres-dist that start the run.

        Args:
            file: configuration file of the run.
            run_dir: a folder that does not exist yet.
        """
        return ["train", str(file), "--run-dir", str(run_dir)]

    def launcher(self, scratch: Path) -> list[str]:
        """Return launcher arguments to insert before `-m pres_dist`.

        Args:
            scratch: temporary folder, deleted after the run.
        """
        return []

    @property
    def environment(self) -> Mapping[str, str]:
        """Default environment variables of the run; variables already set take precedence."""
        return {}
