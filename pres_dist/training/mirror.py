"""A run's checkpoints on another file system, where they outlive the machine.

URL/config.yaml, run.json, ...          as in the run folder
URL/metrics.jsonl                       up to the newest checkpoint, at least
URL/checkpoints/LATEST, BEST
URL/checkpoints/step-00000012/...

Files of a checkpoint come first, then its manifest, then LATEST or BEST. Without its
manifest a checkpoint does not exist.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from pres_dist.config.run import RunConfig
from pres_dist.errors import CheckpointError, ConfigError, PresDistError
from pres_dist.faults import failpoint
from pres_dist.remote import RemoteFolder
from pres_dist.report.run_folder import MIRROR
from pres_dist.report.run_record import RECORD
from pres_dist.run_files import (
    BEST,
    CALIBRATION,
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    LATEST,
    METRICS,
    REPORT,
    RESULTS,
)
from pres_dist.training.background import Background
from pres_dist.training.checkpoint_folder import MANIFEST

SETTING = "training.checkpoint_mirror"
_POINTERS = (f"{CHECKPOINTS}/{LATEST}", f"{CHECKPOINTS}/{BEST}")
_PROBE = "probe"


@dataclass
class MirrorTotals:
    """What mirroring has come to.

    Attributes:
        mirrored: checkpoints that have arrived. One that a newer one overtook never sets out.
        mirror_failures: that could not be written there.
        mirror_seconds: of a thread, beside training.
    """

    mirrored: int = 0
    mirror_failures: int = 0
    mirror_seconds: float = 0.0


class CheckpointMirror:
    """Copies checkpoints of a run folder in a thread. Its leader has one.

    An upload that fails is warned about and the run goes on; the next checkpoint tries again.

    Args:
        remote: the folder there.
        run_dir: the folder here.
        keep: newest checkpoints to keep there; the best one is kept besides.
        warn: takes a line about what failed.
        check_place: raises where `run_dir` is no longer the folder of this run.
    """

    def __init__(
        self,
        remote: RemoteFolder,
        run_dir: Path,
        keep: int,
        warn: Callable[[str], None],
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        self._remote, self._run_dir, self._keep, self._warn = remote, run_dir, keep, warn
        self._check_place = check_place
        self._background = Background("mirror")
        self._wanted: dict[str, str] = {}
        self._sending: str | None = None
        self._lock = Lock()
        self._totals = MirrorTotals()

    def begin(self) -> None:
        """Send what describes the run."""
        self._background.begin(self._clean)
        self._send_later(RECORD, CONFIG, ENVIRONMENT, CALIBRATION)

    def offer(self, which: str, name: str) -> None:
        """Let LATEST or BEST there name a checkpoint, which is sent where it is not there yet."""
        with self._lock:
            self._wanted[which] = name
        self._background.begin(self._send_wanted)

    def needs(self) -> set[str]:
        """Checkpoints that must stay in the run folder until they are sent."""
        with self._lock:
            sending = [] if self._sending is None else [self._sending]
            return {*self._wanted.values(), *sending}

    def finish(self) -> None:
        """Wait until all is there, results included."""
        self._send_later(METRICS, RESULTS, REPORT)
        self._background.wait()

    def close(self, timeout_s: float) -> None:
        """Let what is under way come to its end; not for longer."""
        self._background.close(timeout_s)

    def take_totals(self) -> MirrorTotals:
        """What mirroring has come to since this was last asked."""
        totals, self._totals = self._totals, MirrorTotals()
        return totals

    def _clean(self) -> None:
        self._try(self._remote.remove_partial)

    def _send_later(self, *files: str) -> None:
        def send() -> None:
            self._try(self._send_files, *files)

        self._background.begin(send)

    def _send_wanted(self) -> None:
        """One that is wanted. The best goes first: who goes on from the newest asks for it."""
        with self._lock:
            which = BEST if BEST in self._wanted else LATEST
            self._sending = name = self._wanted.pop(which, None)
        if name is not None and self._try(self._send, which, name):
            self._totals.mirrored += which == LATEST
        with self._lock:
            self._sending = None

    def _try(self, what: Callable[..., None], *arguments: str) -> bool:
        started = time.perf_counter()
        try:
            self._check_place()
            what(*arguments)
        except Exception as error:
            self._totals.mirror_failures += 1
            text = str(error) if isinstance(error, PresDistError) else repr(error)
            self._warn(f"warning: {SETTING}: {text}; the run goes on without")
            return False
        finally:
            self._totals.mirror_seconds += time.perf_counter() - started
        return True

    def _send(self, which: str, name: str) -> None:
        self._send_checkpoint(name)
        self._send_files(METRICS)
        failpoint("mirror")
        self._remote.write(f"{CHECKPOINTS}/{which}", f"{name}\n".encode())
        self._prune()

    def _send_checkpoint(self, name: str) -> None:
        here, there = self._run_dir / CHECKPOINTS / name, f"{CHECKPOINTS}/{name}"
        manifest = (here / MANIFEST).read_bytes()
        theirs = self._remote.read(f"{there}/{MANIFEST}")
        if theirs == manifest:
            return
        if self._remote.folders(there) or theirs is not None:
            self._forget(name)  # half an upload, or of a run that went on from an older one
        for file in json.loads(manifest)["sha256"]:
            failpoint("mirror")
            self._remote.upload(here / file, f"{there}/{file}")
        failpoint("mirror")
        self._remote.write(f"{there}/{MANIFEST}", manifest)

    def _send_files(self, *names: str) -> None:
        for name in names:
            if (self._run_dir / name).exists():
                self._remote.write(name, (self._run_dir / name).read_bytes())

    def _prune(self) -> None:
        pinned = {self._remote.read_line(pointer) for pointer in _POINTERS}
        steps = [name for name in self._remote.folders(CHECKPOINTS) if name.startswith("step-")]
        for name in steps[: -self._keep]:
            if name not in pinned:
                self._forget(name)

    def _forget(self, name: str) -> None:
        """Remove a checkpoint: what names it, then its manifest, then its files."""
        there = f"{CHECKPOINTS}/{name}"
        named = [pointer for pointer in _POINTERS if self._remote.read_line(pointer) == name]
        for each in (*named, f"{there}/{MANIFEST}", there):
            failpoint("mirror")
            self._remote.remove(each)


def check_mirror(config: RunConfig) -> None:
    """Raise ConfigError unless a new run may be mirrored where its configuration says."""
    url = config.training.checkpoint_mirror
    if url is None:
        return
    try:
        remote = RemoteFolder(url, SETTING)
        taken = remote.read(CONFIG) is not None
        if not taken:
            remote.write(_PROBE, b"")
            remote.remove(_PROBE)
    except CheckpointError as error:
        raise ConfigError(f"{SETTING}: {error}") from None
    if taken:
        raise ConfigError(
            f"{SETTING}: {url} has a run already: choose another URL, or go on with that one by "
            f"`pres-dist resume {url}`"
        )


def open_mirror(
    config: RunConfig,
    run_dir: Path,
    warn: Callable[[str], None],
    check_place: Callable[[], None],
) -> CheckpointMirror | None:
    """Where the run was fetched from, or else what the configuration asks for, if it does.

    Raises as `RemoteFolder`.
    """
    url = asked = config.training.checkpoint_mirror
    with suppress(FileNotFoundError):
        url = (run_dir / MIRROR).read_text(encoding="utf-8").strip()
    if url is None:
        return None
    if asked not in (None, url):
        warn(f"checkpoints go to {url}, where the run was fetched from; nothing goes to {asked}")
    mirror = CheckpointMirror(
        RemoteFolder(url, SETTING), run_dir, config.training.keep_checkpoints, warn, check_place
    )
    mirror.begin()
    return mirror
