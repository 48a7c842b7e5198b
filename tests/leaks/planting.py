"""The register of leaks that are planted on purpose."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

Leak = AbstractContextManager[object]


@dataclass(frozen=True)
class Planted:
    """A leak.

    Attributes:
        name: short.
        does: what leaks.
        caught_by: the probe that must find it.
        plant: the context in which runs leak.
        overrides: settings under which it shows; memory replicas take two workers.
    """

    name: str
    does: str
    caught_by: str
    plant: Callable[[], Leak]
    overrides: dict[str, object] = field(default_factory=dict)

    @property
    def needs_workers(self) -> bool:
        return "parallel.replicas" in self.overrides


PLANTED: dict[str, Planted] = {}


def plant(
    name: str, caught_by: str, **overrides: object
) -> Callable[[Callable[[], Leak]], Callable[[], Leak]]:
    """Enter a leak; its docstring says what it does. Overrides have __ for dots."""

    def enter(make: Callable[[], Leak]) -> Callable[[], Leak]:
        settings = {key.replace("__", "."): value for key, value in overrides.items()}
        does = " ".join((make.__doc__ or "").split())
        PLANTED[name] = Planted(name, does, caught_by, make, settings)
        return make

    return enter
