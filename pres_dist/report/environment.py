"""Environment of a run: versions, hardware, source revision, command line."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from pres_dist.records import Environment
from pres_dist.remote import without_secrets
from pres_dist.version import __version__

NETWORK_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA")
"""Variables that select the network between workers."""
PACKAGES = ("torch", "numpy", "pyarrow", "ray", "dgl")


def describe_environment(seed: int) -> Environment:
    """Return the facts that can explain why two runs differ; unknown values are None."""
    versions: dict[str, str | None] = {
        "pres_dist": __version__,
        "python": platform.python_version(),
    }
    for name in PACKAGES:  # without importing them, which may take seconds
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    affinity = getattr(os, "sched_getaffinity", None)  # a container often limits the cores
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": without_secrets(shlex.join(sys.argv)),
        "launch": launch_id(),
        "seed": seed,
        "git_commit": git_commit(),
        "interfaces": {name: os.environ[name] for name in NETWORK_VARIABLES if name in os.environ},
        "versions": versions,
        "hardware": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "usable_cores": len(affinity(0)) if affinity else os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": _gpus(),
        },
    }


LAUNCH = "PRES_DIST_LAUNCH"
"""Variable with the id that a launcher other than torchrun gives to all attempts of a launch."""


def launch_id() -> str | None:
    """Return the id that torchrun or `pres-dist ray` gives to all attempts of a launch, or None.

    It is also None if torchrun got an address but no --rdzv-id, because torchrun then names
    every launch "none".
    """
    name = os.environ.get(LAUNCH) or os.environ.get("TORCHELASTIC_RUN_ID")
    return None if name == "none" else name


def git_commit() -> str | None:
    """Return the commit of this package's checkout, with `-modified` if there are changes.

    It is None for an installed package, even inside another repository.
    """
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git("rev-parse", "HEAD")
    modified = _git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{commit}-modified" if commit and modified else commit


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            # `git status` would otherwise lock the index, and leave the lock if it is killed.
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Return the names of the GPUs if torch is loaded; a report must not load torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
