"""The documentation: links that lead somewhere, and the site."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "launch/README.md",
    ROOT / "docker/README.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    results = {f"results/{path.name}" for path in (ROOT / "docs/results").glob("*.md")}
    assert pages - results <= set(re.findall(r"\b([a-z_/]+\.md)\b", navigation))


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings")):
        pytest.skip("needs the docs extra")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    settings = (tmp_path / "site/reference/settings/index.html").read_text(encoding="utf-8")
    assert "training.batch_size" in settings
    commands = (tmp_path / "site/reference/cli/index.html").read_text(encoding="utf-8")
    assert "--unknown" in commands
    api = (tmp_path / "site/reference/api/index.html").read_text(encoding="utf-8")
    assert "pres_dist.inference.run.Run" in api
