"""Names of the metrics of each task, for tables and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = {
    "ap": "AP",
    "auc": "AUC",
    "mrr": "MRR",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
_OF_LINKS = ("ap", "auc", "mrr")
_OF_CLASSES = ("ap", "auc", "accuracy", "macro_f1")


def metrics_in(groups: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Return the keys of the metrics of the task that these groups of metrics belong to."""
    return _OF_CLASSES if any("accuracy" in group for group in groups) else _OF_LINKS
