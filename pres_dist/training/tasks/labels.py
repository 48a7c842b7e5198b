"""Labels of events as class numbers.

Only losses, metrics and baselines read them; labels are never an input of the model.

Shapes: E events of the stream, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream

MAX_CLASSES = 1000
UNLABELLED = -1


@dataclass(frozen=True)
class Labels:
    """Labels of a stream.

    Attributes:
        values_C: sorted labels, as in the stream; class c has label `values_C[c]`.
        class_E: int64 class of each event, or UNLABELLED.
    """

    values_C: np.ndarray
    class_E: np.ndarray

    @property
    def num_classes(self) -> int:
        return len(self.values_C)

    def shares(self, events: range | np.ndarray) -> np.ndarray:
        """Return [C] share of each class among the labelled events of `events`."""
        class_n = self.class_E[np.asarray(events)]
        counts = np.bincount(class_n[class_n != UNLABELLED], minlength=self.num_classes)
        return counts / max(int(counts.sum()), 1)


def labels_of(
    stream: EventStream, missing: int | None, training: range | np.ndarray, task: str
) -> Labels:
    """Number the labels of a stream.

    Args:
        stream: the events.
        missing: label that means "unlabelled"; None if every event has a label.
        training: ids of training events.
        task: task as written in the configuration, for error messages.

    Raises:
        DataError: there are no labels, fewer than two classes or too many, or fewer than
            two of them occur in the training split.
    """
    if stream.labels is None:
        raise DataError(
            f"{stream.name}: {task} needs a stream with labels, this one has none "
            "(pres-dist data import --label COLUMN)"
        )
    values_C, class_E = np.unique(np.asarray(stream.labels), return_inverse=True)
    if missing is not None:
        place = np.flatnonzero(values_C == missing)
        values_C = np.delete(values_C, place)
        class_E = np.where(
            stream.labels == missing, UNLABELLED, np.searchsorted(values_C, stream.labels)
        )
    if not 2 <= len(values_C) <= MAX_CLASSES:
        raise DataError(
            f"{stream.name}: {task} needs 2 to {MAX_CLASSES} different labels, got {len(values_C)}"
        )
    labels = Labels(values_C, class_E.astype(np.int64))
    if np.count_nonzero(labels.shares(training)) < 2:
        raise DataError(
            f"{stream.name}: {task} needs at least 2 different labels among the training events"
        )
    return labels
