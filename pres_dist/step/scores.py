"""Score the links and classes of a part from its embeddings.

Shapes: B events, M negatives an event, Q = B * (2 + M) queries, A embedding size, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.events.tables import EventTables
from pres_dist.model.history import Past
from pres_dist.model.tgn import TGN
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.plan import PlannedPart

Scores = tuple[Tensor, Tensor, Tensor | None]


def score_part(
    model: TGN,
    tables: EventTables,
    part: PlannedPart,
    embedded_QA: Tensor,
    past: Past | None = None,
) -> Scores:
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
    class_BC = _classify(model, tables, part.batch, source_BA, true_BA)
    if not num_negatives:
        nothing_B = embedded_QA.new_empty(0, dtype=torch.float32)
        return nothing_B, nothing_B.view(0, 0), class_BC
    negative_BMA = negative_A.view(num_events, num_negatives, embedded_QA.shape[1])
    scores = model.score(source_BA, torch.cat([true_BA[:, None], negative_BMA], dim=1), past)
    return scores[:, 0].float(), scores[:, 1:].float(), class_BC


def _classify(
    model: TGN, tables: EventTables, batch: TemporalBatch, source_BA: Tensor, true_BA: Tensor
) -> Tensor | None:
    """Classify events; read their own features, which may leak the label, only if configured."""
    if model.classifier is None:
        return None
    reads_features = model.classifier.features is not None
    features_Bd = tables.edge_features(batch.events_B) if reads_features else None
    return model.classifier(source_BA, true_BA, features_Bd).float()
