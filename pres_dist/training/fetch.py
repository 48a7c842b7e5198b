"""Fetch a run from its mirror to a machine that has no copy of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pres_dist.errors import CheckpointError
from pres_dist.files import new_folder
from pres_dist.remote import RemoteFolder
from pres_dist.report.run_folder import MIRROR, check_given_folder
from pres_dist.report.run_record import RECORD
from pres_dist.run_files import BEST, CALIBRATION, CHECKPOINTS, CONFIG, ENVIRONMENT, LATEST, METRICS
from pres_dist.training.checkpoint_folder import MANIFEST, check, leaves


def fetch_run(url: str, run_dir: Path, which: str = LATEST) -> None:
    """Download a run, with its newest checkpoint and its best epoch's.

    The copy stores the URL and is mirrored there, whatever the fetched config.yaml contains.

    Args:
        url: value of `training.checkpoint_mirror` of the run.
        run_dir: new or empty folder; created completely or not at all.
        which: name of another checkpoint, which becomes the newest in the copy.

    Raises:
        ConfigError: `run_dir` is in use, or the URL cannot be used.
        CheckpointError: the URL has no run or no checkpoint, or a file fails its check.
    """
    remote = RemoteFolder(url, "resume")
    check_given_folder(run_dir)
    if remote.read(CONFIG) is None:
        raise CheckpointError(f"{url}: not the mirror of a run: there is no {CONFIG} in it")
    place = run_dir.absolute()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(place) as folder:
            (folder / CHECKPOINTS).mkdir()
            _fetch(remote, folder, which)
            (folder / MIRROR).write_text(f"{remote.url}\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{run_dir}: cannot be written: {error.strerror}") from None


def _fetch(remote: RemoteFolder, folder: Path, which: str) -> None:
    for name in (RECORD, CONFIG, ENVIRONMENT, CALIBRATION, METRICS):
        content = remote.read(name)
        if content is not None:
            (folder / name).write_bytes(content)
    wanted: dict[str, str | None] = {LATEST: which, BEST: remote.read_line(f"{CHECKPOINTS}/{BEST}")}
    if which == LATEST:
        wanted[LATEST] = remote.read_line(f"{CHECKPOINTS}/{LATEST}")
        if wanted[LATEST] is None:
            raise CheckpointError(f"{remote.url}: there is no latest checkpoint here")
    for pointer, checkpoint in wanted.items():
        if checkpoint is not None:
            _fetch_checkpoint(remote, checkpoint, folder / CHECKPOINTS / checkpoint)
            (folder / CHECKPOINTS / pointer).write_text(f"{checkpoint}\n")


def _fetch_checkpoint(remote: RemoteFolder, name: str, folder: Path) -> None:
    """Download the files in the manifest, then check them."""
    there = f"{CHECKPOINTS}/{name}"
    manifest = remote.read(f"{there}/{MANIFEST}") if re.fullmatch(r"step-\d+", name) else None
    if manifest is None:
        names = [name for name in remote.folders(CHECKPOINTS) if name.startswith("step-")]
        manifests = {name: remote.read(f"{CHECKPOINTS}/{name}/{MANIFEST}") for name in names}
        complete = [name for name in names if manifests[name] is not None]
        whole = ", ".join(complete) or "none"
        raise CheckpointError(
            f"{remote.url}: the checkpoint must be one that is complete there ({whole}), got {name}"
        )
    if folder.is_dir():  # already fetched: the newest checkpoint is also the best
        return
    try:
        files = list(json.loads(manifest)["sha256"])
        if any(map(leaves, files)):
            raise ValueError(f"names must stay in the folder, got {files}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{remote.url}/{there}: not a complete checkpoint: {error}") from None
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        try:
            remote.download(f"{there}/{file}", folder / file)
        except FileNotFoundError:
            raise CheckpointError(f"{remote.url}/{there}/{file}: missing") from None
    (folder / MANIFEST).write_bytes(manifest)
    try:
        check(folder)
    except CheckpointError as error:
        text = str(error).replace(str(folder), f"{remote.url}/{there}")
        raise CheckpointError(text) from None
