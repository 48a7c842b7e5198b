"""Clocks may be set while a run goes on: no wait, heartbeat or timeout may look at them."""

from __future__ import annotations

import ast
from pathlib import Path

import pres_dist

PACKAGE = Path(pres_dist.__file__).parent
WALL_CLOCK = {"time.time", "datetime.now", "datetime.utcnow", "datetime.today"}
DATES = {
    "console.py",
    "inference/explore/page.py",
    "report/environment.py",
    "report/run_folder.py",
    "report/run_lock.py",
    "inference/times.py",
}
"""Modules that write a date for people, or compare one with times of events."""


def test_the_wall_clock_is_for_dates_alone() -> None:
    found = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and f"{node.value.id}.{node.attr}" in WALL_CLOCK
    }
    assert found <= DATES
