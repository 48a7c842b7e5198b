"""Configuration of the prediction task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.config.places import OptionalPlace

TaskKind = Literal["link_prediction", "node_classification", "edge_classification"]


class TaskConfig(Config):
    """Prediction task and the handling of labels."""

    kind: TaskKind = "link_prediction"
    """Target: which events happen, the label of their source node, or the class of the event."""
    link_weight: float = Field(0.0, ge=0)
    """Weight of the link-prediction loss in a classification task; 0 learns from labels only."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced gives all classes the same total weight in the loss, however rare they are."""
    own_features: bool = False
    """Let the classifier read the event's own features; unsafe if they reveal the label."""
    missing_label: int | None = None
    """Label that means "unlabelled": such events are neither learned nor scored."""
    pretrained: OptionalPlace = None
    """Folder of a link-prediction run: its best weights are frozen, only the classifier learns."""
