"""Optimization, precision and checkpoints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pres_dist.config.base import Config, Seed
from pres_dist.remote import check_url


def _elsewhere(url: str) -> str:
    check_url(url)
    return url


class TrainingConfig(Config):
    """Optimization of one training run."""

    epochs: int = Field(5, ge=1)
    """Number of passes over the training split."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 3200
    """Events in a temporal batch, equal timestamps kept together; auto calibrates the number."""
    events_per_step: int = Field(0, ge=0)
    """Events of a temporal batch in one optimizer step; 0 takes the whole batch. With fewer,
    weights are updated several times for one read and one write of memory."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: orthogonalized momentum for matrices and AdamW for vectors, which trains as far in a
    sixteenth of the steps (Jordan et al., 2024); or adamw for all parameters."""
    vector_rate: float = Field(0.4, gt=0)
    """Ratio of AdamW's learning rate (vectors, last decoder layer) to muon's, with muon."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Share of the old momentum that muon keeps in each step."""
    learning_rate: float = Field(0.01, gt=0, le=1e30)
    """Peak learning rate; with scaling, for optimizer steps of `scaling_base` events. The default
    with adamw is 0.001."""
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = "linear"
    """Growth of the learning rate with the ratio of events per optimizer step to scaling_base, if
    it is above 1. The default with adamw is sqrt."""
    scaling_base: int = Field(3200, ge=1)
    """Largest number of events per optimizer step at which `learning_rate` applies unscaled. The
    default with adamw is 200."""
    warmup_steps: int = Field(0, ge=0)
    """Optimizer steps over which the learning rate rises linearly from zero."""
    learning_rate_decay: Literal["none", "linear", "cosine"] = "linear"
    """Decay of the learning rate to zero over the temporal batches of the run."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of the optimizer."""
    gradient_clip: float = Field(0.0, ge=0)
    """Largest norm of the gradient with adamw; 0 disables clipping. muon normalizes gradients."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 runs matrix products in bfloat16 (autocast); node state stays float32."""
    compile: bool = False
    """Compile the memory update with torch.compile: costs about 15 CPU seconds at start-up; steps
    are 2 to 10% faster (docs/explanation/performance.md)."""
    capture: Literal["auto", "off"] = "off"
    """auto records the training step once as a CUDA graph and replays it, on one GPU and with
    settings that allow it; off computes every step anew, and is the default until a GPU has run
    recorded steps (docs/explanation/performance.md)."""
    patience: int = Field(0, ge=0)
    """Early-stopping patience, in epochs without a better validation metric; 0 disables it."""
    seed: Seed = 0
    """Seed for weights, negatives and all other random draws."""
    device: str = "auto"
    """Torch device; auto uses a GPU if there is one. With `auto`, or `cuda` without a number,
    several workers on a machine use one GPU each."""
    deterministic: bool = False
    """Use sums in a fixed order on a GPU, so that equal runs give equal bits there as they do on a
    CPU; steps are slower (docs/explanation/performance.md)."""
    num_threads: int = Field(0, ge=0, le=1024)
    """CPU threads of torch; 0 keeps torch's default."""
    checkpoint_every: int = Field(0, ge=0)
    """Steps between checkpoints within an epoch; a checkpoint is always written at its end."""
    keep_checkpoints: int = Field(2, ge=1)
    """Number of newest checkpoints to keep."""
    checkpoint_mirror: Annotated[str, AfterValidator(_elsewhere)] | None = None
    """URL of a folder to copy checkpoints to in the background, for `pres-dist resume URL` on
    another machine: s3://bucket/runs/one, or any other URL that fsspec supports."""
    tensorboard: bool = False
    """Also write TensorBoard event files (needs the `report` extra)."""

    @model_validator(mode="before")
    @classmethod
    def _rate_suits_the_optimizer(cls, values: Any) -> Any:
        """Fill in the learning rate and its scaling for AdamW where they are not given."""
        if isinstance(values, dict) and values.get("optimizer") == "adamw":
            usual = {"learning_rate": 0.001, "learning_rate_scaling": "sqrt", "scaling_base": 200}
            return usual | values
        return values

    @property
    def events_per_batch(self) -> int:
        """`batch_size` as a number; raises ValueError if it is not calibrated yet."""
        if self.batch_size == "auto":
            raise ValueError("training.batch_size is auto: no calibration has chosen it yet")
        return self.batch_size


class CalibrationConfig(Config):
    """Calibration of `training.batch_size: auto` on the first events of the training split."""

    base_batch: int = Field(200, ge=1)
    """Batch size whose accuracy is the baseline for larger ones."""
    largest_batch: int = Field(12_800, ge=1)
    """Largest batch size to try; sizes double from `base_batch` on."""
    tolerance: float = Field(0.003, ge=0)
    """Largest acceptable loss of the validation metric (AP for links)."""
    max_events: int = Field(100_000, ge=100)
    """Events to calibrate on, from the training split alone and split like the stream."""
    epochs: int = Field(3, ge=1)
    """Number of passes over these events."""
    seeds: int = Field(1, ge=1)
    """Number of trainings for each batch size, whose metrics are averaged."""
