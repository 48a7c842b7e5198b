"""Plots of a run on several workers: time, traffic and staleness."""

from __future__ import annotations

from collections.abc import Sequence

from pres_dist.records import EpochRecord
from pres_dist.report.figure import Figure, bars, make_figure

SPLIT = ("sample", "pull", "compute", "push", "all_reduce", "wait")
VERBS = ("pull", "push", "observe")


def worker_figures(epochs: Sequence[EpochRecord]) -> list[Figure | None]:
    """Return the plots of the workers' time, traffic and staleness from the epoch records."""
    told = [epoch for epoch in epochs if len(epoch.get("workers") or []) > 1]
    return [_time(told[-1]), _traffic(told), _staleness(epochs)] if told else [_staleness(epochs)]


def _time(epoch: EpochRecord) -> Figure | None:
    names = [f"worker {worker['rank']}" for worker in epoch["workers"]]
    traces = [
        bars(part, names, [w["seconds"].get(part, 0) for w in epoch["workers"]], series, " s")
        for series, part in enumerate(SPLIT, start=1)
    ]
    hosts = len({worker.get("host") for worker in epoch["workers"]})
    caption = f"Seconds of the last epoch's training, by worker; {hosts} machine{'s'[: hosts > 1]}."
    figure = make_figure("workers", "Where each worker's time goes", caption, traces, "seconds", "")
    if figure is not None:
        figure.layout.update(barmode="stack", bargap=0.35)
        figure.layout["yaxis"].update(autorange="reversed", type="category")
    return figure


def _traffic(epochs: Sequence[EpochRecord]) -> Figure | None:
    """Plot the megabytes per epoch, summed over workers, by verb of the store."""
    last = [worker.get("traffic") or {} for worker in epochs[-1]["workers"]]
    traces = []
    for series, where in ((1, "remote"), (3, "local")):
        sums = [sum(t.get(verb, {}).get(f"{where}_bytes", 0) for t in last) for verb in VERBS]
        traces.append(bars(where, VERBS, [total / 1e6 for total in sums], series, " MB"))
    if not any(any(trace["x"]) for trace in traces):
        return None
    caption = (
        "Node state that all workers asked for (pull) and sent (push, observe) in the last "
        "epoch's training; what is local does not leave its worker."
    )
    figure = make_figure("traffic", "Memory traffic", caption, traces, "MB an epoch", "")
    if figure is not None:
        figure.layout.update(barmode="stack", bargap=0.35)
        figure.layout["yaxis"].update(autorange="reversed", type="category")
    return figure


def _staleness(epochs: Sequence[EpochRecord]) -> Figure | None:
    """Plot the steps by the number of pushes that their reads lacked; None if always zero."""
    steps: dict[int, int] = {}
    for epoch in epochs:
        for lag, number in (epoch.get("staleness") or {}).items():
            steps[int(lag)] = steps.get(int(lag), 0) + number
    if not any(steps):
        return None
    lags = sorted(steps)
    traces = [bars("steps", [str(lag) for lag in lags], [steps[lag] for lag in lags], 1, " steps")]
    caption = "Steps of the run by the number of pushes that the memory they read had not seen."
    figure = make_figure("staleness", "Staleness", caption, traces, "steps", "pushes not seen")
    if figure is not None:
        figure.layout["yaxis"].update(autorange="reversed", type="category")
    return figure
