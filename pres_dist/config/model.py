"""Configuration of the parts of a model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pres_dist.config.base import Config, Size
from pres_dist.config.kinds import KINDS

DglConvolution = Annotated[str, Field(pattern=r"^dgl\.nn\.[A-Za-z0-9]+$")]


class ModelConfig(Config):
    """Message function, aggregator, memory updater, embedding and time encoding."""

    kind: Literal["tgn", "jodie", "dyrep", "apan", "tgat"] = "tgn"
    """Model: sets the parts that are not set here; tgat has no memory; tgn takes any parts."""
    message: Literal["identity", "mlp"] = "identity"
    """Message function: the concatenated raw message, or a two-layer perceptron of it."""
    message_dim: Size = 100
    """Dimension of a message (mlp only; an identity message has the raw message's size)."""
    message_endpoint: Literal["memory", "embedding"] = "memory"
    """Representation of the other endpoint in a message: its memory, or its embedding at the
    event."""
    aggregator: Literal["last", "mean", "sequential"] = "sequential"
    """Aggregation of the messages of one node in one batch: the last, their mean, or each applied
    in order."""
    updater: Literal["gru", "rnn", "attention"] = "gru"
    """Recurrent cell that computes new memory from memory and message, or attention of the memory
    over a FIFO mailbox that keeps its last mails across batches (APAN)."""
    mail_hops: int = Field(0, ge=0, le=2)
    """Hops of most recent neighbors that also receive an event's mail, not only its endpoints
    (attention updater only); `sampling.num_neighbors` of each node."""
    embedding: Literal["attention", "sum", "identity", "time"] | DglConvolution = "attention"
    """Embedding of a node at a time: TGN attention, graph sum, memory (identity), time projection,
    or a DGL convolution, e.g. dgl.nn.GATv2Conv (CPU only)."""
    num_layers: int = Field(1, ge=1, le=2)
    """Hops of attention or graph sum, also in the messages of DyRep."""
    num_heads: Size = 2
    """Number of attention heads."""
    embedding_dim: Size = 100
    """Dimension of an embedding."""
    time_dim: Size = 100
    """Dimension of a time encoding."""
    time_encoding: Literal["fixed", "learnable"] = "fixed"
    """Fixed geometric frequencies (GraphMixer), or learned ones that start from these (TGAT)."""
    decoder: Literal["history", "embeddings"] = "history"
    """Input of the link decoder: the embeddings of both nodes and the event log strictly before
    the query (how often and how recently either node was active and met the other), or the
    embeddings alone."""
    common_neighbors: bool = True
    """Let a decoder that reads the log also read the states of common recent neighbors, if
    embeddings read neighbors."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout probability inside the embedding and the decoder during training."""

    @property
    def has_memory(self) -> bool:
        """True if nodes have a state that events update."""
        return KINDS[self.kind].has_memory

    @property
    def reads_neighbors(self) -> bool:
        """True if embeddings, for scores or for messages, aggregate a node's neighbors."""
        return self.embeds_neighbors or self.message_endpoint == "embedding"

    @property
    def embeds_neighbors(self) -> bool:
        """True if the embedding for scores aggregates a node's neighbors."""
        return self.embedding not in ("identity", "time")

    @property
    def reads_common_neighbors(self) -> bool:
        """True if the decoder reads the states of common neighbors."""
        reads_log = self.decoder == "history"
        return reads_log and self.common_neighbors and self.embeds_neighbors

    @property
    def attends(self) -> bool:
        """True if embeddings (for scores or messages) aggregate neighbors, not by graph sum."""
        return self.reads_neighbors and self.embedding != "sum"

    @model_validator(mode="before")
    @classmethod
    def _take_the_parts_of_the_kind(cls, values: Any) -> Any:
        kind = KINDS.get(str(values.get("kind"))) if isinstance(values, dict) else None
        return values if kind is None else {**kind.parts, **values}

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> ModelConfig:
        fixed = KINDS[self.kind].fixed
        got = [
            f"{name} {getattr(self, name)}" for name in fixed if getattr(self, name) != fixed[name]
        ]
        if got:
            needs = ", ".join(f"{name} {value}" for name, value in fixed.items())
            raise ValueError(
                f"kind {self.kind} must have {needs}, got {', '.join(got)}; "
                "kind tgn takes any parts"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        if self.attends and self.embedding_dim % self.num_heads:
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
