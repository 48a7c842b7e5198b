"""TGN with PRES: the modules of one training step, in the order in which they run.

Rossi et al., Temporal Graph Networks for Deep Learning on Dynamic Graphs (2020). Other
models combine other modules in the same framework (`config/kinds.py`).
The model handles nodes, times and messages. It is independent of files, ranks and stores.

Shapes: U distinct nodes of a batch, D memory size, B events, M candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pres_dist.config.memory import MemoryConfig
from pres_dist.config.model import ModelConfig
from pres_dist.config.pres import PresConfig
from pres_dist.memory.state import NO_EVENT, NodeState, elapsed_since
from pres_dist.model.decoder import Classifier, LinkDecoder
from pres_dist.model.embedding import (
    build_embedding,
    build_message_embedding,
    num_message_hops,
)
from pres_dist.model.history import HistoryDecoder, Past
from pres_dist.model.mail_attention import MailAttention
from pres_dist.model.message import MessageFunction
from pres_dist.model.neighborhood import Hop, NodeInputs
from pres_dist.model.time_encoding import TimeEncoding
from pres_dist.model.updater import MailContext, MemoryUpdater
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.coherence import incoherence
from pres_dist.pres.correction import Corrected, PresCorrection
from pres_dist.pres.statistics import TransitionRows


@dataclass(frozen=True)
class NodeMemory:
    """Memory of a batch's distinct nodes after applying their mail.

    Attributes:
        memory_UD: memory to write to the store, with gradient.
        read_UD: memory that the embedding reads; differs only for nodes with unread mail.
        last_update_U: int64 time of the newest applied event, or NEVER.
    """

    memory_UD: Tensor
    read_UD: Tensor
    last_update_U: Tensor


@dataclass(frozen=True)
class UpdatedMemory(NodeMemory):
    """Memory that this process has updated.

    Attributes:
        previous_UD: memory before the mail.
        measured_UD: the updater's own result, before the correction.
        updated_U: bool, nodes whose mail updated an earlier state.
        corrected: the prediction and correction; None if disabled.
    """

    previous_UD: Tensor
    measured_UD: Tensor
    updated_U: Tensor
    corrected: Corrected | None

    @property
    def incoherence_U(self) -> Tensor:
        """Incoherence of each node's update, with gradient."""
        return incoherence(self.previous_UD, self.memory_UD.float(), self.updated_U)


@dataclass(frozen=True)
class ReceivedMemory(NodeMemory):
    """Memory that other processes have updated, as a leaf of the graph.

    Attributes:
        incoherence_U: incoherence of each node's update, also a leaf.
    """

    incoherence_U: Tensor

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the leaves; zeros for a leaf that nothing reads."""
        leaves = [each for each in (self.memory_UD, self.incoherence_U) if each.requires_grad]
        return [torch.zeros_like(each) if each.grad is None else each.grad for each in leaves]


def _initialize(module: nn.Module) -> None:
    """Initialize linear layers with Glorot normal weights, as in the authors' TGN."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)


def _build_updater(
    config: ModelConfig, memory_dim: int, edge_dim: int, time_encoding: TimeEncoding
) -> MemoryUpdater | MailAttention:
    if config.updater == "attention":
        return MailAttention(config, memory_dim, edge_dim, time_encoding)
    messages = MessageFunction(config, memory_dim, edge_dim, time_encoding)
    return MemoryUpdater(config, messages, memory_dim)


def _build_decoder(
    config: ModelConfig, state_dim: int, num_numbers: int
) -> LinkDecoder | HistoryDecoder:
    if config.decoder == "embeddings":
        return LinkDecoder(config.embedding_dim, config.dropout)
    common_dim = state_dim if config.reads_common_neighbors else None
    return HistoryDecoder(config.embedding_dim, config.dropout, num_numbers, common_dim)


@dataclass(frozen=True)
class StreamShape:
    """Properties of a stream that determine the model's shapes.

    Attributes:
        edge_dim, node_dim: number of features of events and of nodes.
        time_unit: mean gap between training events.
        num_log_numbers: number of event-log inputs per pair, for a decoder that reads the log.
    """

    edge_dim: int
    node_dim: int
    time_unit: float
    num_log_numbers: int = 0


class TGN(nn.Module):
    """Model of message function, updater, correction, embedding and decoder.

    Args:
        model: kinds and sizes of the modules.
        memory: memory size.
        pres: prediction and correction.
        shape: sizes and time unit of the stream.
        classifier: a second head, for tasks that classify events.
    """

    def __init__(
        self,
        model: ModelConfig,
        memory: MemoryConfig,
        pres: PresConfig,
        shape: StreamShape,
        classifier: Classifier | None = None,
    ) -> None:
        super().__init__()
        self.time_encoding = TimeEncoding(
            model.time_dim, shape.time_unit, model.time_encoding == "learnable"
        )
        self.updater: MemoryUpdater | MailAttention | None = None
        if model.has_memory:
            self.updater = _build_updater(model, memory.dim, shape.edge_dim, self.time_encoding)
        self.correction: PresCorrection | None = None
        if pres.prediction:
            clock = TransitionClock(pres.clock, shape.time_unit)
            self.correction = PresCorrection(pres, memory.dim, clock)
        # Without memory, the node features are the state.
        state_dim = memory.dim if model.has_memory else shape.node_dim
        self.features: nn.Module | None = None
        if shape.node_dim and model.has_memory:
            self.features = nn.Linear(shape.node_dim, memory.dim, bias=False)
        self.embedding = build_embedding(model, state_dim, shape.edge_dim)
        self.decoder = _build_decoder(model, state_dim, shape.num_log_numbers)
        self.message_endpoint = model.message_endpoint
        self.message_embedding = build_message_embedding(model, state_dim, shape.edge_dim)
        self.num_message_hops = num_message_hops(model)
        self.classifier = classifier
        self.apply(_initialize)

    def update_memory(
        self,
        state: NodeState,
        context: MailContext,
        transitions: TransitionRows | None = None,
    ) -> UpdatedMemory:
        """Apply each node's mail to its memory, and correct the result by PRES.

        Args:
            state: rows of the distinct nodes.
            context: times and features of the events in their mail.
            transitions: statistics to predict from; required with PRES prediction.
        """
        if self.updater is None:
            return _without_update(state)
        correction = None if transitions is None else self.correction
        start = state
        if correction is not None and transitions is not None and correction.replaces_lost:
            start = _after_lost(correction, state, context, transitions)
        measured = self.updater(start, context)
        elapsed_U = elapsed_since(state.last_update_U, measured.last_update_U)
        # Neither a node's first update nor an update without mail changes an earlier state.
        updated_U = (elapsed_U > 0) & (state.mail_event_UR[:, 0] != NO_EVENT)
        memory_UD, corrected = measured.memory_UD, None
        if correction is not None and transitions is not None:
            length_U = correction.clock(elapsed_U, state.mail_count_U)
            corrected = correction(state.memory_UD, measured.memory_UD, length_U, transitions)
            memory_UD = corrected.memory_UD
        return UpdatedMemory(
            memory_UD,
            memory_UD,
            measured.last_update_U,
            state.memory_UD,
            measured.memory_UD,
            updated_U,
            corrected,
        )

    def embed(self, nodes: NodeInputs, hops: Sequence[Hop]) -> Tensor:
        """Return [Q, A] embeddings of the queries of the first hop."""
        return self.embedding(self.states(nodes), nodes, hops, self.time_encoding)

    @torch.no_grad()
    def embed_for_messages(
        self, nodes: NodeInputs, hops: Sequence[Hop], embedded_2BA: Tensor
    ) -> Tensor | None:
        """Return the [2B, D] message contents of event endpoints; None for their memory.

        Each endpoint is embedded at its event's time. Mail is stored as values, without
        gradient.

        Args:
            nodes: the batch's distinct nodes.
            hops: neighbors of sources and destinations; read if messages have a separate
                embedding.
            embedded_2BA: the endpoints' embeddings from `embed`.
        """
        if self.message_endpoint == "memory":
            return None
        if self.message_embedding is None:
            return embedded_2BA.detach()
        return self.message_embedding(self.states(nodes), nodes, hops, self.time_encoding)

    def states(self, nodes: NodeInputs) -> Tensor:
        """Return the [U, S] states of the distinct nodes: memory plus features."""
        features_Ud = nodes.features_Ud
        if self.updater is None:
            return nodes.memory_UD if features_Ud is None else features_Ud
        if self.features is None or features_Ud is None:
            return nodes.memory_UD
        return nodes.memory_UD + self.features(features_Ud)

    def score(
        self, sources_BA: Tensor, destinations_BMA: Tensor, past: Past | None = None
    ) -> Tensor:
        """Return [B, M] logits of a link between each source and each of its candidates.

        Args:
            sources_BA, destinations_BMA: embeddings.
            past: their event-log inputs, for a decoder that reads the log.
        """
        if isinstance(self.decoder, LinkDecoder):
            return self.decoder(sources_BA, destinations_BMA)
        assert past is not None
        return self.decoder(sources_BA, destinations_BMA, past)


def _without_update(state: NodeState) -> UpdatedMemory:
    """Return the unchanged rows, for a model without memory."""
    memory_UD, nothing_U = state.memory_UD, torch.zeros_like(state.last_update_U, dtype=torch.bool)
    return UpdatedMemory(
        memory_UD, memory_UD, state.last_update_U, memory_UD, memory_UD, nothing_U, None
    )


def _after_lost(
    correction: PresCorrection,
    state: NodeState,
    context: MailContext,
    transitions: TransitionRows,
) -> NodeState:
    """Add the predicted effect of lost messages, which had no slot, to the memory.

    They arrived between the last update and the oldest kept message.
    """
    num_kept_U = (state.mail_event_UR != NO_EVENT).sum(1)
    lost_U = state.mail_count_U - num_kept_U
    until_oldest_U = elapsed_since(state.last_update_U, context.t_UR[:, 0])
    length_U = correction.clock(until_oldest_U * (lost_U > 0), lost_U)
    change_UD = correction.predict(state.memory_UD, length_U, transitions)
    return replace(state, memory_UD=state.memory_UD + change_UD)


@dataclass(frozen=True)
class Unread:
    """Events of nodes that their memory does not include yet (any shape).

    Attributes:
        elapsed: int64 time from the last update to the newest of these events; 0 if none.
        count: int64 number of these events.
    """

    elapsed: Tensor
    count: Tensor


def predict_unread(
    correction: PresCorrection,
    updated: UpdatedMemory,
    transitions: TransitionRows,
    unread_U: Unread,
) -> UpdatedMemory:
    """Predict the memory after mail that is still in flight.

    If reads lag, a node may have events between its last update and the batch whose mail
    the read did not include. The memory is assumed to change over that time as it did
    before. Only the memory that embeddings read is predicted, not the written one: the
    mail will be applied once it has arrived.

    Args:
        correction: predicts the change.
        updated: memory after the mail that was read.
        transitions: stored transition statistics of the nodes.
        unread_U: events of the nodes from the last update to the batch.
    """
    length_U = correction.clock(unread_U.elapsed, unread_U.count)
    change_UD = correction.predict(updated.memory_UD, length_U, transitions)
    return replace(updated, read_UD=updated.memory_UD + change_UD)
