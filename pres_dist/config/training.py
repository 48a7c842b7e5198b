"""Optimization, precision and checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pres_dist.config.base import Config
from pres_dist.remote import check_url


def _elsewhere(url: str) -> str:
    check_url(url)
    return url


class TrainingConfig(Config):
    """One training run."""

    epochs: int = Field(5, ge=1)
    """Sweeps over the training part of the stream."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 800
    """Events in a temporal batch, equal timestamps kept together; auto calibrates the number."""
    events_per_step: int = Field(200, ge=0)
    """Events an optimizer step takes of a temporal batch, so that weights move several times
    for one read and one write of memory; 0 takes the whole batch."""
    loss: Literal["cross_entropy", "ranking", "both"] = "cross_entropy"
    """What links are learned by: cross-entropy of each event and each negative, which gives
    probabilities; softmax over each event and its negatives, which only ranks them; or the mean of
    the two."""
    step_growth: float = Field(1.0, ge=1)
    """How many times larger optimizer steps become, at most, while `learning_rate_decay` lowers the
    rate: one takes N times the events at N times the rate (Smith et al., 2018). 1 leaves them."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw, or muon: orthogonalized momentum for matrices and AdamW for vectors, which trains as
    far in fewer, larger steps (Jordan et al., 2024)."""
    vector_rate: float = Field(0.4, gt=0)
    """Learning rate of what muon leaves to AdamW (vectors, the last decoder row) over its own."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Share of the old momentum that muon keeps at a step."""
    learning_rate: float = Field(0.001, gt=0)
    """Step size of the optimizer at `scaling_base` events an optimizer step."""
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = "sqrt"
    """How the learning rate grows with the events of an optimizer step / scaling_base."""
    scaling_base: int = Field(200, ge=1)
    """Events of an optimizer step at which `learning_rate` holds unscaled."""
    warmup_steps: int = Field(0, ge=0)
    """Optimizer steps over which the learning rate rises linearly from zero."""
    learning_rate_decay: Literal["none", "linear", "cosine"] = "linear"
    """How the learning rate falls to zero over the temporal batches of the run."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of the optimizer."""
    gradient_clip: float = Field(0.0, ge=0)
    """Largest norm of the gradient; 0 switches clipping off."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 runs matrix products in bfloat16 (autocast); node state stays float32."""
    compile: bool = False
    """Compile the memory update by torch.compile: some 15 CPU seconds at the start, for 2 to 10%
    less of every step (docs/performance.md)."""
    patience: int = Field(0, ge=0)
    """Stop after so many epochs without a better metric of the validation split; 0 never stops."""
    seed: int = Field(0, ge=0)
    """Seed of weights, negatives and every other draw."""
    device: str = "auto"
    """Torch device; auto takes a GPU when there is one. Several workers on a machine take a GPU
    each, with `auto` or `cuda` without a number."""
    num_threads: int = Field(0, ge=0)
    """CPU threads torch may use; 0 leaves torch's own choice."""
    checkpoint_every: int = Field(0, ge=0)
    """Steps between checkpoints inside an epoch; every epoch ends with one in any case."""
    keep_checkpoints: int = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    checkpoint_mirror: Annotated[str, AfterValidator(_elsewhere)] | None = None
    """URL of a folder that checkpoints are copied to, beside training, for `pres-dist resume URL`
    on another machine: s3://bucket/runs/one, or any other that fsspec opens."""
    tensorboard: bool = False
    """Also write TensorBoard event files (needs the `report` extra)."""

    @property
    def events_per_batch(self) -> int:
        """`batch_size` as a number; ValueError while it is still to be calibrated."""
        if self.batch_size == "auto":
            raise ValueError("training.batch_size is auto: no calibration has chosen it yet")
        return self.batch_size


class CalibrationConfig(Config):
    """How `training.batch_size: auto` is found, on the first events of the training split."""

    base_batch: int = Field(200, ge=1)
    """The batch whose accuracy the others are held against."""
    largest_batch: int = Field(12_800, ge=1)
    """No batch beyond it is tried; batches double from `base_batch` on."""
    tolerance: float = Field(0.003, ge=0)
    """How much of the validation metric (AP for links) a batch may cost."""
    max_events: int = Field(100_000, ge=100)
    """Events to calibrate on; split like the stream, none of them of its validation or test."""
    epochs: int = Field(3, ge=1)
    """Sweeps over them."""
    seeds: int = Field(1, ge=1)
    """Trainings of each batch, whose metrics are averaged."""
