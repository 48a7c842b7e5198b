"""Decoders that map embeddings to the logits of links and of classes.

Shapes: B events, M candidates, A embedding size, C classes, d features of an event.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinkDecoder(nn.Module):
    """Logit of an event between two nodes: a two-layer perceptron of both embeddings.

    The first layer is split into one half per endpoint, so that a source is projected
    once for all destinations it is scored against.

    Args:
        dim: embedding size A.
        dropout: dropout rate of the hidden layer.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.source = nn.Linear(dim, dim)
        self.destination = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, 1)
        self.dropout = dropout

    def forward(self, sources_BA: Tensor, destinations_BMA: Tensor) -> Tensor:
        """Return [B, M] logits of each source with its M candidate destinations."""
        hidden = torch.relu(self.source(sources_BA)[:, None] + self.destination(destinations_BMA))
        return self.out(F.dropout(hidden, self.dropout, self.training)).squeeze(-1)


class Classifier(nn.Module):
    """Logits of the classes of an event: a two-layer perceptron.

    Args:
        dim: embedding size A.
        num_classes: C.
        dropout: dropout rate of the hidden layer.
        feature_dim: number d of the event's own features to read; 0 for none.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float, feature_dim: int = 0) -> None:
        super().__init__()
        self.source = nn.Linear(dim, dim)
        self.features = nn.Linear(feature_dim, dim, bias=False) if feature_dim else None
        self.out = nn.Linear(dim, num_classes)
        self.dropout = dropout

    def forward(
        self, sources_BA: Tensor, destinations_BA: Tensor, features_Bd: Tensor | None
    ) -> Tensor:
        """Return [B, C] logits of the classes of each event."""
        hidden_BA = self.hidden(sources_BA, destinations_BA)
        if self.features is not None and features_Bd is not None:
            hidden_BA = hidden_BA + self.features(features_Bd)
        return self.out(F.dropout(torch.relu(hidden_BA), self.dropout, self.training))

    def hidden(self, sources_BA: Tensor, destinations_BA: Tensor) -> Tensor:
        """Return the [B, A] contribution of the endpoints to the hidden layer."""
        raise NotImplementedError


class NodeClassifier(Classifier):
    """Classifies an event's source (TGN, section 4: dynamic node classification)."""

    def hidden(self, sources_BA: Tensor, destinations_BA: Tensor) -> Tensor:
        """Return the [B, A] projections of the sources."""
        return self.source(sources_BA)


class EdgeClassifier(Classifier):
    """Classifies an event from both its endpoints.

    The absolute difference of the embeddings is a separate input. It identifies self-loops,
    which the sum of two projections does not.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float, feature_dim: int = 0) -> None:
        super().__init__(dim, num_classes, dropout, feature_dim)
        self.destination = nn.Linear(dim, dim, bias=False)
        self.difference = nn.Linear(dim, dim, bias=False)

    def hidden(self, sources_BA: Tensor, destinations_BA: Tensor) -> Tensor:
        """Return the [B, A] sums of three projections: of both ends and their difference."""
        differences_BA = (sources_BA - destinations_BA).abs()
        return (
            self.source(sources_BA)
            + self.destination(destinations_BA)
            + self.difference(differences_BA)
        )
