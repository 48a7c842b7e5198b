"""The plots of a run's report. A plot without data is omitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from pres_dist.records import EpochRecord, Metrics, Record, StepRecord
from pres_dist.report.figure import Figure, Trace, bars, make_figure
from pres_dist.step.stages import STAGES

MAX_POINTS = 1500
SPLIT = ("sample", "pull", "compute", "push", "all_reduce", "wait")
VERBS = ("pull", "push", "observe")
_LABELS_DOWN = {"autorange": "reversed", "type": "category"}
StepKey = Literal["loss", "link_loss", "label_loss", "events_per_second", "gate", "coherence"]
Value = Callable[[EpochRecord], Any]


def figures(records: Sequence[Record]) -> list[Figure]:
    """Return the plots that the records have data for."""
    steps = [record for record in records if record["kind"] == "step"]
    epochs = [record for record in records if record["kind"] == "epoch"]
    several = [epoch for epoch in epochs if len(epoch.get("workers") or []) > 1]
    made = [
        _loss(steps, epochs),
        _validation(epochs),
        _throughput(steps, epochs),
        _gate(steps, epochs),
        _coherence(steps, epochs),
        _prediction_error(epochs),
        _pending(epochs),
        _stages(epochs),
        *([_worker_time(several[-1]), _traffic(several[-1])] if several else []),
        _staleness(epochs),
    ]
    return [figure for figure in made if figure is not None]


def _loss(steps: Sequence[StepRecord], epochs: Sequence[EpochRecord]) -> Figure | None:
    traces = [
        *_step_line(steps, "link_loss", "link loss", 1),
        *_step_line(steps, "label_loss", "label loss", 3),
        *_step_line(steps, "loss", "loss with coherence", 2),
    ]
    if all(step.get("coherence") is None for step in steps):
        traces = _step_line(steps, "loss", "loss", 1)
    traces = traces or _epoch_line(epochs, "step", lambda e: e.get("loss"), "loss", 1)
    return make_figure("loss", "Training loss", "Over optimizer steps.", traces, "step", "loss")


def _validation(epochs: Sequence[EpochRecord]) -> Figure | None:
    traces = [
        *_epoch_line(epochs, "epoch", lambda e: _validated(e).get("ap"), "AP", 1),
        *_epoch_line(epochs, "epoch", lambda e: _validated(e).get("auc"), "AUC", 2),
        *_epoch_line(
            epochs,
            "epoch",
            lambda e: (_validated(e).get("inductive") or {}).get("ap"),
            "AP, unseen nodes",
            3,
        ),
        *_epoch_line(epochs, "epoch", lambda e: _validated(e).get("accuracy"), "accuracy", 4),
        *_epoch_line(epochs, "epoch", lambda e: _validated(e).get("macro_f1"), "macro F1", 5),
    ]
    return make_figure(
        "validation",
        "Validation",
        "The validation split after each epoch.",
        traces,
        "epoch",
        "metric",
        whole_x=True,
    )


def _throughput(steps: Sequence[StepRecord], epochs: Sequence[EpochRecord]) -> Figure | None:
    traces = _step_line(steps, "events_per_second", "events/s", 1)
    traces += _epoch_line(epochs, "step", lambda e: e.get("events_per_second"), "epoch", 3)
    traces += _epoch_line(
        epochs, "step", lambda e: e.get("events_per_cpu_second"), "per CPU second", 2
    )
    caption = "Training events a second, evaluation not counted."
    return make_figure(
        "throughput",
        "Throughput",
        caption,
        traces,
        "step",
        "events/s",
        y_axis={"rangemode": "tozero"},
    )


def _gate(steps: Sequence[StepRecord], epochs: Sequence[EpochRecord]) -> Figure | None:
    traces = _step_line(steps, "gate", "gate", 1) or _epoch_line(
        epochs, "step", lambda e: e.get("gate"), "gate", 1
    )
    caption = "Weight of the measured state in the PRES correction; 1 ignores the prediction."
    return make_figure("gate", "PRES gate", caption, traces, "step", "gate")


def _coherence(steps: Sequence[StepRecord], epochs: Sequence[EpochRecord]) -> Figure | None:
    traces = _step_line(steps, "coherence", "coherence", 1) or _epoch_line(
        epochs, "step", lambda e: e.get("coherence"), "coherence", 1
    )
    caption = "Mean cosine of a node's memory before and after its update; 1 where it had none."
    return make_figure("coherence", "Memory coherence", caption, traces, "step", "cosine")


def _prediction_error(epochs: Sequence[EpochRecord]) -> Figure | None:
    traces = _epoch_line(epochs, "epoch", prediction_ratio, "prediction / persistence", 1)
    caption = (
        "Mean squared error of the predicted memory over that of predicting no change; "
        "1 is no better than predicting no change."
    )
    at_one: Trace = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1}
    return make_figure(
        "prediction",
        "Prediction error",
        caption,
        traces,
        "epoch",
        "ratio",
        whole_x=True,
        shapes=[{**at_one, "line": {"color": "muted", "width": 1, "dash": "dash"}}],
    )


def _pending(epochs: Sequence[EpochRecord]) -> Figure | None:
    traces = [
        *_epoch_line(epochs, "epoch", lambda e: e.get("pending_events_mean"), "mean", 1),
        *_epoch_line(epochs, "epoch", lambda e: e.get("pending_events_max"), "largest", 2),
    ]
    share = next((e["pending_share"] for e in epochs if e.get("pending_share") is not None), None)
    caption = "Events of a node earlier in the same temporal batch, not yet in its memory."
    if share is not None:
        caption += f" {share:.0%} of the reads had some."
    return make_figure(
        "pending",
        "Pending events",
        caption,
        traces,
        "epoch",
        "events",
        whole_x=True,
        # Only a logarithmic axis shows both a mean below ten and a maximum of hundreds.
        y_axis={"type": "log", "dtick": 1},
    )


def _stages(epochs: Sequence[EpochRecord]) -> Figure | None:
    timed = [epoch for epoch in epochs if epoch.get("stage_seconds")]
    named = {name for epoch in timed for name in epoch["stage_seconds"]}
    stages = [name for name in STAGES if name in named] + sorted(named - set(STAGES))
    labels = [f"epoch {epoch['epoch']}" for epoch in timed]
    traces = [
        bars(stage, labels, [epoch["stage_seconds"].get(stage) for epoch in timed], series, " s")
        for series, stage in enumerate(stages, start=1)
    ]
    caption = "Seconds of an epoch's training by stage of the step."
    return _stacked("stages", "Where a step's time goes", caption, traces, "seconds")


def _worker_time(epoch: EpochRecord) -> Figure | None:
    names = [f"worker {worker['rank']}" for worker in epoch["workers"]]
    traces = [
        bars(part, names, [w["seconds"].get(part, 0) for w in epoch["workers"]], series, " s")
        for series, part in enumerate(SPLIT, start=1)
    ]
    hosts = len({worker.get("host") for worker in epoch["workers"]})
    caption = f"Seconds of the last epoch's training, by worker; {hosts} machine{'s'[: hosts > 1]}."
    return _stacked("workers", "Where each worker's time goes", caption, traces, "seconds")


def _traffic(epoch: EpochRecord) -> Figure | None:
    """Plot the megabytes per epoch, summed over workers, by verb of the store."""
    last = [worker.get("traffic") or {} for worker in epoch["workers"]]
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
    return _stacked("traffic", "Memory traffic", caption, traces, "MB an epoch")


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
    return make_figure(
        "staleness", "Staleness", caption, traces, "steps", "pushes not seen", y_axis=_LABELS_DOWN
    )


def _stacked(
    name: str, title: str, caption: str, traces: list[Trace], x_title: str
) -> Figure | None:
    """Return a figure of horizontal stacked bars, with the first label on top."""
    return make_figure(
        name, title, caption, traces, x_title, "", y_axis=_LABELS_DOWN, barmode="stack", bargap=0.35
    )


def prediction_ratio(epoch: EpochRecord) -> float | None:
    """Return prediction error divided by persistence error; None if either is missing."""
    prediction, persistence = epoch.get("prediction_error"), epoch.get("persistence_error")
    return prediction / persistence if prediction is not None and persistence else None


def _validated(epoch: EpochRecord) -> Metrics:
    return epoch.get("validation") or {}


def _step_line(steps: Sequence[StepRecord], key: StepKey, name: str, series: int) -> list[Trace]:
    """Return a line over steps, thinned to about `MAX_POINTS`; an empty list without data."""
    there = [step for step in steps if step.get(key) is not None]
    thin = there[:: max(1, len(there) // MAX_POINTS)]
    return _line([s["step"] for s in thin], [s[key] for s in thin], name, series, "lines", 1.0)


def _epoch_line(
    epochs: Sequence[EpochRecord], x: Literal["epoch", "step"], value: Value, name: str, series: int
) -> list[Trace]:
    """Return a line with a marker for each epoch; an empty list without data."""
    there = [epoch for epoch in epochs if value(epoch) is not None]
    return _line([e[x] for e in there], [value(e) for e in there], name, series, "lines+markers", 2)


def _line(
    x: list[Any], y: list[Any], name: str, series: int, mode: str, width: float
) -> list[Trace]:
    if not x:
        return []
    trace = {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y}
    return [{**trace, "line": {"color": f"series-{series}", "width": width}}]
