"""Handling of failed workers of a Ray run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError
from ray.train import UserCallback, WorkerGroupError

from pres_dist.errors import PresDistError, StoreError, WorkerLostError, first_line
from pres_dist.launchers.ray_relay import Call
from pres_dist.training.checkpoint import Checkpoints


class WorkersFailedError(PresDistError):
    """More worker failures than the run allows."""


class FailureNotes(UserCallback):
    """Callback that reports failures and stops Ray Train from retrying a user's error.

    It runs in Ray Train's controller. An exception from it ends the run, even if more failures
    are allowed.

    Args:
        max_failures: failures after which Ray Train restarts the workers.
        folder: of the run.
        send: sends a note to the launcher.
    """

    def __init__(self, max_failures: int, folder: Path, send: Callable[[list[Call]], None]) -> None:
        self._max_failures, self._folder, self._send = max_failures, folder, send
        self._failures = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Report a failure; Ray Train calls this with the exception of each failed worker."""
        for error in worker_exceptions.values():
            # A dead process is not the user's mistake: the next attempt has a new one.
            lost = isinstance(error, StoreError | WorkerLostError)
            if isinstance(error, PresDistError) and not lost:
                raise error
        self._failures += 1
        if self._failures <= self._max_failures:
            where = "newest checkpoint" if Checkpoints(self._folder).any() else "beginning"
            text = (
                f"{describe(worker_exceptions)}; all workers start again from the {where}, "
                f"attempt {self._failures + 1} of {self._max_failures + 1}"
            )
            self._send([("note", (text,))])


def used_up(
    error: WorkerGroupError, max_failures: int, folder: Path, log: Path
) -> WorkersFailedError:
    """Return the error for the last failure, in one line; write Ray's full report to a file."""
    log.write_text(f"{error}\n", encoding="utf-8")
    return WorkersFailedError(
        f"{describe(error.worker_failures)}; --max-failures allows {max_failures}; "
        f"{log} tells more, `pres-dist resume {folder}` continues"
    )


def controller_lost(error: Exception, folder: Path) -> WorkerLostError:
    """Return the error for a dead controller of Ray Train, whose workers died with it."""
    how = "continues" if Checkpoints(folder).any() else "has nothing to continue from yet"
    return WorkerLostError(
        f"Ray Train's controller was lost ({first_line(error).rstrip('.')[:200]}); "
        f"`pres-dist resume {folder}` {how}"
    )


def describe(errors: Mapping[int, Exception]) -> str:
    """Describe the failed workers in a line; a death explains the errors of the others."""
    # Ray Train wraps the death of a process in an error of its own.
    dead = [
        rank
        for rank, error in errors.items()
        if isinstance(getattr(error, "health_check_failure", error), RayActorError)
    ]
    ranks = sorted(dead or errors)
    who = f"worker{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
    if dead:
        return f"{who} died"
    error = errors[ranks[0]]
    return f"{who} failed: {type(error).__name__}: {first_line(error)[:200]}"
