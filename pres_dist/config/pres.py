"""Configuration of PRES: prediction, correction and coherence of node memory (ICLR 2024)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config


class PresConfig(Config):
    """PRES (Su, Zou, Wu, ICLR 2024). Each part can be switched off separately."""

    prediction: bool = True
    """Predict a node's memory from its past transitions, and use it to correct measured states."""
    predictor: Literal["drift", "level"] = "level"
    """Extrapolate at the mean rate of past transitions (paper), or revert to the mean of past
    states."""
    corrects: Literal["update", "lost"] = "lost"
    """Use of the prediction: combined with every measured state by a learned gate (paper), or only
    in place of messages that the mailbox had no slot for."""
    initial_gate: float = Field(0.9, gt=0, lt=1)
    """Initial weight of the measured state in the correction; training learns the gate."""
    shrinkage: float = Field(2.0, ge=0)
    """Number of transitions without change to add to the statistics of every node (a prior)."""
    components: Literal[1, 2] = 1
    """Mixture components: one for all transitions, or separate ones for positive and negative
    events (paper)."""
    clock: Literal["time", "log", "event"] = "event"
    """Unit of a transition rate: per time unit (paper), per log(1 + time), or per event of the
    node."""
    coherence_weight: float = Field(0.0, ge=0)
    """Weight of the memory-coherence loss (beta in the paper); 0 switches it off."""
