"""Build the task of a configuration."""

from __future__ import annotations

import numpy as np
import torch

from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream
from pres_dist.training.tasks.classification import Classification
from pres_dist.training.tasks.labels import labels_of
from pres_dist.training.tasks.link_prediction import LinkPrediction
from pres_dist.training.tasks.task import Task


def build_task(
    config: RunConfig, stream: EventStream, training: range | np.ndarray, device: torch.device
) -> Task:
    """Return the configured task over a stream.

    Args:
        config: configuration of the run.
        stream: the events.
        training: ids of training events.
        device: device that holds the targets.

    Raises:
        DataError: the stream has no labels to classify.
    """
    task, num_negatives = config.task, config.sampling.num_negatives
    if task.kind == "link_prediction":
        return LinkPrediction(num_negatives)
    labels = labels_of(stream, task.missing_label, training, f"task.kind {task.kind}")
    return Classification(task, labels, training, num_negatives, device)
