"""The commands of tutorials run as they stand, in the order of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("own_data", ["data/mine: 6,000 events, 90 nodes", "│ ann │ 1 │ item 0", "explore.html"]),
        ("several_workers", ["\nthe same\n", "report: runs/ray/report.html"]),
    ],
)
def test_its_commands_run(page: str, shown: list[str], tmp_path: Path) -> None:
    text = (ROOT / f"docs/tutorials/{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks[0] == "source .venv/bin/activate\n"
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = subprocess.run(
        ["bash", "-e", "-c", "".join(blocks[1:])],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        },
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in shown:
        assert line in done.stdout
