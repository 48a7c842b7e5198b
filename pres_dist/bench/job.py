"""One run of a bench, as the ledger keeps it and the runner starts it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from pres_dist.config.run import RunConfig


class Job(ABC):
    """A run with a name, and how it is started.

    Attributes:
        config: the whole configuration, resolved.
        seed: of the run.
        resumes: whether a run that was stopped goes on from its checkpoint, or starts anew.
    """

    config: RunConfig
    seed: int
    resumes: bool = True

    @property
    @abstractmethod
    def identity(self) -> str:
        """What is computed and how: jobs that are the same run have the same."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash that names the run, also in later versions."""

    @property
    @abstractmethod
    def label(self) -> str:
        """For people."""

    @property
    def digest(self) -> str:
        """The fingerprint's beginning, for names of files."""
        return self.fingerprint[:10]

    @property
    def key(self) -> str:
        """Name of the run's files: label and digest."""
        return f"{self.label}-{self.digest}"

    def arguments(self, file: Path, run_dir: Path) -> list[str]:
        """Arguments of pres-dist that start the run.

        Args:
            file: its configuration.
            run_dir: a folder that is not there yet.
        """
        return ["train", str(file), "--run-dir", str(run_dir)]

    def launcher(self, scratch: Path) -> list[str]:
        """What stands between the interpreter and `-m pres_dist`; `scratch` is gone at the end."""
        return []

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of the run where nobody has set them."""
        return {}
