"""Reading of requirements/lock-*.txt."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement

FOLDER = Path(__file__).parents[2] / "requirements"
_ENTRY = re.compile(r"(?P<line>\S+==[^\\]+?)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def entries(name: str) -> dict[str, list[str]]:
    """Hashes of each requirement of a lock, of which nothing else may be part."""
    text = (FOLDER / f"lock-{name}.txt").read_text()
    assert re.sub(r"#.*\n", "", _ENTRY.sub("", text)) == "", name
    return {match["line"]: match["hashes"].split()[1::2] for match in _ENTRY.finditer(text)}


def versions(name: str, python: str) -> dict[str, str]:
    """Version of each package on Linux and x86-64, one each."""
    there = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    found = [Requirement(line) for line in entries(name)]
    kept = [each for each in found if each.marker is None or each.marker.evaluate(there)]
    assert len({each.name for each in kept}) == len(kept)
    return {each.name: str(each.specifier).removeprefix("==") for each in kept}
