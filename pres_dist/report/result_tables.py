"""Tables and lines of text about the metrics of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pres_dist.records import EVALUATED_SPLITS, EpochRecord, MetricName, Metrics, Results, SplitName

NOTHING = "-"
NAMES: dict[MetricName, str] = {
    "ap": "AP",
    "auc": "AUC",
    "mrr": "MRR",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
_OF_LINKS: Sequence[MetricName] = ("ap", "auc", "mrr")
_OF_CLASSES: Sequence[MetricName] = ("ap", "auc", "accuracy", "macro_f1")


def metrics_in(groups: Sequence[Metrics]) -> Sequence[MetricName]:
    """Return the keys of the metrics of the task that these groups of metrics belong to."""
    return _OF_CLASSES if any("accuracy" in group for group in groups) else _OF_LINKS


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines of text with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *cells in rows:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *right]).rstrip())
    return lines


def comparison_rows(by_negatives: Mapping[str, Results], part: SplitName) -> list[list[str]]:
    """Return a header row and rows for the model, each baseline and the share of negatives found.

    Args:
        by_negatives: results by the kind of negatives.
        part: validation or test.
    """

    def cells(measured: Iterable[Metrics]) -> list[str]:
        return [number(metrics.get(key)) for metrics in measured for key in _OF_LINKS]

    of = {kind: results.get(part) or {} for kind, results in by_negatives.items()}
    names = (f"{kind} {NAMES[key]}" for kind in of for key in _OF_LINKS)
    rows = [[f"{part}, among negatives:", *names]]
    if any("ap" in measured for measured in of.values()):
        rows.append(["model", *cells(of.values())])
    baselines = [measured.get("baselines") or {} for measured in of.values()]
    for name in dict.fromkeys(name for by_name in baselines for name in by_name):
        rows.append([name, *cells(by_name.get(name, {}) for by_name in baselines)])
    shares = [measured.get("negatives_found") for measured in of.values()]
    blank = [""] * (len(_OF_LINKS) - 1)
    found = (cell for s in shares for cell in (NOTHING if s is None else f"{s:.1%}", *blank))
    rows.append(["negatives of that kind", *found])
    return rows


def epoch_line(record: EpochRecord, total_epochs: int) -> str:
    """Format an epoch as one line."""
    validation = record.get("validation") or {}
    metrics = [
        f"{NAMES[key]} {number(validation.get(key))}"
        for key in metrics_in([validation])
        if key != "mrr"
    ]
    parts = [
        f"epoch {record.get('epoch', NOTHING)}/{total_epochs}",
        f"loss {number(record.get('loss'))}",
        f"validation {'  '.join(metrics)}",
        f"{number(record.get('events_per_second'), 0)} events/s",
        duration(record.get("seconds")),
    ]
    return "  ".join(parts)


def results_rows(results: Results) -> list[list[str]]:
    """Return validation and test metrics as a table: a header row, then a row for each split.

    Baselines of the test split follow, if there are any. There are inductive columns only if
    inductive metrics were measured.
    """
    parts = [name for name in EVALUATED_SPLITS if results.get(name)]
    metrics = metrics_in([results[name] for name in parts])
    inductive = any(results[name].get("inductive") for name in parts)
    names = [NAMES[metric] for metric in metrics]
    rows = [["", *names, *(f"inductive {name}" for name in names if inductive)]]
    baselines = (results.get("test") or {}).get("baselines") or {}
    measured: dict[str, Metrics] = {**{name: results[name] for name in parts}, **baselines}
    for name, of_all in measured.items():
        groups = [of_all, of_all.get("inductive") or {}][: 1 + inductive]
        rows.append([name, *(number(group.get(metric)) for group in groups for metric in metrics)])
    return rows


def results_summary(results: Results) -> str:
    """Summarize in one line how the results were obtained."""
    parts = []
    if results.get("num_negatives") is not None:
        kind = results.get("negatives", "")
        parts.append(f"MRR among {results['num_negatives']} {kind} negatives".replace("  ", " "))
        parts += [found] if (found := negatives_found(results)) else []
    if results.get("best_epoch") is not None:
        parts.append(f"best epoch {results['best_epoch']}")
    if results.get("seconds") is not None:
        parts.append(f"took {duration(results['seconds'])}")
    return "; ".join(parts)


def negatives_found(results: Results) -> str:
    """Describe the share of historical or inductive negatives found; empty for other kinds."""
    kind = results.get("negatives")
    shares = [
        f"{found:.1%} ({name})"
        for name in EVALUATED_SPLITS
        if (found := (results.get(name) or {}).get("negatives_found")) is not None
    ]
    if kind not in ("historical", "inductive") or not shares:
        return ""
    return f"{' and '.join(shares)} of the negatives are {kind}, random ones stand in for the rest"


def shortcomings(results: Results) -> list[str]:
    """Return a warning for each test metric in which the model does not beat all baselines."""
    test = results.get("test") or {}
    baselines = test.get("baselines") or {}
    lines = []
    for metric in metrics_in([test]):
        reached = {name: of.get(metric) for name, of in baselines.items()}
        known = {name: value for name, value in reached.items() if value is not None}
        if not known or test.get(metric) is None:
            continue
        best = max(known, key=lambda name: known[name])
        if test[metric] > known[best]:
            continue
        rule = f"the {best}"
        if best.startswith("EdgeBank"):
            rule = "remembering which pairs have met"
        elif best.startswith("most popular"):
            rule = "counting a destination's earlier events"
        lines.append(
            f"warning: test {NAMES[metric]} {test[metric]:.4f} does not beat {best} "
            f"({known[best]:.4f}): the model has learned nothing that {rule} does not tell"
        )
    return lines


def number(value: float | None, decimals: int = 4) -> str:
    """Format a number for people; `-` for a missing one."""
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def duration(value: float | None) -> str:
    """Format seconds, such as 12.3 s, 4:05 min or 2:03:04 h."""
    if value is None:
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"
