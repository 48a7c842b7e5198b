"""The link decoder."""

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
