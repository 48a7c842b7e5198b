"""Read reports of benches in a comparable form: points, with the figures of their runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pres_dist.bench.cells import FIGURES
from pres_dist.bench.report import JSON
from pres_dist.bench.scaling.measure import QUANTITIES
from pres_dist.bench.scaling.results import OF_SEEDS
from pres_dist.bench.scaling.schema import VERSION, Run, ScalingReport
from pres_dist.errors import ConfigError

Key = tuple[int, ...]
"""Identifies a run across reports: its seed, and its repeat if it has one."""
Values = Mapping[Key, float]


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
    if isinstance(content, dict) and "format" in content:
        return _scaling(file, content)
    if isinstance(content, dict) and {"sweep", "runs"} <= content.keys():
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
    if isinstance(content, dict) and "format" in content:
        return _scaling_report(file, content)
    raise ConfigError(f"{file}: must be the {JSON} of `pres-dist bench scaling`")


def _content(path: Path) -> tuple[Path, Any]:
    """Return the report's file and its parsed JSON; None if it is not JSON."""
    file = path / JSON if path.is_dir() else path
    try:
        return file, json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError:
        return file, None


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
    points: dict[str, dict[str, dict[Key, float]]] = {}
    for run in report.runs:
        for name in _names(run, modes[_setup(run)]):
            _put(points.setdefault(name, {}), (run.seed, run.repeat), run.figures)
    settings = {**_flat(report.config), **_made_with(report.environment)}
    settings["git_commit"] = _all_of(run.git_commit for run in report.runs)
    settings["interconnect"] = _all_of(report.interconnect.backends)
    return Compared(file, "bench scaling", settings, points, SCALING)


def _setup(of: Any) -> tuple[Any, ...]:
    return of.launcher, of.workers, of.batch_size, tuple(of.changes.items())


def _names(run: Run, modes: Sequence[str]) -> list[str]:
    """Return the names of the points of a run.

    Names of scaling points have no batch size: like other settings, it may differ between reports.
    """
    workers = f"{run.workers} worker{'s'[: run.workers > 1]}, {run.launcher}"
    if modes and run.workers == 1:  # the same run starts strong and weak scaling
        return [workers]
    if modes:
        return [f"{mode}, {workers}" for mode in modes]
    changed = "".join(f", {name} {value}" for name, value in run.changes.items())
    return [f"{workers}, batch {run.batch_size:,}{changed}"]


def _put(point: dict[str, dict[Key, float]], key: Key, figures: Mapping[str, float | None]) -> None:
    for name, value in figures.items():
        if value is not None:
            own = key[:1] if name in OF_SEEDS else key
            point.setdefault(name, {})[own] = value


def _batch_size(file: Path, content: Mapping[str, Any]) -> Compared:
    points: dict[str, dict[str, dict[Key, float]]] = {}
    try:
        for run in content["runs"]:
            if not run["record"] or not run["chosen"]:
                continue
            name = f"{run['stream']}, batch {run['batch_size']:,}, {run['method']}"
            of: dict[str, Callable[..., float | None]] = {n: FIGURES[n] for n in BATCH_SIZE}
            figures = {figure: value(run["record"]) for figure, value in of.items()}
            _put(points.setdefault(name, {}), (run["seed"],), figures)
        commits = (run["record"]["git_commit"] for run in content["runs"] if run["record"])
        settings = {**_flat(content["sweep"]), **_made_with(content["environment"])}
        settings["git_commit"] = _all_of(commits)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: a damaged {JSON} of `bench batch-size`: {error}") from None
    return Compared(file, "bench batch-size", settings, points, BATCH_SIZE)


def _made_with(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions and hardware, flattened."""
    return _flat({name: environment.get(name) or {} for name in ("versions", "hardware")})


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    return dict(_leaves(values, ""))


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else str(value)


def _all_of(values: Any) -> str:
    return ", ".join(sorted({str(value) for value in values if value}))
