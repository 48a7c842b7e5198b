"""The parts a TGN is put together from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pres_dist.config.base import Config


class ModelConfig(Config):
    """Message function, aggregator, memory updater, embedding and time encoding."""

    message: Literal["identity", "mlp"] = "identity"
    """Message function: the concatenated raw message, or a two-layer perceptron of it."""
    message_dim: int = Field(100, ge=1)
    """Numbers in a message (mlp only; an identity message has the raw message's size)."""
    aggregator: Literal["last", "mean", "sequential"] = "last"
    """Messages of one node in one batch: the last, their mean, or each applied in order."""
    updater: Literal["gru", "rnn", "attention"] = "gru"
    """Recurrent cell that turns memory and message into new memory, or attention of the memory
    over a mailbox that rolls: one that keeps its last mails over batches (APAN)."""
    mail_hops: int = Field(0, ge=0, le=2)
    """Hops of most recent neighbours that get an event's mail beside its endpoints (attention
    updater only); `sampling.num_neighbours` of each node."""
    embedding: Literal["attention", "sum", "identity", "time"] = "attention"
    """How a node is embedded at a time: TGN attention, graph sum, memory, time projection."""
    num_layers: int = Field(1, ge=1, le=2)
    """Hops of attention or graph sum."""
    num_heads: int = Field(2, ge=1)
    """Attention heads."""
    embedding_dim: int = Field(100, ge=1)
    """Numbers in an embedding."""
    time_dim: int = Field(100, ge=1)
    """Numbers in a time encoding."""
    time_encoding: Literal["fixed", "learnable"] = "fixed"
    """Fixed geometric frequencies (GraphMixer), or frequencies learnt from there (TGAT)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout inside the embedding and the decoder while training."""

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        if self.embedding == "attention" and self.embedding_dim % self.num_heads:
            raise ValueError(
                f"embedding_dim must be a multiple of num_heads ({self.num_heads}), "
                f"got {self.embedding_dim}"
            )
        if self.mail_hops and self.updater != "attention":
            raise ValueError(
                "mail_hops must be 0 unless updater is attention, whose mailbox holds other "
                f"nodes' events too, got {self.mail_hops} with updater {self.updater}"
            )
        return self
