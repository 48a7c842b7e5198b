"""TGN's raw messages, built from mail, and its message functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pres_dist.config.model import ModelConfig
from pres_dist.model.time_encoding import TimeEncoding


class MessageFunction(nn.Module):
    """Builds messages from the parts of raw messages (TGN, section 3.1).

    The raw message of an event for one endpoint is
    [own memory | other's memory | edge features | phi(t - last update)]; with
    `message_endpoint: embedding` the other's embedding at the event replaces its memory.

    Args:
        config: kind of message function, and its output size.
        memory_dim: D.
        edge_dim: number of edge features, 0 for none.
        time_encoding: phi.
    """

    def __init__(
        self, config: ModelConfig, memory_dim: int, edge_dim: int, time_encoding: TimeEncoding
    ) -> None:
        super().__init__()
        self.time_encoding = time_encoding
        raw_dim = 2 * memory_dim + edge_dim + time_encoding.dim
        self.mlp: nn.Module | None = None
        self.out_dim = raw_dim
        if config.message == "mlp":
            self.out_dim = config.message_dim
            self.mlp = nn.Sequential(
                nn.Linear(raw_dim, raw_dim // 2),
                nn.ReLU(),
                nn.Linear(raw_dim // 2, config.message_dim),
            )

    def forward(self, own: Tensor, rest: Tensor) -> Tensor:
        """Compute messages [..., out_dim] from raw messages.

        Args:
            own: [..., D] memory of the receiving node.
            rest: the other parts, as returned by `rest`.
        """
        raw = torch.cat([own, rest], dim=-1)
        return raw if self.mlp is None else self.mlp(raw)

    def rest(self, other: Tensor, edge_features: Tensor | None, elapsed: Tensor) -> Tensor:
        """Build the [..., raw size - D] raw messages without the own memory.

        Args:
            other: [..., D] memory or embedding of the other endpoint at the time of the event.
            edge_features: [..., d_e] features of the event, or None.
            elapsed: [...] int64 time from the receiver's last update to the event.
        """
        encoded = self.time_encoding(elapsed)
        parts = [other] if edge_features is None else [other, edge_features]
        return torch.cat([*parts, encoded], dim=-1)
