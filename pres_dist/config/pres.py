"""Prediction, correction and coherence of node memory (PRES, ICLR 2024)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config


class PresConfig(Config):
    """Su, Zou, Wu: PRES (ICLR 2024). Each part can be switched off alone."""

    prediction: bool = True
    """Predict a node's memory from its past transitions and correct the measured one by it."""
    predictor: Literal["drift", "level"] = "level"
    """Go on at the mean rate of past transitions (paper), or back to the mean of past states."""
    corrects: Literal["update", "lost"] = "lost"
    """What prediction stands for: it is weighed against every measured state (paper), or it
    takes the place of the messages that the mailbox had no slot for."""
    gate: Literal["learned", "kalman"] = "learned"
    """Weight of the measured state: one number that is learned (paper), or for every node by the
    variance of its past transitions against a learned noise."""
    initial_gate: float = Field(0.9, gt=0, lt=1)
    """Weight of the measured state in the correction before training; the gate is learned."""
    shrinkage: float = Field(2.0, ge=0)
    """Transitions without any change that every node is taken to have had besides its own."""
    clip: float = Field(0.0, ge=0)
    """Largest change that is predicted for a number of the memory; 0 sets no bound."""
    pending: Literal["ignore", "predict", "apply"] = "ignore"
    """What a query knows of its node's events that are earlier in the batch: nothing; a
    prediction; or the last `memory.mailbox_slots` of them, applied by the updater."""
    transition: Literal["mean", "sample"] = "mean"
    """Use the mean of the mixture over transitions, or a draw from it."""
    components: Literal[1, 2] = 1
    """Mixture components: all transitions alike, or positive and negative events apart (paper)."""
    clock: Literal["time", "log", "event"] = "event"
    """What a transition rate is per: time unit (paper), log(1 + time), or event of the node."""
    coherence_weight: float = Field(0.0, ge=0)
    """Weight of the memory-coherence loss (beta in the paper); 0 switches it off."""
