"""Runs of a bench: their identity across versions, and the command that starts them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pres_dist.config.ineffective import idle_settings
from pres_dist.config.load import load_config
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
    def label(self) -> str:
        """Readable name of the run."""

    @property
    def distinguished_by(self) -> tuple[Any, ...]:
        """Distinction between runs of the same configuration, such as the number of workers."""
        return ()

    @cached_property
    def identity(self) -> str:
        """Identity of the computation and its setup: equal for jobs that are the same run."""
        return self._with_setup(identity(self.config))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the run: of its setup, and of the settings that differ from `_usual`.

        A setting that a later version adds therefore changes no fingerprint. In return, a run of
        an earlier version may share the fingerprint of a different run.
        """
        text = self._with_setup(identity(self.config, exclude_usual=True))
        return hashlib.sha256(text.encode()).hexdigest()

    def _with_setup(self, computed: str) -> str:
        more = self.distinguished_by
        return json.dumps([computed, *more]) if more else computed

    @property
    def digest(self) -> str:
        """Beginning of the fingerprint, for file names."""
        return self.fingerprint[:10]

    @property
    def key(self) -> str:
        """Name of the run's files: label and digest."""
        return f"{self.label}-{self.digest}"

    def arguments(self, file: Path, run_dir: Path) -> list[str]:
        """Return the arguments of pres-dist that start the run in a folder that does not exist."""
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


def identity(config: RunConfig, exclude_usual: bool = False) -> str:
    """Return the settings that have an effect as JSON, without the name and the preset.

    Args:
        config: configuration of the run.
        exclude_usual: True to omit settings equal to `_usual`, so that a setting that a later
            version adds changes nothing.
    """
    settings = config.model_dump(mode="json", exclude={"name", "preset"})
    for name in idle_settings(config):
        section, field = name.split(".")
        settings[section].pop(field, None)
    if exclude_usual:
        for section, usual in _usual().items():
            fields = settings.pop(section)
            unusual = {name: fields[name] for name in fields if fields[name] != usual[name]}
            settings |= {section: unusual} if unusual else {}
    return json.dumps(settings, sort_keys=True)


@cache
def _usual() -> dict[str, dict[str, Any]]:
    """Return the settings that fingerprints are relative to.

    Defaults may change. These values must not, or the fingerprints of existing runs change.
    """
    fixed = {
        "preset": "paper",
        "pres.clock": "log",
        "sampling.negatives": "random",
        "model.aggregator": "last",
        "model.decoder": "embeddings",
        "training.batch_size": 800,
        "training.optimizer": "adamw",
        "training.learning_rate_scaling": "none",
        "training.learning_rate_decay": "none",
    }
    config = load_config(None, [f"--{name}={fixed[name]}" for name in fixed])
    return config.model_dump(mode="json", exclude={"name", "preset"})
