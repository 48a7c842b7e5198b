"""Fit two models of scaling to the points of a bench by least squares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pres_dist.bench.scaling.report_schema import Fit, Observation, Point
from pres_dist.bench.scaling.scaling_config import Launcher

FEWEST = 3
"""Smallest number of different values of x for which a fitted line has residuals."""
MOVING = ("pull", "push", "all_reduce")
"""Stages in which workers send and receive state and gradients, and process them."""


@dataclass(frozen=True)
class Line:
    """A line, y = `at_zero` + `slope` x."""

    at_zero: float
    slope: float

    def __call__(self, x: float) -> float:
        """Return y at x."""
        return self.at_zero + self.slope * x


def fits(points: Iterable[Point], launchers: Iterable[Launcher]) -> list[Fit]:
    """Fit both models for each launcher, on points whose workers had a core or GPU each."""
    usable = [p for p in points if p.done and not p.oversubscribed and p.modes]
    made = []
    for launcher in launchers:
        own = [point for point in usable if point.launcher == launcher]
        made += [amdahl(own, launcher), communication(own, launcher)]
    return made


def amdahl(points: Sequence[Point], launcher: Launcher) -> Fit:
    """Fit seconds per event = serial + parallel / workers (Amdahl, AFIPS 1967) to strong scaling.

    `serial_share` is serial / (serial + parallel).
    """
    seen = [
        (point, 1 / point.workers, 1 / rate.mean)
        for point in points
        if "strong" in point.modes and (rate := point.figures["events_per_second"]) is not None
    ]
    line, note = _fitted([(x, y) for _, x, y in seen], "numbers of workers")
    parameters = {}
    if line is not None:
        parameters["serial_share"] = line.at_zero / (line.at_zero + line.slope)
        if line.at_zero < 0:
            note = "more than linear speed-up: a serial share below zero is none"
    return _fit("amdahl", launcher, seen, line, parameters, note)


def communication(points: Sequence[Point], launcher: Launcher) -> Fit:
    """Fit communication seconds per step = latency + bytes / bandwidth, with several workers.

    Bytes are the node state that a worker exchanges with others and the gradients that it sends.
    Seconds are the pull, push and all-reduce stages, including their processing of rows.
    """
    seen = []
    for point in points:
        if point.workers > 1 and point.shares:
            moved = sum(share.remote_bytes + share.gradient_bytes for share in point.shares)
            stages = [point.figures[f"{stage}_seconds_per_step"] for stage in MOVING]
            seconds = sum(stage.mean for stage in stages if stage is not None)
            seen.append((point, moved / point.workers, seconds))
    line, note = _fitted([(x, y) for _, x, y in seen], "numbers of bytes")
    parameters = {}
    if line is not None and line.slope <= 0:
        line, note = None, "the time does not grow with the bytes"
    if line is not None:
        parameters = {"latency_seconds": line.at_zero, "bytes_per_second": 1 / line.slope}
    return _fit("communication", launcher, seen, line, parameters, note)


def _fitted(pairs: Sequence[tuple[float, float]], of_x: str) -> tuple[Line | None, str | None]:
    """Return the line with the least squared relative residuals, or the reason for having none."""
    different = len({x for x, _ in pairs})
    if different < FEWEST:
        return None, (
            f"no fit: {different} different {of_x} among points whose workers had a core or GPU "
            f"each, and {FEWEST} are needed"
        )
    x, y = np.array(pairs).T
    # Each equation is divided by its y, so that least squares weigh relative residuals.
    rows = np.stack([1 / y, x / y], axis=1)
    (at_zero, slope), *_ = np.linalg.lstsq(rows, np.ones(len(y)), rcond=None)
    return Line(float(at_zero), float(slope)), None


def _fit(
    kind: Literal["amdahl", "communication"],
    launcher: Launcher,
    seen: Sequence[tuple[Point, float, float]],
    line: Line | None,
    parameters: dict[str, float],
    note: str | None,
) -> Fit:
    observations = [
        Observation(
            workers=point.workers, batch_size=point.batch_size, x=x, measured=y, fitted=line(x)
        )
        for point, x, y in seen
        if line is not None
    ]
    residuals = [abs(one.fitted / one.measured - 1) for one in observations]
    return Fit(
        kind=kind,
        launcher=launcher,
        parameters=parameters,
        observations=observations,
        largest_residual=max(residuals, default=None),
        note=note,
    )
