"""Writes requirements/lock-*.txt: every package that the launch scripts and the image install.

    pip install uv && python requirements/lock.py

uv resolves setup.py within requirements/constraints.txt for all Pythons and platforms at once.
Versions that a lock has already stay, unless the constraints say otherwise. The build of torch for
CPUs comes from where pip finds one; run this with Python 3.11 on Linux and x86-64.

    lock-build.txt       builds the packages that come as source, and pres_dist itself
    lock-run.txt         extras data, report, ray and dgl: launch/quickstart.sh
    lock-dev.txt         the same with dev: launch/test.sh
    lock-image.txt       extra all: docker/Dockerfile
    lock-torch-gpu.txt   torch as PyPI has it, on Linux with the libraries of CUDA
    lock-torch-cpu.txt   its build for CPUs
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
EXTRAS = {
    "run": ("data", "report", "ray", "dgl"),
    "dev": ("data", "report", "dev"),
    "image": ("all",),
}
BUILD = ("setuptools",)
TORCH = re.compile(r"torch|triton|(nvidia|cuda)-.*")
HEADER = "# Made by `python requirements/lock.py`; installed with --require-hashes --no-deps.\n"


def main() -> None:
    """Rewrite all locks."""
    torch: dict[str, str] = {}
    for name, extras in EXTRAS.items():
        entries = resolved(f"lock-{name}.txt", extras)
        build = {key: entries.pop(key) for key in [*entries] if _project(key) in BUILD}
        torch |= {key: entries.pop(key) for key in [*entries] if TORCH.fullmatch(_project(key))}
        write(f"lock-{name}.txt", entries)
    write("lock-build.txt", build)
    write("lock-torch-gpu.txt", torch)
    (version,) = {key.split()[0] for key in torch if _project(key) == "torch"}
    write("lock-torch-cpu.txt", {"torch": cpu_build(version)})


def resolved(lock: str, extras: tuple[str, ...]) -> dict[str, str]:
    """Entry of each package, by its line without hashes."""
    with tempfile.TemporaryDirectory() as folder:
        asked, out = Path(folder, "build.in"), Path(folder, "lock.txt")
        asked.write_text("\n".join(BUILD) + "\n")
        before = [FOLDER / name for name in (lock, "lock-build.txt", "lock-torch-gpu.txt")]
        # What is there already is preferred by uv.
        out.write_text("".join(path.read_text() for path in before if path.exists()))
        command = ["uv", "pip", "compile", "--universal", "--python-version", "3.10", "--quiet"]
        command += ["--generate-hashes", "--no-header", "--no-annotate"]
        command += ["-c", str(FOLDER / "constraints.txt"), *(f"--extra={each}" for each in extras)]
        command += [str(ROOT / "setup.py"), str(asked), "-o", str(out)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        entries = re.split(r"\n(?=\S)", out.read_text().strip())
    return {entry.splitlines()[0].rstrip(" \\"): entry for entry in entries}


def cpu_build(version: str) -> str:
    """The entry of torch's build for CPUs, which is for one Python and one platform."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--no-deps", "--quiet", "--report", "-", f"{version}+cpu"]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    (torch,) = json.loads(found.stdout)["install"]
    digest = torch["download_info"]["archive_info"]["hashes"]["sha256"]
    marker = "python_version == '3.11' and sys_platform == 'linux' and platform_machine == 'x86_64'"
    return f"{version}+cpu ; {marker} \\\n    --hash=sha256:{digest}"


def write(name: str, entries: dict[str, str]) -> None:
    """Write a lock."""
    (FOLDER / name).write_text(HEADER + "".join(f"{entry}\n" for entry in entries.values()))
    print(f"requirements/{name}: {len(entries)} packages")


def _project(line: str) -> str:
    return line.split("==")[0]


if __name__ == "__main__":
    sys.exit(main())
