"""The configuration of a run: one field for each part of the system."""

from __future__ import annotations

from pydantic import Field, model_validator

from pres_dist.config.base import Config
from pres_dist.config.presets import PresetName
from pres_dist.evaluation.config import EvaluationConfig
from pres_dist.events.config import DataConfig
from pres_dist.memory.config import MemoryConfig
from pres_dist.model.config import ModelConfig
from pres_dist.parallel.config import ParallelConfig
from pres_dist.pres.config import PresConfig
from pres_dist.sampling.config import SamplingConfig
from pres_dist.training.config import TrainingConfig


class RunConfig(Config):
    """Everything that decides what a run computes."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9._-]+$")
    """Start of the run folder's name."""
    preset: PresetName = "best"
    """Settings that hold where no other is given: what measured best, PRES as published, or
    neither prediction nor coherence."""
    data: DataConfig = DataConfig()
    sampling: SamplingConfig = SamplingConfig()
    memory: MemoryConfig = MemoryConfig()
    model: ModelConfig = ModelConfig()
    pres: PresConfig = PresConfig()
    parallel: ParallelConfig = ParallelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _mail_attention_fits(self) -> RunConfig:
        if self.model.updater != "attention":
            return self
        because = "where model.updater is attention"
        heads = self.model.num_heads
        if self.memory.dim % heads:
            raise ValueError(
                f"memory.dim must be a multiple of model.num_heads ({heads}) {because}, "
                f"got {self.memory.dim}"
            )
        if self.pres.corrects == "lost":
            raise ValueError(
                f"pres.corrects must be update {because}: no mail is lost that a mailbox which "
                "rolls stands for, got lost"
            )
        if self.pres.pending == "apply":
            raise ValueError(
                f"pres.pending must be ignore or predict {because}, which applies no message "
                "alone, got apply"
            )
        return self
