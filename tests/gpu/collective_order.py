"""NCCL's rules for the order of collectives, checked on what workers enqueued.

The collectives of all communicators of a GPU run in the order in which the host enqueued them. So
any two workers must enqueue the collectives that they share in the same order, over all
communicators, and only one thread of a worker may enqueue any.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, zip_longest

from tests.gpu.counting import caller


@dataclass(frozen=True)
class Enqueued:
    """A collective that a worker enqueued.

    Attributes:
        group: name of the communicator.
        members: its ranks.
        what: kind of the collective, and type of its numbers.
        thread: name of the thread.
        place: file and function of pres_dist.
    """

    group: str
    members: tuple[int, ...]
    what: str
    thread: str = "MainThread"
    place: str = "elsewhere"


class _Watch:
    """Notes collectives, each after a random delay of up to `jitter_s` seconds."""

    def __init__(self) -> None:
        self.found: list[Enqueued] = []
        self.jitter_s = 0.0
        self.busy: dict[str, str] = {}


_watch = _Watch()


@contextmanager
def noted(jitter_s: float) -> Iterator[list[Enqueued]]:
    """Note the collectives of this process; delay each by up to `jitter_s` seconds."""
    _watch.found, _watch.jitter_s = [], jitter_s
    try:
        yield _watch.found
    finally:
        _watch.jitter_s = 0.0


@contextmanager
def enqueuing(group: str, members: Sequence[int], what: str) -> Iterator[None]:
    """Note a collective; raise RuntimeError if another thread enqueues on its communicator."""
    thread = threading.current_thread().name
    other = _watch.busy.setdefault(group, thread)
    if other != thread:
        raise RuntimeError(f"{other} and {thread} enqueue on communicator {group} at once")
    try:
        time.sleep(random.random() * _watch.jitter_s)
        _watch.found.append(Enqueued(group, tuple(members), what, thread, caller()[0]))
        yield
    finally:
        del _watch.busy[group]


def faults(by_rank: Sequence[Sequence[Enqueued]]) -> list[str]:
    """Describe what breaks NCCL's rules: at most one fault of each worker and each pair."""
    found = []
    for rank, own in enumerate(by_rank):
        threads = sorted({each.thread for each in own})
        if len(threads) > 1:
            found.append(f"worker {rank} enqueues collectives in threads {', '.join(threads)}")
    for first, second in combinations(range(len(by_rank)), 2):
        shared = [
            [each for each in by_rank[rank] if {first, second} <= {*each.members}]
            for rank in (first, second)
        ]
        for number, pair in enumerate(zip_longest(*shared)):
            one, other = ((each.group, each.what) if each else None for each in pair)
            if one != other:
                places = " and ".join(each.place if each else "nothing" for each in pair)
                found.append(
                    f"workers {first} and {second} enqueue {one} and {other} as collective "
                    f"{number} ({places})"
                )
                break
    return found
