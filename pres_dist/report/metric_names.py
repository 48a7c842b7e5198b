"""Names of the metrics of each task, for tables and lines."""

from __future__ import annotations

from collections.abc import Sequence

from pres_dist.records import MetricName, Metrics

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
