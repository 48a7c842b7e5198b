"""The plots of a run's report. A plot without data is omitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from pres_dist.records import EpochRecord, Metrics, Record, StepRecord
from pres_dist.report.figure import Figure, bars, make_figure
from pres_dist.report.worker_figures import worker_figures
from pres_dist.step.stages import STAGES

MAX_POINTS = 1500
StepKey = Literal["loss", "link_loss", "label_loss", "events_per_second", "gate", "coherence"]
Value = Callable[[EpochRecord], Any]


def figures(records: Sequence[Record]) -> list[Figure]:
    """Return the plots that the records have data for."""
    steps = [record for record in records if record["kind"] == "step"]
    epochs = [record for record in records if record["kind"] == "epoch"]
    made = [
        _loss(steps, epochs),
        _validation(epochs),
        _throughput(steps, epochs),
        _gate(steps, epochs),
        _coherence(steps, epochs),
        _prediction_error(epochs),
        _pending(epochs),
        _stages(epochs),
        *worker_figures(epochs),
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
    figure = make_figure("throughput", "Throughput", caption, traces, "step", "events/s")
    if figure is not None:
        figure.layout["yaxis"]["rangemode"] = "tozero"
    return figure


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
    figure = make_figure(
        "prediction", "Prediction error", caption, traces, "epoch", "ratio", whole_x=True
    )
    if figure is not None:
        line = {"color": "muted", "width": 1, "dash": "dash"}
        figure.layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": line}
        ]
    return figure


def _pending(epochs: Sequence[EpochRecord]) -> Figure | None:
    traces = [
        *_epoch_line(epochs, "epoch", lambda e: e.get("pending_events_mean"), "mean", 1),
        *_epoch_line(epochs, "epoch", lambda e: e.get("pending_events_max"), "largest", 2),
    ]
    share = next((e["pending_share"] for e in epochs if e.get("pending_share") is not None), None)
    caption = "Events of a node earlier in the same temporal batch, not yet in its memory."
    if share is not None:
        caption += f" {share:.0%} of the reads had some."
    figure = make_figure(
        "pending", "Pending events", caption, traces, "epoch", "events", whole_x=True
    )
    if figure is not None:
        # Only a logarithmic axis shows both a mean below ten and a maximum of hundreds.
        figure.layout["yaxis"].update(type="log", dtick=1)
    return figure


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
    figure = make_figure("stages", "Where a step's time goes", caption, traces, "seconds", "")
    if figure is not None:
        figure.layout.update(barmode="stack", bargap=0.35)
        figure.layout["yaxis"].update(autorange="reversed", type="category")
    return figure


def prediction_ratio(epoch: EpochRecord) -> float | None:
    """Return prediction error divided by persistence error; None if either is missing."""
    prediction, persistence = epoch.get("prediction_error"), epoch.get("persistence_error")
    return prediction / persistence if prediction is not None and persistence else None


def _validated(epoch: EpochRecord) -> Metrics:
    return epoch.get("validation") or {}


def _step_line(
    steps: Sequence[StepRecord], key: StepKey, name: str, series: int
) -> list[dict[str, Any]]:
    """Return a line over steps, thinned to about `MAX_POINTS`; an empty list without data."""
    there = [step for step in steps if step.get(key) is not None]
    thin = there[:: max(1, len(there) // MAX_POINTS)]
    return _line([s["step"] for s in thin], [s[key] for s in thin], name, series, "lines", 1.0)


def _epoch_line(
    epochs: Sequence[EpochRecord], x: Literal["epoch", "step"], value: Value, name: str, series: int
) -> list[dict[str, Any]]:
    """Return a line with a marker for each epoch; an empty list without data."""
    there = [epoch for epoch in epochs if value(epoch) is not None]
    return _line([e[x] for e in there], [value(e) for e in there], name, series, "lines+markers", 2)


def _line(
    x: list[Any], y: list[Any], name: str, series: int, mode: str, width: float
) -> list[dict[str, Any]]:
    if not x:
        return []
    trace = {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y}
    return [{**trace, "line": {"color": f"series-{series}", "width": width}}]
