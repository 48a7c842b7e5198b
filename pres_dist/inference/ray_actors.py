"""Ray actors that share the work on a trained run.

The run folder and the stream must be readable on all nodes of the cluster, at the same paths.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.errors import PresDistError
from pres_dist.inference.live import LiveRun
from pres_dist.inference.sharing import Opening, Share, Task, lost
from pres_dist.inference.walker import Report, quiet
from pres_dist.launchers.ray_cluster import cluster, cluster_address, environment

_AHEAD = 2
"""Most pending tasks per actor, which bounds the object store."""


class _Actor:
    """A worker of the cluster.

    Args:
        opening: how to open the run.
        working_dir: working directory of the main process, which relative paths start from.
    """

    def __init__(self, opening: Opening, working_dir: Path) -> None:
        self._opening = opening
        with suppress(OSError):  # missing on this node: absolute paths may still work
            os.chdir(working_dir)

    @cached_property
    def _live(self) -> LiveRun:  # opened by the first task, so that its errors are task errors
        return self._opening.open()

    def compute(self, task: Task) -> np.ndarray:
        return task.compute(self._live, quiet)


@contextmanager
def actors(live: LiveRun, num_workers: int, address: str) -> Iterator[Share]:
    """Provide actors that share tasks until the block ends.

    Each actor uses `training.num_threads` CPUs, at least one.

    Args:
        live: the run as opened in the main process.
        num_workers: number of actors; Ray waits until the cluster has CPUs or GPUs for all.
        address: address of a cluster that this machine belongs to, `auto`, or `local` to start a
            new one.

    Raises:
        ConfigError: the cluster cannot be joined.
    """
    opening = Opening.of(live, max(live.config.training.num_threads, 1))
    opening = replace(opening, run_dir=opening.run_dir.absolute())
    with (
        environment({"RAY_IGNORE_UNHANDLED_ERRORS": "1"}),  # the first error is raised below
        cluster(cluster_address(address), num_workers * opening.num_threads),
    ):
        import ray

        gpus = int(live.device.type == "cuda")
        kind: Any = ray.remote(num_cpus=opening.num_threads, num_gpus=gpus)(_Actor)
        yield partial(_in_order, [kind.remote(opening, Path.cwd()) for _ in range(num_workers)])


def _in_order(
    members: list[Any], tasks: Iterable[Task], report: Report = quiet
) -> Iterator[np.ndarray]:
    """Yield results in the order of the tasks, which are assigned to actors round-robin."""
    answers: deque[tuple[int, Any]] = deque()
    for place, task in enumerate(tasks):
        number = place % len(members)
        answers.append((number, members[number].compute.remote(task)))
        if len(answers) == _AHEAD * len(members):
            yield _result(*answers.popleft())
    for answer in answers:
        yield _result(*answer)


def _result(number: int, answer: Any) -> np.ndarray:
    """Return the result of an actor, or raise its error."""
    import ray

    try:
        result: np.ndarray = ray.get(answer)
    except ray.exceptions.RayActorError:
        raise lost(number, "died") from None
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PresDistError):
            raise error.cause from None
        raise
    return result
