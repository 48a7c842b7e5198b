"""Write docs/results/ and the results of README.md from the JSON files in benchmarks/results/.

    python docs/results.py            # --check: write nothing, and exit with 1 if a page is stale

A file whose schema is known becomes a page without a change here: reports of `pres-dist bench
batch-size` and `pres-dist bench scaling`, and what `benchmarks/ranking.py`, `faults.py`, `soak.py`,
`stream_length.py` and `start_up.py` write. `about.yaml` beside the files has titles and notes.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import yaml
from results_plot import accuracy_plot
from results_tables import measured, section, table

ROOT = Path(__file__).parents[1]
SOURCE, TARGET = ROOT / "benchmarks/results", ROOT / "docs/results"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->"
Json = dict[str, Any]


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    files = generated()
    orphans = set(TARGET.glob("*.md")) - files.keys()
    changed = [path for path, text in files.items() if _read(path) != text]
    if "--check" in sys.argv:
        stale = [f"stale: {path.relative_to(ROOT)}" for path in [*changed, *orphans]]
        sys.exit("\n".join(stale) or 0)
    for path in orphans:
        path.unlink()
    for path in changed:
        path.write_text(files[path], encoding="utf-8")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def generated() -> dict[Path, str]:
    """Return the text of every file that this script writes."""
    about = yaml.safe_load(_read(SOURCE / "about.yaml"))
    found = {str(path.relative_to(SOURCE).with_suffix("")): path for path in SOURCE.rglob("*.json")}
    pages: dict[str, list[str]] = {}
    for name in [name for name in about if name in found] + sorted(found.keys() - about.keys()):
        own, path = about.get(name, {}), found[name]
        part = section(json.loads(_read(path)), path.relative_to(ROOT), own.get("command"))
        if not part:
            continue
        page, _, inner = name.partition("/")
        heading = [f"## {own.get('title', inner)}", *_notes(own)] if inner else []
        pages.setdefault(page, []).extend([*heading, part])
    pages["by_hand"] = [measured(one) for one in yaml.safe_load(_read(SOURCE / "by_hand.yaml"))]
    order = [page for page in about if page in pages]
    order += [page for page in pages if page not in order]
    files, links = {}, []
    for page in order:
        own = about.get(page, {})
        title = own.get("title", page.replace("_", " ").capitalize())
        links.append(f"- [{title}]({page}.md)")
        parts = [f"# {title}", *_notes(own), *pages[page], *_notes(own, "reading")]
        files[TARGET / f"{page}.md"] = "\n\n".join(parts) + "\n"
    index = ["# Results", *_notes(about["index"]), "\n".join(links)]
    files[TARGET / "index.md"] = "\n\n".join(index) + "\n"
    readme = _read(ROOT / "README.md")
    before, after = readme.split(BEGIN)[0], readme.split(END)[1]
    files[TARGET / "accuracy.svg"] = _plot(about["readme"])
    files[ROOT / "README.md"] = f"{before}{BEGIN}{_overview(about['readme'])}\n{END}{after}"
    return files


def _notes(about: Json, key: str = "note") -> list[str]:
    return [about[key].strip()] if key in about else []


def _default(about: Json) -> tuple[str, str, int]:
    """Return file, method and batch of the first default that has all streams of the table."""
    file, method, size = about["alone"]
    streams = _means(file, method, size).keys()
    return next(tuple(one) for one in about["defaults"] if streams <= _means(*one).keys())


def _overview(about: Json) -> str:
    """Return README's table: the model alone in small batches, and the default settings."""
    (file, method, size), chosen = about["alone"], _default(about)
    alone, default = _means(file, method, size), _means(*chosen)
    rows = [[stream, f"{ap:.4f}", f"{default[stream]:.4f}"] for stream, ap in alone.items()]
    head = [f"TGN alone, batch {size:,}", f"default settings, batch {chosen[2]:,}"]
    return table(["stream", *head], rows)


def _plot(about: Json) -> str:
    """Return the plot of accuracy against the temporal batch."""
    (file, _, smallest), (name, how, batch) = about["alone"], _default(about)
    sizes = json.loads(_read(SOURCE / f"{file}.json"))["sweep"]["batch_sizes"]
    methods = {
        "TGN alone": (file, "none", sizes),
        "PRES as published": (file, "paper", sizes),
        "default settings": (name, how, [smallest, batch]),
    }
    found = {
        label: {size: _means(where, method, size) for size in sizes}
        for label, (where, method, sizes) in methods.items()
    }
    streams = {
        stream: {
            label: {size: means[stream] for size, means in by_size.items() if stream in means}
            for label, by_size in found.items()
        }
        for stream in _means(*about["alone"])
    }
    return accuracy_plot("Test AP against the temporal batch", streams)


def _means(file: str, method: str, size: int) -> dict[str, float]:
    """Return the mean test AP by stream, of streams whose seeds are all done."""
    path = SOURCE / f"{file}.json"
    if not path.exists():
        return {}
    content = json.loads(_read(path))
    if "cells" in content:
        own = [
            c
            for c in content["cells"]
            if c["cell"]["method"] == method and c["done"] == c["planned"]
        ]
        return {
            c["cell"]["stream"]: c["figures"]["ap"]["mean"]
            for c in own
            if c["cell"]["batch_size"] == size
        }
    found: dict[str, list[float]] = {}
    for run in content["runs"]:
        if (run["method"], run["batch_size"]) == (method, size):
            found.setdefault(run["stream"], []).append(run["negatives"]["random"]["ap"])
    seeds = len(content["sweep"]["seeds"])
    return {stream: statistics.mean(aps) for stream, aps in found.items() if len(aps) == seeds}


if __name__ == "__main__":
    main()
