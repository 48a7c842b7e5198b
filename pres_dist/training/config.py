"""Optimisation, precision and checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config


class TrainingConfig(Config):
    """One training run."""

    epochs: int = Field(5, ge=1)
    """Sweeps over the training part of the stream."""
    batch_size: int = Field(800, ge=1)
    """Events in a temporal batch; a cut is moved so that equal timestamps stay together."""
    events_per_step: int = Field(0, ge=0)
    """Events an optimiser step takes of a temporal batch, so that weights move several times
    for one read and one write of memory; 0 takes the whole batch."""
    learning_rate: float = Field(0.001, gt=0)
    """Adam's step size at `scaling_base` events an optimiser step."""
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = "none"
    """How the learning rate grows with the events of an optimiser step / scaling_base."""
    scaling_base: int = Field(200, ge=1)
    """Events of an optimiser step at which `learning_rate` holds unscaled."""
    warmup_steps: int = Field(0, ge=0)
    """Optimiser steps over which the learning rate rises linearly from zero."""
    learning_rate_decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls to zero over the temporal batches of the run."""
    weight_decay: float = Field(0.0, ge=0)
    """Adam's decoupled weight decay."""
    gradient_clip: float = Field(0.0, ge=0)
    """Largest norm of the gradient; 0 switches clipping off."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 runs matrix products in bfloat16 (autocast); node state stays float32."""
    patience: int = Field(0, ge=0)
    """Stop after so many epochs without a better metric of the validation part; 0 never stops."""
    seed: int = Field(0, ge=0)
    """Seed of weights, negatives and every other draw."""
    device: str = "auto"
    """Torch device; auto takes a GPU when there is one."""
    num_threads: int = Field(0, ge=0)
    """CPU threads torch may use; 0 leaves torch's own choice."""
    checkpoint_every: int = Field(0, ge=0)
    """Steps between checkpoints inside an epoch; every epoch ends with one in any case."""
    keep_checkpoints: int = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    tensorboard: bool = False
    """Also write TensorBoard event files (needs the `report` extra)."""
