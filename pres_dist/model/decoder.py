"""Decoders: from embeddings to the logits of links and of classes.

Shapes: B events, M candidates, A embedding size, C classes, d features of an event.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinkDecoder(nn.Module):
    """Logit of an event between two nodes: a two-layer perceptron of both embeddings.

    The first layer is kept as one half for each endpoint, so that a source is
    projected once however many destinations it is scored against.

    Args:
        dim: embedding size A.
        dropout: on the hidden layer.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.source = nn.Linear(dim, dim)
        self.destination = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, 1)
        self.dropout = dropout

    def forward(self, sources_BA: Tensor, destinations_BMA: Tensor) -> Tensor:
        """[B, M] logits of each source with its M candidate destinations."""
        hidden = torch.relu(self.source(sources_BA)[:, None] + self.destination(destinations_BMA))
        return self.out(F.dropout(hidden, self.dropout, self.training)).squeeze(-1)


class Classifier(nn.Module):
    """Logits of the classes of an event: a two-layer perceptron.

    Args:
        dim: embedding size A.
        num_classes: C.
        dropout: on the hidden layer.
        feature_dim: features d of the event itself that it reads; 0 for none.
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
        """[B, C] logits of the classes of each event."""
        hidden_BA = self.hidden(sources_BA, destinations_BA)
        if self.features is not None and features_Bd is not None:
            hidden_BA = hidden_BA + self.features(features_Bd)
        return self.out(F.dropout(torch.relu(hidden_BA), self.dropout, self.training))

    def hidden(self, sources_BA: Tensor, destinations_BA: Tensor) -> Tensor:
        """[B, A] what the hidden layer is given of the endpoints."""
        raise NotImplementedError


class NodeClassifier(Classifier):
    """Class of the state of an event's source (TGN, section 4: dynamic node classification)."""

    def hidden(self, sources_BA: Tensor, destinations_BA: Tensor) -> Tensor:
        return self.source(sources_BA)


class EdgeClassifier(Classifier):
    """Class of an event, from both its endpoints.

    What the embeddings differ in is a part of its own: it tells an event of a node with
    itself, which the sum of two projections does not.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float, feature_dim: int = 0) -> None:
        super().__init__(dim, num_classes, dropout, feature_dim)
        self.destination = nn.Linear(dim, dim, bias=False)
        self.difference = nn.Linear(dim, dim, bias=False)

    def hidden(self, sources_BA: Tensor, destinations_BA: Tensor) -> Tensor:
        differences_BA = (sources_BA - destinations_BA).abs()
        return (
            self.source(sources_BA)
            + self.destination(destinations_BA)
            + self.difference(differences_BA)
        )
