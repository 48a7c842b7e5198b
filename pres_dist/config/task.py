"""What a run learns to predict."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.config.places import OptionalPlace

TaskKind = Literal["link_prediction", "node_classification", "edge_classification"]


class TaskConfig(Config):
    """The task, and how labels are learned."""

    kind: TaskKind = "link_prediction"
    """Which events happen, the state of their source node, or the class of the event."""
    link_weight: float = Field(0.0, ge=0)
    """Weight of link prediction beside a classification; 0 learns from labels alone."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced lets all classes weigh alike in the loss, however rare they are."""
    own_features: bool = False
    """Show the classifier the event's own features: only where they do not tell its label."""
    missing_label: int | None = None
    """Label that stands for none: such events are neither learned nor scored."""
    pretrained: OptionalPlace = None
    """Run folder of link prediction: its best weights are kept, only the classifier is learned."""
