"""What mkdocs adds to the pages of docs/: files that stand elsewhere, and the reference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import pres_dist
from pres_dist.config.fields import leaves
from pres_dist.config.run import RunConfig

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "launch/README.md": "launch.md",
    "docker/README.md": "docker.md",
    "CHANGELOG.md": "changes.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    pages = {page: _moved(ROOT / source) for source, page in ELSEWHERE.items()}
    pages |= {"settings.md": _settings(), "api.md": _api()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to what is no page become their text."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown)


def _moved(path: Path) -> str:
    """A file of the repository with links as they are from docs/."""

    def link(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("#"):
            return match[0]
        place, hash_, anchor = target.partition("#")
        inside = (path.parent / place).resolve().relative_to(ROOT).as_posix()
        page = ELSEWHERE.get(inside, inside.removeprefix("docs/"))
        known = inside in ELSEWHERE or inside.startswith("docs/")
        return f"]({page}{hash_}{anchor})" if known else f"](../{inside})"

    return re.sub(r"(\]\()([^)\s]+)\)", link, path.read_text(encoding="utf-8"))


def _settings() -> str:
    """Every setting of a run, with what it allows, its default and its meaning."""
    lines = [
        "# Settings",
        "",
        "Of a configuration file, and options: `training.epochs` is `--training.epochs`.",
    ]
    section = ""
    for leaf in leaves(RunConfig):
        if (first := leaf.path[0] if len(leaf.path) > 1 else "run") != section:
            section = first
            lines += [
                "",
                f"## {section}",
                "",
                "| setting | allows | default | |",
                "|---|---|---|---|",
            ]
        default = leaf.field.get_default(call_default_factory=True)
        cells = [f"`{leaf.key}`", leaf.allowed, f"`{default}`", leaf.help]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _api() -> str:
    """The public names of the package, by their docstrings."""
    names = [name for name in pres_dist.__all__ if not name.startswith("_")]
    found = [f"::: {getattr(pres_dist, name).__module__}.{name}\n" for name in names]
    return "# From Python\n\nAll are names of `pres_dist`.\n\n" + "\n".join(found)
