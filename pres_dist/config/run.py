"""Configuration of a run: one section for each part of the system."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from pres_dist.config.base import Config
from pres_dist.config.data import DataConfig
from pres_dist.config.evaluation import EvaluationConfig
from pres_dist.config.kinds import KINDS
from pres_dist.config.memory import MemoryConfig
from pres_dist.config.model import ModelConfig
from pres_dist.config.parallel import ParallelConfig
from pres_dist.config.pres import PresConfig
from pres_dist.config.presets import PresetName, rolls_its_mail
from pres_dist.config.sampling import SamplingConfig
from pres_dist.config.task import TaskConfig
from pres_dist.config.training import CalibrationConfig, TrainingConfig


class RunConfig(Config):
    """All settings that determine what a run computes."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9._-]+$")
    """Prefix of the run folder's name."""
    preset: PresetName = "best"
    """Defaults for PRES at large temporal batches: the best measured settings, PRES as published,
    or neither prediction nor coherence."""
    data: DataConfig = DataConfig()
    task: TaskConfig = TaskConfig()
    sampling: SamplingConfig = SamplingConfig()
    memory: MemoryConfig = MemoryConfig()
    model: ModelConfig = ModelConfig()
    pres: PresConfig = PresConfig()
    parallel: ParallelConfig = ParallelConfig()
    training: TrainingConfig = TrainingConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="before")
    @classmethod
    def _pres_suits_the_model(cls, values: Any) -> Any:
        """Adapt PRES defaults: off without memory, `corrects: update` with a FIFO mailbox."""
        if not isinstance(values, dict):
            return values
        model, pres = values.get("model"), values.get("pres", {})
        if isinstance(model, ModelConfig):
            model = model.model_dump()
        if not (isinstance(model, dict) and isinstance(pres, dict)):
            return values
        kind = KINDS.get(str(model.get("kind")))
        if kind is not None and not kind.has_memory:
            return {**values, "pres": {"prediction": False, "coherence_weight": 0, **pres}}
        if rolls_its_mail(model):
            return {**values, "pres": {"corrects": "update", **pres}}
        return values

    @model_validator(mode="after")
    def _pres_has_a_memory(self) -> RunConfig:
        pres = self.pres
        if not self.model.has_memory and (pres.prediction or pres.coherence_weight):
            raise ValueError(
                "pres.prediction must be false and pres.coherence_weight 0 with model.kind "
                f"{self.model.kind}, which has no memory, got {str(pres.prediction).lower()} and "
                f"{pres.coherence_weight:g}"
            )
        return self

    @model_validator(mode="after")
    def _update_can_be_compiled(self) -> RunConfig:
        recurrent = self.model.has_memory and self.model.updater != "attention"
        if self.training.compile and not recurrent:
            raise ValueError(
                "training.compile must be false where no recurrent cell updates memory "
                f"(model.kind {self.model.kind}), got true"
            )
        return self

    @model_validator(mode="after")
    def _every_slice_has_events(self) -> RunConfig:
        slices, batch = self.parallel.slices or 1, self.training.batch_size
        if batch != "auto" and slices > batch:
            raise ValueError(
                f"parallel.slices must be at most training.batch_size ({batch}), got {slices}"
            )
        return self

    @property
    def against_owner_updates(self) -> str | None:
        """Setting with which the owners of nodes cannot update them for others; None without."""
        if not self.model.has_memory:
            return f"model.kind {self.model.kind}"
        unfit = {
            f"memory.staleness {self.memory.staleness}": self.memory.staleness,
            f"training.events_per_step {self.training.events_per_step}": (
                self.training.events_per_step
            ),
            "model.message_endpoint embedding": self.model.message_endpoint == "embedding",
        }
        return next((setting for setting, found in unfit.items() if found), None)

    @model_validator(mode="after")
    def _owners_can_update(self) -> RunConfig:
        if self.memory.update == "owner" and self.against_owner_updates is not None:
            raise ValueError(
                f"memory.update must be auto or reader with {self.against_owner_updates}, got owner"
            )
        return self

    @model_validator(mode="after")
    def _embedding_fits_into_mail(self) -> RunConfig:
        carried, dim = self.model.embedding_dim, self.memory.dim
        if self.model.message_endpoint == "embedding" and carried != dim:
            raise ValueError(
                f"model.embedding_dim must equal memory.dim ({dim}) where messages hold embeddings "
                f"(model.message_endpoint), got {carried}"
            )
        return self

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
        if self.model.message_endpoint != "memory":
            raise ValueError(
                f"model.message_endpoint must be memory {because}, "
                f"got {self.model.message_endpoint}"
            )
        if self.pres.corrects == "lost":
            raise ValueError(
                f"pres.corrects must be update {because}: a rolling mailbox never drops "
                "messages; got lost"
            )
        return self
