"""How a trained model is evaluated."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config

EvaluationNegatives = Literal["random", "historical", "inductive", "tgb"]


class EvaluationConfig(Config):
    """Link-prediction metrics on the validation and test splits."""

    batch_size: int = Field(200, ge=1)
    """Events in a temporal batch of evaluation, whatever training used."""
    memory: Literal["carry", "replay"] = "carry"
    """Memory to start from: what training left, or rebuilt from all events by the final weights."""
    negatives: EvaluationNegatives = "random"
    """Where negative destinations come from; tgb takes those stored with an imported TGB stream."""
    num_negatives: int = Field(20, ge=1)
    """Negatives an event for MRR in the final evaluation; AP and AUC use the first of them."""
    baselines: bool = True
    """Also score EdgeBank and popularity, which a model must beat, on the same events."""
    seed: int = Field(12345, ge=0)
    """Seed of the evaluation negatives, the same for every model and epoch."""
