"""Prediction, correction and coherence of node memory (PRES, ICLR 2024)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config


class PresConfig(Config):
    """Su, Zou, Wu: PRES (ICLR 2024). Each part can be switched off alone."""

    prediction: bool = True
    """Predict a node's memory from its past transitions and correct the measured one by it."""
    coherence_weight: float = Field(0.1, ge=0)
    """Weight of the memory-coherence loss (beta in the paper); 0 switches it off."""
    transition: Literal["mean", "sample"] = "mean"
    """Use the mean of the mixture over transitions, or a draw from it."""
    components: Literal[1, 2] = 2
    """Mixture components: all transitions alike, or positive and negative events apart (paper)."""
    clock: Literal["time", "log", "event"] = "log"
    """What a transition rate is per: time unit (paper), log(1 + time), or memory update."""
    initial_gate: float = Field(0.9, gt=0, lt=1)
    """Weight of the measured state in the correction before training; the gate is learnt."""
