"""Writes requirements/lock-*.txt: every package that the launch scripts install, by hash.

    pip install uv && python requirements/lock.py

uv resolves setup.py within requirements/constraints.txt for all Pythons and platforms at once.
Versions that a lock has already stay, unless the constraints say otherwise.

    lock-build.txt       what builds the packages that come as source, and pres_dist itself
    lock-run.txt         extras data and report: launch/quickstart.sh
    lock-dev.txt         the same with dev: launch/test.sh
    lock-torch.txt       torch as PyPI has it, on Linux with the libraries of CUDA
    lock-torch-cpu.txt   its build for CPUs, as docker/requirements-cpu.txt has it
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
EXTRAS = {"run": ("data", "report"), "dev": ("data", "report", "dev")}
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
    write("lock-torch.txt", torch)
    write("lock-torch-cpu.txt", {"torch": cpu_build()})


def resolved(lock: str, extras: tuple[str, ...]) -> dict[str, str]:
    """Entry of each package, by its line without hashes."""
    with tempfile.TemporaryDirectory() as folder:
        asked, out = Path(folder, "build.in"), Path(folder, "lock.txt")
        asked.write_text("\n".join(BUILD) + "\n")
        before = [FOLDER / name for name in (lock, "lock-build.txt", "lock-torch.txt")]
        # What is there already is preferred by uv.
        out.write_text("".join(path.read_text() for path in before if path.exists()))
        command = ["uv", "pip", "compile", "--universal", "--python-version", "3.10", "--quiet"]
        command += ["--generate-hashes", "--no-header", "--no-annotate"]
        command += ["-c", str(FOLDER / "constraints.txt"), *(f"--extra={each}" for each in extras)]
        command += [str(ROOT / "setup.py"), str(asked), "-o", str(out)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        entries = re.split(r"\n(?=\S)", out.read_text().strip())
    return {entry.splitlines()[0].rstrip(" \\"): entry for entry in entries}


def cpu_build() -> str:
    """The entry of torch's build for CPUs, which is for one Python and one platform."""
    lines = (ROOT / "docker" / "requirements-cpu.txt").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("torch=="))
    version, digest = line.split()
    marker = "python_version == '3.11' and sys_platform == 'linux' and platform_machine == 'x86_64'"
    return f"{version} ; {marker} \\\n    {digest}"


def write(name: str, entries: dict[str, str]) -> None:
    """Write a lock."""
    (FOLDER / name).write_text(HEADER + "".join(f"{entry}\n" for entry in entries.values()))
    print(f"requirements/{name}: {len(entries)} packages")


def _project(line: str) -> str:
    return line.split("==")[0]


if __name__ == "__main__":
    sys.exit(main())
