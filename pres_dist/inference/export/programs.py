"""Modules of a trained model as `torch.export` programs, which run without this package.

Shapes: B sources, M candidates, A embedding size, U distinct nodes, R mailbox slots, D
memory size, d_e edge features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pres_dist.memory.state import NEVER, NO_EVENT, NodeState
from pres_dist.model.decoder import LinkDecoder
from pres_dist.model.history import HistoryDecoder, Past
from pres_dist.model.tgn import TGN
from pres_dist.model.updater import MailContext
from pres_dist.pres.statistics import TransitionRows
from pres_dist.step.pipeline import BatchPipeline

_EXAMPLES = 2
"""Rows of example inputs; torch.export would specialize an axis of size 1."""

_MEANINGS = {
    "memory": "memory before the mail",
    "last_update": f"time of the newest event in the memory; {NEVER} where there is none",
    "mail_memory": "what each mail holds of the other endpoint",
    "mail_event": f"events of the mail, full slots first; {NO_EVENT} in empty ones",
    "mail_count": "events that the mail stands for",
    "mail_t": "times of the events of the mail",
    "mail_features": "features of those events, scaled (feature_scaling in the manifest)",
    "mail_own": "whether the node was an endpoint of the event",
    "now": "time of the temporal batch",
    "num_observed": "transitions of the memory that were seen in training",
    "rate": "their mean rate",
}


@dataclass(frozen=True)
class Program:
    """Exported program, with descriptions of its inputs and outputs.

    Attributes:
        program: the program; it is called with keyword arguments.
        inputs: description of each argument, by name.
        outputs: description of each result, in order.
    """

    program: ExportedProgram
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]


class DecoderProgram(nn.Module):
    """Link decoder with a named tensor for each input; the last three describe the event log."""

    def __init__(self, decoder: LinkDecoder | HistoryDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        sources: Tensor,
        destinations: Tensor,
        numbers: Tensor | None = None,
        common: Tensor | None = None,
        num_common: Tensor | None = None,
    ) -> Tensor:
        """Return the [B, M] logits."""
        if isinstance(self.decoder, LinkDecoder):
            return self.decoder(sources, destinations)
        assert numbers is not None
        return self.decoder(sources, destinations, Past(numbers, common, num_common))


class MemoryProgram(nn.Module):
    """`TGN.update_memory` with a named tensor for each input."""

    def __init__(self, model: TGN) -> None:
        super().__init__()
        self.model = model

    # The program is called by these names. torch.export takes neither `**inputs` with dynamic
    # shapes nor optional fields in a dataclass, so every tensor is a parameter.
    def forward(
        self,
        memory: Tensor,
        last_update: Tensor,
        mail_memory: Tensor,
        mail_event: Tensor,
        mail_count: Tensor,
        mail_t: Tensor,
        mail_features: Tensor | None = None,
        mail_own: Tensor | None = None,
        now: Tensor | None = None,
        num_observed: Tensor | None = None,
        rate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return [U, D] memory after the mail and PRES, and [U] times of its newest events."""
        state = NodeState(memory, last_update, mail_memory, mail_event, mail_count)
        context = MailContext(mail_t, mail_features, mail_own, now)
        transitions = None
        if num_observed is not None and rate is not None:
            transitions = TransitionRows(num_observed, rate)
        updated = self.model.update_memory(state, context, transitions)
        return updated.memory_UD, updated.last_update_U


def link_decoder(model: TGN, embedding_dim: int) -> Program:
    """Export the link decoder, with dynamic B and M.

    Args:
        model: model with the decoder.
        embedding_dim: A.
    """
    decoder = model.decoder
    sizes = {"destinations": embedding_dim}
    inputs = {
        "sources": f"float32 [batch, {embedding_dim}] embeddings of sources",
        "destinations": f"float32 [batch, candidates, {embedding_dim}] those of destinations",
    }
    if isinstance(decoder, HistoryDecoder):
        sizes["numbers"] = decoder.shift_F.numel()
        inputs["numbers"] = (
            f"float32 [batch, candidates, {sizes['numbers']}] what the event log says of each "
            "pair: `log_numbers` in the manifest, in that order"
        )
        if decoder.common is not None:
            sizes["common"] = decoder.common.in_features
            inputs["common"] = (
                f"float32 [batch, candidates, {sizes['common']}] sum of the states of their common "
                "neighbors"
            )
        if decoder.counts_common:
            inputs["num_common"] = "float32 [batch, candidates] number of common neighbors"
    shape = (_EXAMPLES, _EXAMPLES + 1)
    example = {name: torch.zeros(*shape, size) for name, size in sizes.items()}
    example["sources"] = torch.zeros(_EXAMPLES, embedding_dim)
    if "num_common" in inputs:
        example["num_common"] = torch.zeros(shape)
    example = {name: example[name] for name in inputs}
    batch, candidates = Dim("batch", min=1), Dim("candidates", min=1)
    shapes = {name: {0: batch, 1: candidates} for name in inputs} | {"sources": {0: batch}}
    module = DecoderProgram(decoder).eval()
    program = torch.export.export(module, (), example, dynamic_shapes=shapes)
    return Program(program, inputs, ("float32 [batch, candidates] logits",))


def memory_updater(pipeline: BatchPipeline) -> Program:
    """Export the memory updater of a model with memory, with dynamic U."""
    example = updater_inputs(pipeline, torch.arange(_EXAMPLES), torch.tensor(0))
    nodes = Dim("nodes", min=1)
    shapes = {name: {0: nodes} if tensor.dim() else {} for name, tensor in example.items()}
    program = torch.export.export(
        MemoryProgram(pipeline.model).eval(), (), example, dynamic_shapes=shapes
    )
    outputs = (
        f"float32 [nodes, {pipeline.store.dim}] memory",
        "int64 [nodes] time of the newest event in it",
    )
    inputs = {}
    for name, tensor in example.items():
        axes = ["nodes", *map(str, tensor.shape[1:])] if tensor.dim() else []
        kind = str(tensor.dtype).removeprefix("torch.")
        inputs[name] = f"{kind} [{', '.join(axes)}] {_MEANINGS[name]}"
    return Program(program, inputs, outputs)


def updater_inputs(pipeline: BatchPipeline, nodes_U: Tensor, now: Tensor) -> dict[str, Tensor]:
    """Return the inputs of the `memory_updater` program for nodes in the store.

    Args:
        pipeline: pipeline with model, store and stream.
        nodes_U: int64 nodes.
        now: int64 scalar, time at which the age of mail is measured; used for ring-buffer
            mailboxes.
    """
    correction, tables = pipeline.model.correction, pipeline.tables
    pulled = pipeline.store.pull(nodes_U)
    state, transitions = pulled.state, pulled.transitions
    events_UR = state.mail_event_UR.clamp(min=0)
    found = {
        "memory": state.memory_UD,
        "last_update": state.last_update_U,
        "mail_memory": state.mail_memory_URD,
        "mail_event": state.mail_event_UR,
        "mail_count": state.mail_count_U,
        "mail_t": tables.times(events_UR),
    }
    features = tables.edge_features(events_UR)
    if features is not None:
        found["mail_features"] = features
    if pipeline.store.rolling:
        found["mail_own"] = tables.is_endpoint(nodes_U[:, None], events_UR)
        found["now"] = now
    if correction is not None and transitions is not None:
        found |= {"num_observed": transitions.num_observed_U, "rate": transitions.rate_UD}
    return found
