"""Writes docker/requirements-VARIANT.txt: every package of an image with its version and hash.

    python3.11 docker/lock.py cpu      # on Linux and x86-64, with a pip of 23 or newer
    python3.11 docker/lock.py gpu

pip resolves what setup.py asks for with the extra `all`, within requirements/constraints.txt,
and says which files it would install; nothing is installed. For `cpu`, pip must find torch's
CPU build and for `gpu` the one that PyPI has: options for that go to pip
(`-- --extra-index-url URL`).
What comes as source alone is in requirements-source.txt, which both images share.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = ("cpu", "gpu")
HEADER = """# Made by `python docker/lock.py {variant}`; installed with --require-hashes.
"""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Lock the packages of an image.")
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("pip_options", nargs="*", help="after --, for pip")
    arguments = parser.parse_args(argv)
    packages = sorted(_resolved(arguments.pip_options), key=lambda package: package["name"])
    build = {"cpu": "cpu", "gpu": ""}[arguments.variant]
    torch = next(package["version"] for package in packages if package["name"] == "torch")
    if torch.partition("+")[2] != build:
        sys.exit(f"error: pip finds torch {torch}, which is not the build for {arguments.variant}")
    for source, name in ((False, arguments.variant), (True, "source")):
        lines = [_line(package) for package in packages if package["source"] == source]
        path = ROOT / "docker" / f"requirements-{name}.txt"
        path.write_text(HEADER.format(variant=arguments.variant) + "".join(lines))
        print(f"{path.relative_to(ROOT)}: {len(lines)} packages")


def _resolved(pip_options: list[str]) -> list[dict[str, Any]]:
    """Name, version and hash of every package, and whether it comes as source."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--report", str(report), *pip_options]
        command += ["-c", str(ROOT / "requirements" / "constraints.txt"), f"{ROOT}[all]"]
        subprocess.run(command, check=True)
        installs = json.loads(report.read_text())["install"]
    return [
        {
            "name": install["metadata"]["name"].lower().replace("_", "-"),
            "version": install["metadata"]["version"],
            "sha256": install["download_info"]["archive_info"]["hashes"]["sha256"],
            "source": not install["download_info"]["url"].endswith(".whl"),
        }
        for install in installs
        if install["metadata"]["name"] != "pres-dist"
    ]


def _line(package: dict[str, Any]) -> str:
    return f"{package['name']}=={package['version']} --hash=sha256:{package['sha256']}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
