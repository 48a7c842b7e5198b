"""Result of a forward pass, before anything is written, and the scores in it.

Shapes: B events, M negatives an event, Q = B * (2 + M) queries, A embedding size, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.events.tables import EventTables
from pres_dist.model.history import Past
from pres_dist.model.tgn import TGN, ReceivedMemory, UpdatedMemory
from pres_dist.step.gather import Gathered
from pres_dist.step.plan import PlannedPart


@dataclass(frozen=True)
class Forward:
    """Result of a forward pass over one part of a step.

    Attributes:
        gathered: the distinct nodes and the queries' indices into them.
        updated: their memory after mail and correction, from here or from its owners.
        positive_B: logits of the events; empty in a replay.
        negative_BM: logits of the negatives; empty in a replay.
        class_BC: logits of the classes; None without a classifier, and in a replay.
        endpoints_2BD: mail contents of sources and destinations, each at its own event;
            None if mail holds their memory.
    """

    gathered: Gathered
    updated: UpdatedMemory | ReceivedMemory
    positive_B: Tensor
    negative_BM: Tensor
    class_BC: Tensor | None = None
    endpoints_2BD: Tensor | None = None

    def sum_of_state(self) -> Tensor:
        """Return a scalar sum of all values to be written: finite only if all of them are."""
        total = self.updated.memory_UD.detach().sum(dtype=torch.float32)
        if self.endpoints_2BD is not None:
            total = total + self.endpoints_2BD.detach().sum(dtype=torch.float32)
        return total


def score_part(
    model: TGN,
    tables: EventTables,
    part: PlannedPart,
    embedded_QA: Tensor,
    past: Past | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the logits of the events [B], of their negatives [B, M] and of the classes [B, C].

    Links are scored if there are negatives, classes if there is a classifier.

    Args:
        model: provides the decoders.
        tables: features of the events.
        part: the part to score.
        embedded_QA: its embeddings: sources, then destinations, then negatives.
        past: event-log inputs of destinations and negatives, if the decoder reads them.
    """
    num_events, num_negatives = part.gathered.index_BM.shape
    source_BA, true_BA, negative_A = embedded_QA.split(
        [num_events, num_events, num_events * num_negatives]
    )
    class_BC = None
    if model.classifier is not None:
        # An event's own features may leak its label: they are read only if configured.
        reads_features = model.classifier.features is not None
        features_Bd = tables.edge_features(part.batch.events_B) if reads_features else None
        class_BC = model.classifier(source_BA, true_BA, features_Bd).float()
    if not num_negatives:
        nothing_B = embedded_QA.new_empty(0, dtype=torch.float32)
        return nothing_B, nothing_B.view(0, 0), class_BC
    negative_BMA = negative_A.view(num_events, num_negatives, embedded_QA.shape[1])
    scores = model.score(source_BA, torch.cat([true_BA[:, None], negative_BMA], dim=1), past)
    return scores[:, 0].float(), scores[:, 1:].float(), class_BC
