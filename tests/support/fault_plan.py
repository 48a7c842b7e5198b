"""Plans of faults: kind, place and time of each.

    plan = FaultPlan().kill(rank=1, step=7).stall(shard=0, ms=500)
    subprocess.run(["torchrun", ...], env=os.environ | plan.environment(folder))

The processes of the launch read the plan from PRES_DIST_FAILPOINTS; see `fault_injector.py`.
Each fault happens once in a launch, even if processes restart: a file in the folder records
that it has happened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pres_dist.errors import ConfigError
from pres_dist.failpoint import VARIABLE

ROOT = Path(__file__).parents[2]
INJECTOR = "tests.support.fault_injector:arm"

Verb = Literal["kill", "stop", "terminate", "stall", "duplicate", "delay", "reorder"]
"""SIGKILL, SIGSTOP and SIGTERM of the process itself; sleep; and faults of a push to a memory
shard: it arrives twice, late, or after the write that was sent next."""
Place = Literal[
    "before_step",
    "after_step",
    "before_checkpoint",
    "after_checkpoint",
    "open",
    "write",
    "fsync",
    "rename",
    "mirror",
    "send",
    "before_push",
    "during_push",
    "after_push",
]
"""Places in a worker: around a step or a checkpoint, a system call on a file of a checkpoint, a
change of its mirror, the sending of a push. Places in a memory shard: a part of a push has
arrived, is written but not counted, or is complete."""

_ON_THE_WAY = ("duplicate", "delay", "reorder")
_TIMED = ("stall", "delay")
_OF_A_SHARD = ("before_push", "during_push", "after_push")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, at the first time that its process reaches its place at that step or later.

    Attributes:
        verb: kind of fault.
        place: failpoint; by default `before_step`, `send` for faults of a push, and
            `before_push` at a shard.
        rank, shard: the worker or the memory shard; exactly one of the two.
        step: steps of the run that the worker has completed; for a shard, writes that were made
            before this one since the shards were started.
        passes: times that the place is passed, from that step on, before the fault happens.
        ms: milliseconds of a stall or a delay.

    Raises:
        ConfigError: the attributes do not fit together.
    """

    verb: Verb
    place: Place
    rank: int | None = None
    shard: int | None = None
    step: int = 0
    passes: int = 0
    ms: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (("verb", get_args(Verb)), ("place", get_args(Place))):
            if getattr(self, name) not in allowed:
                self._refuse(f"{name} must be one of {', '.join(allowed)}")
        if (self.rank is None) == (self.shard is None):
            self._refuse("a fault must have a rank or a shard, and not both")
        for name in ("rank", "shard", "step", "passes"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 0):
                self._refuse(f"{name} must be an integer >= 0")
        if (self.shard is not None) != (self.place in _OF_A_SHARD):
            self._refuse(f"the places of a shard are {', '.join(_OF_A_SHARD)}, and of no worker")
        if (self.verb in _ON_THE_WAY) != (self.place == "send"):
            self._refuse(
                f"{', '.join(_ON_THE_WAY)} happen to what a worker sends, and nothing else"
            )
        if (self.verb in _TIMED) != (self.ms > 0):
            self._refuse(f"{' and '.join(_TIMED)} take ms > 0, and nothing else does")
        if self.place == "write" and self.verb != "kill":
            self._refuse("nothing but kill can happen in the middle of a write")

    def _refuse(self, why: str) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        raise ConfigError(f"{VARIABLE}: {why}, got {given}")


@dataclass(frozen=True)
class FaultPlan:
    """Faults of a launch. Each verb method returns a plan with one more fault.

    Attributes:
        faults: in the order in which they were added.
        folder: records which faults have happened; empty or new for each launch, and visible to
            all processes.
    """

    faults: tuple[Fault, ...] = ()
    folder: Path | None = None

    def kill(self, **where: Any) -> FaultPlan:
        """Add a SIGKILL; `where` is rank or shard, step and place of a `Fault`."""
        return self._and("kill", where)

    def stop(self, **where: Any) -> FaultPlan:
        """Add a SIGSTOP: the process exists but does not respond."""
        return self._and("stop", where)

    def terminate(self, **where: Any) -> FaultPlan:
        """Add a SIGTERM, as a machine gets before preemption."""
        return self._and("terminate", where)

    def stall(self, ms: float, **where: Any) -> FaultPlan:
        """Add a sleep of `ms` milliseconds."""
        return self._and("stall", {"ms": ms, **where})

    def duplicate(self, **where: Any) -> FaultPlan:
        """Add a fault that sends one message of a push twice."""
        return self._and("duplicate", where)

    def delay(self, ms: float, **where: Any) -> FaultPlan:
        """Add a fault that sends one message of a push `ms` milliseconds late."""
        return self._and("delay", {"ms": ms, **where})

    def reorder(self, **where: Any) -> FaultPlan:
        """Add a fault that sends a message of a push after the next write or before a read."""
        return self._and("reorder", where)

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the environment variables that pass the plan to the processes of a launch."""
        plan = replace(self, folder=folder.absolute()).as_json()
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {VARIABLE: f"{INJECTOR} {plan}", "PYTHONPATH": os.pathsep.join(path)}

    def as_json(self) -> str:
        faults = [
            {name: value for name, value in vars(fault).items() if value is not None}
            for fault in self.faults
        ]
        return json.dumps({"folder": str(self.folder), "faults": faults})

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Return the plan that `as_json` wrote.

        Raises:
            ConfigError: the text is not a plan.
        """
        try:
            plan = json.loads(text)
            folder, faults = plan["folder"], plan["faults"]
            made = tuple(_with_defaults(fault) for fault in faults)
            return cls(made, Path(folder))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f'{VARIABLE} must be {{"folder": ..., "faults": [{{"verb": "kill", "rank": 1, '
                f'"step": 7}}, ...]}}, got {text[:200]!r}: {error}'
            ) from None

    def _and(self, verb: Verb, where: Mapping[str, Any]) -> FaultPlan:
        return replace(self, faults=(*self.faults, _with_defaults({"verb": verb, **where})))


def _with_defaults(fault: Mapping[str, Any]) -> Fault:
    place = "before_push" if fault.get("shard") is not None else "before_step"
    if fault["verb"] in _ON_THE_WAY:
        place = "send"
    return Fault(**{"place": place, **fault})
