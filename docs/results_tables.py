"""Tables of measurements, by the schema of their JSON file."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

MARKS = {"better": " ▲", "worse": " ▼", "equal within interval": " ="}
METRICS = {"ap": "AP", "auc": "AUC", "accuracy": "accuracy", "macro_f1": "macro F1"}
Json = dict[str, Any]


def section(content: Any, path: Path, command: str | None = None) -> str:
    """Return the part of a page for one file; empty if its schema is not known.

    Args:
        path: file, from the root of the repository.
        command: command that repeats the file; by default the one that it records.
    """
    settings: Json = {}
    match content:
        case {"format": "pres_dist.scaling/1"}:
            training = content["config"]["training"]
            keys = ("optimizer", "batch_size", "events_per_step", "epochs")
            settings = {"data.stream": content["config"]["data"]["stream"]}
            settings |= {f"training.{key}": training[key] for key in keys if key in training}
            parts = [_scaling(content)]
        case {"sweep": {"base": settings} as sweep, "cells": cells}:
            classifies = any("task" in one for one in sweep["streams"].values())
            parts = _classification(content) if classifies else _sweep(sweep, cells)
        case {"sweep": {"base": settings}, "runs": [{"negatives": _, **_others}, *_rest]}:
            parts = _ranking(content)
        case {"lengths": lengths, "options": options}:
            settings = {key: options[key] for key in ("nodes", "batch_size", "preset")}
            parts = [_lengths(lengths)]
        case {"figures": {"help": _, **_others} as figures}:
            rows = [
                [name, one["seconds"], one["cpu_seconds"], one["peak_mib"]]
                for name, one in figures.items()
            ]
            parts = [table(["", "s", "CPU s", "peak MiB"], rows)]
        case {"rows": [{"kind": _, "survived": _, **_others}, *_rest]}:
            parts = [_faults(content["rows"])]
        case {"schema": "gpu"}:
            parts = _gpu(content)
        case {"faults": _, "held": _}:
            parts = [_soak(content)]
        case _:
            return ""
    told = command or content["environment"]["command"]
    head = _head(
        content,
        [
            ["configuration", _settings(settings) if settings else ""],
            ["command", f"`{'python ' if told.startswith('benchmarks/') else ''}{told}`"],
            ["file", f"`{path}`"],
        ],
    )
    return "\n\n".join(part for part in [head, *parts] if part)


def measured(one: Json) -> str:
    """Return the part of the page of figures that no JSON file holds."""
    others = [[key, one[key]] for key in ("hardware", "configuration") if key in one]
    head = table(["date", str(one["date"])], others)
    commands = "\n".join(f"    {line}" for line in one["command"].splitlines())
    parts = [f"## {one['title']}", one.get("note", "").strip(), head, commands]
    return "\n\n".join([part for part in parts if part] + [table(one["columns"], one["rows"])])


def _head(content: Json, rows: list[list[str]]) -> str:
    """Return a table of date and hardware, and these rows unless they are empty."""
    about, own = content["environment"], content["environment"]["hardware"]
    runs = content.get("runs", [])
    records = [run.get("record") or run for run in runs] if isinstance(runs, list) else []
    dates = {run["date"][:10] for run in records if run.get("date")} | {about["date"][:10]}
    versions = f"torch {about['versions']['torch']}, Python {about['versions']['python']}"
    hardware = [f"{own['usable_cores']} cores of {own['cpu']}", f"{own['memory_gib']} GiB"]
    rows = [
        ["date", " to ".join(sorted({min(dates), max(dates)}))],
        ["hardware", ", ".join([*hardware, *map(str, own["gpus"]), versions])],
        *rows,
    ]
    first, *others = [row for row in rows if row[1]]
    return table(first, others)


def _settings(values: Json) -> str:
    """Format settings as `training.epochs: 5`, separated by commas."""
    return ", ".join(f"`{key}: {value}`" for key, value in _flat(values)) or "defaults"


def _flat(values: Json, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _sweep(sweep: Json, cells: list[Json]) -> list[str]:
    """Return tables of test AP and of cost: streams by methods, or by batches and methods."""
    found = {(c["cell"]["stream"], c["cell"]["batch_size"], c["cell"]["method"]): c for c in cells}
    rows = [(stream, size) for stream in sweep["streams"] for size in sweep["batch_sizes"]]
    rows = [row for row in rows if any(_done(found.get((*row, m))) for m in sweep["methods"])]

    def of(form: Any) -> str:
        lines = [
            [stream, f"{size:,}", *(form(found.get((stream, size, m))) for m in sweep["methods"])]
            for stream, size in rows
        ]
        return table(["stream", "batch", *sweep["methods"]], lines)

    return [
        _methods(sweep),
        "**Test AP** (mean and 95% interval over seeds; ▲ better, ▼ worse, = no difference from "
        f"`{sweep['baseline']}` beyond the interval):",
        of(_ap),
        "**Optimizer steps of a run; CPU microseconds per training event:**",
        of(_cost),
    ]


def _methods(sweep: Json) -> str:
    lines = [f"- `{name}`: {_settings(one)}" for name, one in sweep["methods"].items() if one]
    return "\n".join(lines)


def _done(cell: Json | None) -> bool:
    return bool(cell and cell["figures"].get("ap"))


def _ap(cell: Json | None) -> str:
    if cell is None or not _done(cell):
        return ""
    seeds = "" if cell["done"] == cell["planned"] else f" (n = {cell['done']})"
    return interval(cell["figures"]["ap"]) + MARKS.get(cell["verdict"], "") + seeds


def _cost(cell: Json | None) -> str:
    if cell is None or not _done(cell):
        return ""
    figures = cell["figures"]
    steps, cpu = figures["optimizer_steps"]["mean"], figures["cpu_microseconds_per_event"]["mean"]
    return f"{steps:,.0f}; {cpu:.0f}"


def _ranking(content: Json) -> list[str]:
    """Return tables of AP and MRR by kind of negatives, beside baselines, and of ranking."""
    sweep, runs = content["sweep"], content["runs"]
    kinds = list(runs[0]["negatives"])
    groups: dict[tuple[str, int, str], list[Json]] = {}
    for run in sorted(runs, key=lambda run: _place(sweep, run)):
        groups.setdefault((run["stream"], run["batch_size"], run["method"]), []).append(run)
    first = ["stream", "batch", "method", "seeds"]
    everything, unseen, ranked = [], [], []
    for stream in dict.fromkeys(group[0] for group in groups):
        for (_, size, method), own in ((g, runs) for g, runs in groups.items() if g[0] == stream):
            line = [stream, f"{size:,}", f"`{method}`", len(own)]
            by_kind = [[run["negatives"][kind] for run in own] for kind in kinds]
            cpu = statistics.mean(run["train_cpu_seconds"] for run in own)
            everything.append([*line, *map(_both, by_kind), f"{cpu:.0f}"])
            unseen.append([*line, *(_both([one["unseen"] for one in each]) for each in by_kind)])
            if with_ranks := [run["ranking"] for run in own if "ranking" in run]:
                ranked.append([*line[:3], len(with_ranks), *_ranked(with_ranks)])
        baselines = content.get("baselines", {}).get(stream, {})
        for name in baselines.get(kinds[0], {}):
            each = (_both([baselines[kind][name]]) for kind in kinds)
            everything.append([stream, "", name, "", *each, ""])
        found = [own[0]["negatives"][kind]["negatives_found"] for kind in kinds]
        everything.append(
            [stream, "", "negatives of that kind", "", *(f"{one:.1%}" for one in found), ""]
        )
    parts = [
        _methods(sweep),
        "**AP / MRR of the test split by kind of negatives, means over seeds:**",
        table([*first, *kinds, "CPU s of training"], everything),
        "**The same, of events with a node that training never saw:**",
        table([*first, *kinds], unseen),
    ]
    if ranked:
        head = ["candidates", "hit@10", "MRR", "best baseline", "its MRR"]
        parts += ["**Ranking of the true destination:**", table([*first, *head], ranked)]
    return parts


def _place(sweep: Json, run: Json) -> tuple[int, int, int]:
    streams, methods = list(sweep["streams"]), list(sweep["methods"])
    return streams.index(run["stream"]), run["batch_size"], methods.index(run["method"])


def _mean(values: list[Json], name: str) -> str:
    numbers = [one[name] for one in values if one.get(name) is not None]
    return f"{statistics.mean(numbers):.4f}" if numbers else "-"


def _both(values: list[Json]) -> str:
    return f"{_mean(values, 'ap')} / {_mean(values, 'mrr')}"


def _ranked(rankings: list[Json]) -> list[str]:
    """Return the mean ranking of the model, which stands first, and the best baseline."""
    model, *others = rankings[0]["ranked"]
    own = [ranking["ranked"][model] for ranking in rankings]
    best = max(others, key=lambda name: rankings[0]["ranked"][name]["mrr"])
    baseline = _mean([rankings[0]["ranked"][best]], "mrr")
    return [rankings[0]["candidates"], _mean(own, "hit@10"), _mean(own, "mrr"), best, baseline]


def _classification(content: Json) -> list[str]:
    """Return a table for each stream: test metrics by method and batch, and of baselines."""
    sweep = content["sweep"]
    parts = [_methods(sweep)]
    for stream in sweep["streams"]:
        rows = []
        for cell in content["cells"]:
            of = cell["cell"]
            if of["stream"] == stream and _done(cell):
                name = f"`{of['method']}`, batch {of['batch_size']:,}"
                metrics = (interval(cell["figures"][metric]) for metric in METRICS)
                rows.append([name, cell["done"], *metrics])
        record = next(r["record"] for r in content["runs"] if r["stream"] == stream and r["record"])
        for name, scores in record["baselines"].items():
            rows.append([name, "", *(_mean([scores], metric) for metric in METRICS)])
        parts += [f"**{stream}**", table(["", "seeds", *METRICS.values()], rows)]
    return parts


def _scaling(content: Json) -> str:
    rows, targets = [], content["targets"]
    epochs = content["config"]["training"]["epochs"]
    for point in content["points"]:
        figures = {key: value or {"mean": 0.0} for key, value in point["figures"].items()}
        reached = [point["time_to"].get(target) for target in targets]
        rows.append(
            [
                point["launcher"],
                f"{point['workers']}{'°' if point['oversubscribed'] else ''}",
                f"{point['batch_size']:,}",
                interval(figures["events_per_second"], 0),
                interval(point["speed_up"], 2) if point["speed_up"] else "",
                f"{figures['train_seconds']['mean'] / epochs:.1f}",
                *(interval(found, 1) if found else "" for found in reached),
                f"{figures['cpu_microseconds_per_event']['mean']:.0f}",
                f"{figures['remote_bytes_per_step']['mean'] / 1e6:.1f}",
                f"{figures['gradient_bytes_per_step']['mean'] / 1e6:.1f}",
                interval(figures["test_ap"]),
            ]
        )
    head = ["launcher", "workers", "batch", "events/s", "speedup", "s an epoch"]
    head += [*(f"s to validation AP {ap:.3f}" for ap in targets.values()), "CPU us an event"]
    head += ["MB of rows a step", "MB of gradients a step", "test AP"]
    return table(head, rows)


def _lengths(lengths: list[Json]) -> str:
    rows = []
    for one in lengths:
        steps = one["steps"] or {}
        row = [f"{one['events']:,}", one["build"]["cpu_seconds"], one["build"]["private_mib"]]
        row += [one["open"]["seconds"], one["in_memory"]["private_mib"]]
        row += [steps.get("cpu_ms", ""), steps.get("nodes", "")]
        rows.append(row)
    head = ["events", "adjacency built, CPU s", "MiB", "opened again, s", "sorted in memory, MiB"]
    return table([*head, "CPU ms a step", "distinct nodes a step"], rows)


def _faults(rows: list[Json]) -> str:
    head = ["fault", "injected", "runs survived", "identical bits", "events lost", "applied twice"]
    lines = [
        [
            row["kind"],
            row["injected"],
            f"{row['survived']} of {row['runs']}",
            f"{row['same_bits']} of {row['runs']}",
            row["lost"],
            row["twice"],
            "" if row["recovery_s"] is None else row["recovery_s"],
        ]
        for row in rows
    ]
    return table([*head, "median s to recover"], lines)


def _soak(content: Json) -> str:
    own, quiet = content["events_per_second"], content["undisturbed_events_per_second"]
    held = content["held"]
    rows = [
        ["faults", content["faults"]],
        ["median recovery, s", content["recovery_s"]],
        ["events/s between faults; undisturbed", f"{own:,.0f}; {quiet:,.0f} ({own / quiet:.0%})"],
        *(
            [
                f"{name}: first, last, most",
                "; ".join(f"{held[i][key]:,.0f}" for i in (0, -1))
                + f"; {max(one[key] for one in held):,.0f}",
            ]
            for name, key in (
                ("resident MB", "rss_mb"),
                ("descriptors", "descriptors"),
                ("processes", "processes"),
            )
        ),
    ]
    return table(["", ""], rows)


def _gpu(content: Json) -> list[str]:
    """Return the tables of `benchmarks/gpu.py`: steps, the time to an accuracy, and waits."""
    columns = {
        "events_per_s": "events/s",
        "kernels": "kernels",
        "busy": "busy",
        "peak_bytes": "peak bytes",
        "epoch_seconds": "epoch s",
    }
    parts = []
    for name, found in content.items():
        if not isinstance(found, dict) or name == "environment":
            continue
        if "error" in found:
            parts.append(f"### {name.capitalize()}\n\nFailed: `{found['error'][-1]}`")
            continue
        steps = {key: one for key, one in found.items() if isinstance(one, dict)}
        if steps and all("events_per_s" in one for one in steps.values()):
            shown = [key for key in columns if any(key in one for one in steps.values())]
            rows = [[step, *(one.get(key, "") for key in shown)] for step, one in steps.items()]
            lines = table(["", *(columns[key] for key in shown)], rows)
        elif name == "waits":
            rows = [[key, place, num] for key, one in steps.items() for place, num in one.items()]
            lines = table(["settings", "line", "waits"], rows)
        else:
            lines = table(["", ""], [[key, f"{one}"] for key, one in found.items()])
        parts.append(f"### {name.capitalize()}\n\n{lines}")
    return parts


def interval(value: Json, decimals: int = 4) -> str:
    """Format as `0.9857 ± 0.0038`; without the interval if there is a single value."""
    mean = f"{value['mean']:,.{decimals}f}"
    return mean if value.get("half") is None else f"{mean} ± {value['half']:,.{decimals}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:,.{1 if value >= 10 else 2}f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|") if not text.startswith("`") else text
