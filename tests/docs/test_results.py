"""docs/results/ and the results in README.md are generated from the kept JSON files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, root / "docs/results.py", "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_pages_are_up_to_date() -> None:
    done = check(ROOT)
    assert done.returncode == 0, f"run python docs/results.py\n{done.stderr}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy of the files that the generator reads and writes."""
    for folder in ("benchmarks/results", "docs/results"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("results*.py")]:
        shutil.copy(file, tmp_path / file.relative_to(ROOT))
    return tmp_path


def test_a_changed_figure_makes_its_page_and_the_readme_stale(copy: Path) -> None:
    file = copy / "benchmarks/results/batch_size.json"
    report = json.loads(file.read_text())
    for cell in report["cells"]:
        cell["figures"]["ap"]["mean"] -= 0.01
    file.write_text(json.dumps(report))
    done = check(copy)
    assert done.returncode == 1
    stale = ["docs/results/batch_size.md", "docs/results/accuracy.svg", "README.md"]
    assert done.stderr.splitlines() == [f"stale: {file}" for file in stale]


def test_figures_of_a_gpu_become_a_page(copy: Path) -> None:
    report = json.loads((copy / "benchmarks/results/decoders.json").read_text())
    steps = {"default, 600": {"events_per_s": 1234.0, "kernels": 900.0, "busy": 0.5}}
    found = {
        "schema": "gpu",
        "environment": report["environment"],
        "steps": steps | {"seconds": 3.0},
        "waits": {"default": {"/step/gather.py:100": 1}, "seconds": 1.0},
        "accuracy": {"goal": 0.98, "seconds_to_goal": None},
        "epochs": {"error": ["Traceback", "RuntimeError: out of memory"]},
    }
    (copy / "benchmarks/results/gpu.json").write_text(json.dumps(found))
    subprocess.run([sys.executable, copy / "docs/results.py"], check=True, timeout=240)
    page = (copy / "docs/results/gpu.md").read_text()
    for expected in ("| default, 600 |", "/step/gather.py:100 | 1 |", "0.98", "out of memory"):
        assert expected in page


def test_a_new_report_becomes_a_page(copy: Path) -> None:
    kept = copy / "benchmarks/results"
    shutil.copy(kept / "decoders.json", kept / "new_idea.json")
    subprocess.run([sys.executable, copy / "docs/results.py"], check=True, timeout=240)
    assert "[New idea](new_idea.md)" in (copy / "docs/results/index.md").read_text()
    assert "muon" in (copy / "docs/results/new_idea.md").read_text()
    (copy / "benchmarks/results/new_idea.json").unlink()
    assert "stale: docs/results/new_idea.md" in check(copy).stderr.splitlines()
