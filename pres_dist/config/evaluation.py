"""Configuration of the evaluation of a trained model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config, Seed, Size

EvaluationNegatives = Literal["random", "historical", "inductive", "tgb"]


class EvaluationConfig(Config):
    """Link-prediction metrics on the validation and test splits."""

    batch_size: int = Field(200, ge=1)
    """Events in a temporal batch of evaluation, independent of the batch size of training."""
    memory: Literal["carry", "replay"] = "carry"
    """Initial memory: as training left it, or rebuilt from all events with the final weights."""
    negatives: EvaluationNegatives = "random"
    """Kind of negative destinations; tgb uses the negatives stored with an imported TGB stream."""
    num_negatives: Size = 20
    """Negatives per event for MRR in the final evaluation; AP and AUC use the first of them."""
    baselines: bool = True
    """Also score the EdgeBank and popularity baselines on the same events."""
    seed: Seed = 12345
    """Seed of the evaluation negatives, the same for every model and epoch."""
