"""Mirror of a run's checkpoints on another file system, where they outlive the machine.

URL/config.yaml, run.json, ...          as in the run folder
URL/metrics.jsonl                       up to the newest checkpoint, at least
URL/checkpoints/LATEST, BEST
URL/checkpoints/step-00000012/...

The files of a checkpoint are uploaded first, then its manifest, then LATEST or BEST. A checkpoint
without a manifest does not exist.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from pres_dist.config.run import RunConfig
from pres_dist.errors import CheckpointError, ConfigError, PresDistError
from pres_dist.failpoint import failpoint
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

_log = logging.getLogger(__name__)
SETTING = "training.checkpoint_mirror"
_POINTERS = (f"{CHECKPOINTS}/{LATEST}", f"{CHECKPOINTS}/{BEST}")
_PROBE = "probe"


@dataclass
class MirrorTotals:
    """Counts and duration of uploads to the mirror.

    Attributes:
        mirrored: number of checkpoints uploaded. One superseded before its turn is skipped.
        mirror_failures: number of failed uploads.
        mirror_seconds: time that a thread spent on uploads while training continued.
    """

    mirrored: int = 0
    mirror_failures: int = 0
    mirror_seconds: float = 0.0


class CheckpointMirror:
    """Background upload of a run folder's checkpoints. Only rank 0 has one.

    A failed upload logs a warning and the run continues; the next checkpoint tries again.

    Args:
        remote: remote folder.
        run_dir: local run folder.
        keep: number of newest checkpoints to keep there; the best one is always kept too.
        check_place: raises if `run_dir` is no longer the folder of this run.
    """

    def __init__(
        self,
        remote: RemoteFolder,
        run_dir: Path,
        keep: int,
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        self._remote, self._run_dir, self._keep = remote, run_dir, keep
        self._check_place = check_place
        self._background = Background("mirror")
        self._wanted: dict[str, str] = {}
        self._sending: str | None = None
        self._lock = Lock()
        self._totals = MirrorTotals()

    def begin(self) -> None:
        """Upload the files that describe the run."""
        self._background.begin(lambda: self._try(self._remote.remove_partial))
        files = (RECORD, CONFIG, ENVIRONMENT, CALIBRATION)
        self._background.begin(lambda: self._try(self._send_files, *files))

    def offer(self, which: str, name: str) -> None:
        """Queue an update of the remote LATEST or BEST; upload its checkpoint first if missing."""
        with self._lock:
            self._wanted[which] = name
        self._background.begin(self._send_wanted)

    def needs(self) -> set[str]:
        """Return the checkpoints that must stay in the run folder until they are uploaded."""
        with self._lock:
            sending = [] if self._sending is None else [self._sending]
            return {*self._wanted.values(), *sending}

    def finish(self) -> None:
        """Upload metrics and results, and wait until all uploads are done."""
        files = (METRICS, RESULTS, REPORT)
        self._background.begin(lambda: self._try(self._send_files, *files))
        self._background.wait()

    def close(self, timeout_s: float) -> None:
        """Wait for uploads under way, at most `timeout_s` seconds."""
        self._background.close(timeout_s)

    def take_totals(self) -> MirrorTotals:
        """Return the totals since the last call, and reset them."""
        totals, self._totals = self._totals, MirrorTotals()
        return totals

    def _send_wanted(self) -> None:
        """Upload one queued checkpoint, the best first: resuming from the newest needs it too."""
        with self._lock:
            which = BEST if BEST in self._wanted else LATEST
            self._sending = name = self._wanted.pop(which, None)
        if name is not None and self._try(self._send, which, name):
            self._totals.mirrored += which == LATEST
        with self._lock:
            self._sending = None

    def _try(self, what: Callable[..., None], *arguments: str) -> bool:
        """Call something; warn if it fails, and return False."""
        started = time.perf_counter()
        try:
            self._check_place()
            what(*arguments)
        except Exception as error:
            self._totals.mirror_failures += 1
            text = str(error) if isinstance(error, PresDistError) else repr(error)
            _log.warning("%s: %s; the run goes on without", SETTING, text)
            return False
        finally:
            self._totals.mirror_seconds += time.perf_counter() - started
        return True

    def _send(self, which: str, name: str) -> None:
        """Upload a checkpoint if it is not there, then the metrics, then the pointer to it."""
        here, there = self._run_dir / CHECKPOINTS / name, f"{CHECKPOINTS}/{name}"
        manifest = (here / MANIFEST).read_bytes()
        theirs = self._remote.read(f"{there}/{MANIFEST}")
        if theirs != manifest:
            if self._remote.folders(there) or theirs is not None:
                self._forget(name)  # a partial upload, or of a run resumed from an older one
            for file in json.loads(manifest)["sha256"]:
                failpoint("mirror")
                self._remote.upload(here / file, f"{there}/{file}")
            failpoint("mirror")
            self._remote.write(f"{there}/{MANIFEST}", manifest)
        self._send_files(METRICS)
        failpoint("mirror")
        self._remote.write(f"{CHECKPOINTS}/{which}", f"{name}\n".encode())
        pinned = {self._remote.read_line(pointer) for pointer in _POINTERS}
        steps = [name for name in self._remote.folders(CHECKPOINTS) if name.startswith("step-")]
        for old in steps[: -self._keep]:
            if old not in pinned:
                self._forget(old)

    def _send_files(self, *names: str) -> None:
        for name in names:
            if (self._run_dir / name).exists():
                self._remote.write(name, (self._run_dir / name).read_bytes())

    def _forget(self, name: str) -> None:
        """Remove a checkpoint: pointers to it, then its manifest, then its files."""
        there = f"{CHECKPOINTS}/{name}"
        named = [pointer for pointer in _POINTERS if self._remote.read_line(pointer) == name]
        for each in (*named, f"{there}/{MANIFEST}", there):
            failpoint("mirror")
            self._remote.remove(each)


def check_mirror(config: RunConfig) -> None:
    """Raise ConfigError if a new run cannot use the mirror in its configuration."""
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
    check_place: Callable[[], None],
) -> CheckpointMirror | None:
    """Open the mirror that the run was fetched from, or the configured one, if any.

    Raises the same errors as `RemoteFolder`.
    """
    url = asked = config.training.checkpoint_mirror
    with suppress(FileNotFoundError):
        url = (run_dir / MIRROR).read_text(encoding="utf-8").strip()
    if url is None:
        return None
    if asked not in (None, url):
        _log.warning(
            "checkpoints go to %s, where the run was fetched from; nothing goes to %s", url, asked
        )
    mirror = CheckpointMirror(
        RemoteFolder(url, SETTING), run_dir, config.training.keep_checkpoints, check_place
    )
    mirror.begin()
    return mirror
