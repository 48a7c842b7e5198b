"""Add to the site what is not in docs/: files of other folders, and the generated reference."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from mkdocs.structure.files import File, Files

import pres_dist
from pres_dist.cli.main import COMMANDS
from pres_dist.config.fields import leaves
from pres_dist.config.run import RunConfig

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "launch/README.md": "guides/launch.md",
    "docker/README.md": "guides/docker.md",
    "CHANGELOG.md": "reference/changes.md",
}
"""Pages by the files of the repository that they show."""
SUBCOMMANDS = {
    "bench": ["batch-size", "scaling", "compare", "page", "step", "ranking"],
    "data": ["import", "describe", "synthesize", "verify"],
}


def on_config(config: Any) -> Any:
    """List the generated pages of results in the navigation."""
    index = (ROOT / "docs/results/index.md").read_text(encoding="utf-8")
    pages = ["index.md", *re.findall(r"\((\w+\.md)\)", index)]
    for section in config.nav:
        if "Results" in section:
            section["Results"] = [f"results/{page}" for page in pages]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    pages = {page: (ROOT / file).read_text(encoding="utf-8") for file, page in ELSEWHERE.items()}
    pages |= {
        "reference/settings.md": _settings(),
        "reference/cli.md": _commands(),
        "reference/api.md": _api(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at pages of the site; a link to a file that is no page becomes its text."""
    uri = page.file.src_uri
    source = next((file for file, name in ELSEWHERE.items() if name == uri), f"docs/{uri}")

    def link(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        place, hash_, anchor = target.partition("#")
        if "://" in target or not place:
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), place))
        site = ELSEWHERE.get(file, file.removeprefix("docs/"))
        if site == file or not posixpath.splitext(site)[1]:
            return text[1:-1]
        return f"{text}({posixpath.relpath(site, posixpath.dirname(uri))}{hash_}{anchor})"

    return re.sub(r"(\[[^\]]*\])\(([^)\s]+)\)", link, markdown)


def _settings() -> str:
    """Return a table of every setting: what it allows, its default and its meaning."""
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


def _commands() -> str:
    """Return the help of every command, without the settings that _settings lists."""
    parts = ["# Commands", "Every [setting](settings.md) is also an option of commands that train."]
    for name, summary in COMMANDS.items():
        parts += [f"## {name}", f"{summary[0].upper()}{summary[1:]}."]
        for arguments in ([sub, "--help"] for sub in SUBCOMMANDS.get(name, [])):
            parts += [f"### {name} {arguments[0]}", _help(name, arguments)]
        if name not in SUBCOMMANDS:
            parts.append(_help(name, ["--help"]))
    return "\n\n".join(parts) + "\n"


def _help(command: str, arguments: list[str]) -> str:
    """Return the --help of a command as a code block."""
    main = import_module(f"pres_dist.cli.{command}").main
    environment = mock.patch.dict(os.environ, COLUMNS="82")
    printed = contextlib.redirect_stdout(io.StringIO())
    with environment, printed as out, contextlib.suppress(SystemExit):
        main(arguments)
    sections = {leaf.path[0] for leaf in leaves(RunConfig) if len(leaf.path) > 1} | {"run"}
    text = re.split(rf"\n(?:{'|'.join(sections)}):\n", out.getvalue())[0]
    return f"```text\n{text.strip()}\n```"


def _api() -> str:
    """Return the public names of the package, with their docstrings."""
    names = [name for name in pres_dist.__all__ if not name.startswith("_")]
    found = [f"::: {getattr(pres_dist, name).__module__}.{name}\n" for name in names]
    return "# From Python\n\nAll are names of `pres_dist`.\n\n" + "\n".join(found)
