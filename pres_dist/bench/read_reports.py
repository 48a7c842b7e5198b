"""Read reports of benches in a comparable form: points, with the figures of their runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pres_dist.bench.scaling.report_schema import VERSION, Point, Run, ScalingReport
from pres_dist.bench.scaling.run_figures import OF_SEEDS, QUANTITIES
from pres_dist.bench.sweep_cells import FIGURES
from pres_dist.bench.sweep_report import JSON
from pres_dist.errors import ConfigError

Key = tuple[int, ...]
"""Identifies a run across reports: its seed, and its repeat if it has one."""
Values = Mapping[Key, float]
_Points = dict[str, dict[str, dict[Key, float]]]


@dataclass(frozen=True)
class Measure:
    """Rules for comparing a figure between reports.

    Attributes:
        better: more, less, or None if neither is better.
        as_ratio: True to compare by ratio, False by difference.
        main: True to show the figure even if it did not change.
        paired: True to pair the runs of both reports by seed, because the seed causes the noise.
    """

    better: str | None
    as_ratio: bool
    main: bool
    paired: bool


@dataclass(frozen=True)
class Compared:
    """A report in comparable form.

    Attributes:
        kind: command that wrote the report.
        settings: configuration, versions and hardware, by name.
        points: values of each figure of each point, by run.
        measures: method of comparison of each figure.
    """

    path: Path
    kind: str
    settings: Mapping[str, str]
    points: Mapping[str, Mapping[str, Values]]
    measures: Mapping[str, Measure]


_MAIN = (
    *("events_per_second", "cpu_microseconds_per_event", "test_ap", "remote_bytes_per_step"),
    *("peak_host_bytes", "peak_device_bytes"),
)
SCALING = {
    name: Measure(quantity.better, name not in OF_SEEDS, name in _MAIN, name in OF_SEEDS)
    for name, quantity in QUANTITIES.items()
}
BATCH_SIZE = {
    "ap": Measure("more", False, True, True),
    "mrr": Measure("more", False, False, True),
    "cpu_microseconds_per_event": Measure("less", True, True, False),
    "events_per_second": Measure("more", True, True, False),
}


def read_compared(path: Path) -> Compared:
    """Read a report from its file or from a bench's folder.

    Raises:
        ConfigError: The file is not a report of a bench.
    """
    file, content = _content(path)
    if "format" in content:
        return _scaling(file, content)
    if {"sweep", "runs"} <= content.keys():
        return _batch_size(file, content)
    raise ConfigError(
        f"{file}: must be the {JSON} of `pres-dist bench scaling` or `bench batch-size`"
    )


def read_scaling(path: Path) -> ScalingReport:
    """Read the report of a scaling bench from its file or folder.

    Raises:
        ConfigError: The file is not a report of a scaling bench.
    """
    file, content = _content(path)
    if "format" not in content:
        raise ConfigError(f"{file}: must be the {JSON} of `pres-dist bench scaling`")
    return _scaling_report(file, content)


def _content(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the report's file and its content; empty if it is not a JSON object."""
    file = path / JSON if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError:
        return file, {}
    return file, content if isinstance(content, dict) else {}


def _scaling_report(file: Path, content: Mapping[str, Any]) -> ScalingReport:
    try:
        return ScalingReport.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{file}: not a report as {VERSION} has it: {place}: {first['msg']}"
        ) from None


def _scaling(file: Path, content: Mapping[str, Any]) -> Compared:
    report = _scaling_report(file, content)
    modes = {_setup(point): point.modes for point in report.points}
    points: _Points = {}
    for run in report.runs:
        # A point's name has no batch size: like other settings, it may differ between reports.
        workers = f"{run.workers} worker{'s'[: run.workers > 1]}, {run.launcher}"
        names = [f"{mode}, {workers}" for mode in modes[_setup(run)]]
        if names and run.workers == 1:  # the same run starts strong and weak scaling
            names = [workers]
        if not names:
            changed = "".join(f", {name} {value}" for name, value in run.changes.items())
            names = [f"{workers}, batch {run.batch_size:,}{changed}"]
        for name in names:
            _put(points, name, (run.seed, run.repeat), run.figures)
    settings = _settings(report.config, report.environment, (run.git_commit for run in report.runs))
    settings["interconnect"] = _all_of(report.interconnect.backends)
    return Compared(file, "bench scaling", settings, points, SCALING)


def _setup(of: Run | Point) -> tuple[Any, ...]:
    return of.launcher, of.workers, of.batch_size, tuple(of.changes.items())


def _batch_size(file: Path, content: Mapping[str, Any]) -> Compared:
    points: _Points = {}
    try:
        for run in content["runs"]:
            if run["record"] and run["chosen"]:
                name = f"{run['stream']}, batch {run['batch_size']:,}, {run['method']}"
                figures = {figure: FIGURES[figure](run["record"]) for figure in BATCH_SIZE}
                _put(points, name, (run["seed"],), figures)
        commits = [run["record"]["git_commit"] for run in content["runs"] if run["record"]]
        settings = _settings(content["sweep"], content["environment"], commits)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: a damaged {JSON} of `bench batch-size`: {error}") from None
    return Compared(file, "bench batch-size", settings, points, BATCH_SIZE)


def _put(points: _Points, name: str, key: Key, figures: Mapping[str, float | None]) -> None:
    point = points.setdefault(name, {})
    for figure, value in figures.items():
        if value is not None:
            # Repeats of a seed have equal quality.
            point.setdefault(figure, {})[key[:1] if figure in OF_SEEDS else key] = value


def _settings(
    config: Mapping[str, Any], environment: Mapping[str, Any], commits: Iterable[str | None]
) -> dict[str, str]:
    """Return the configuration, versions and hardware, flattened."""
    made_with = {name: environment.get(name) or {} for name in ("versions", "hardware")}
    return {**dict(_leaves(config)), **dict(_leaves(made_with)), "git_commit": _all_of(commits)}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else str(value)


def _all_of(values: Iterable[str | None]) -> str:
    return ", ".join(sorted({str(value) for value in values if value}))
