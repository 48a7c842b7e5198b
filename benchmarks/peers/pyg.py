"""TGN as PyG's parts make it: `TGNMemory`, `LastNeighborLoader`, `TransformerConv`.

Does less than TGN's definition: each distinct node is embedded once, from its neighbors
and memory at the start of the batch, not each event's nodes at their own time. Its
neighbor loader sorts unstably, so that nodes with more than 10 events in a batch get
wrong neighbors.

    python pyg.py data/wikipedia --batch 600
"""

from __future__ import annotations

import torch
from common import (
    DIM,
    EVALUATION_BATCH,
    NUM_HEADS,
    NUM_NEIGHBORS,
    load,
    measure,
    parse_options,
    scaled_rate,
)
from torch import Tensor, nn
from torch_geometric.nn import TGNMemory, TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader


class Embedding(nn.Module):
    """Attention over [memory | time | features] of the most recent neighbors."""

    def __init__(self, feature_dim: int, time_encoder: nn.Module) -> None:
        super().__init__()
        self.time_encoder = time_encoder
        self.attention = TransformerConv(
            DIM, DIM // NUM_HEADS, heads=NUM_HEADS, edge_dim=feature_dim + DIM
        )

    def forward(
        self, memory: Tensor, last_update: Tensor, edges: Tensor, t: Tensor, features: Tensor
    ) -> Tensor:
        elapsed = (last_update[edges[0]] - t).to(memory.dtype)
        return self.attention(
            memory, edges, torch.cat([self.time_encoder(elapsed), features], dim=-1)
        )


class Decoder(nn.Module):
    """Logit of a pair of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.destination = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.out = nn.Linear(DIM, 1)

    def forward(self, source: Tensor, destination: Tensor) -> Tensor:
        return self.out((self.source(source) + self.destination(destination)).relu())[:, 0]


class PygTgn:
    """Model, memory and neighbors of one run."""

    def __init__(self) -> None:
        self.options = parse_options()
        self.stream = load(self.options)
        feature_dim, num_nodes = self.stream.features.shape[1], self.stream.num_nodes
        self.memory = TGNMemory(
            num_nodes,
            feature_dim,
            DIM,
            DIM,
            message_module=IdentityMessage(feature_dim, DIM, DIM),
            aggregator_module=LastAggregator(),
        )
        self.embedding = Embedding(feature_dim, self.memory.time_enc)
        self.decoder = Decoder()
        self.neighbors = LastNeighborLoader(num_nodes, NUM_NEIGHBORS)
        self.place = torch.empty(num_nodes, dtype=torch.long)
        self.modules = nn.ModuleList([self.memory, self.embedding, self.decoder])
        self.optimizer = torch.optim.Adam(self.modules.parameters(), lr=scaled_rate(self.options))
        self.generator = torch.Generator().manual_seed(self.options.seed)

    def scores(self, events: slice, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the events and of one negative each."""
        stream = self.stream
        src, dst = stream.src[events], stream.dst[events]
        nodes, edges, ids = self.neighbors(torch.cat([src, dst, negatives]).unique())
        self.place[nodes] = torch.arange(len(nodes))
        memory, last_update = self.memory(nodes)
        z = self.embedding(memory, last_update, edges, stream.t[ids], stream.features[ids])
        source = z[self.place[src]]
        return (
            self.decoder(source, z[self.place[dst]]),
            self.decoder(source, z[self.place[negatives]]),
        )

    def advance(self, events: slice) -> None:
        """Tell memory and neighbors of the events."""
        stream = self.stream
        src, dst = stream.src[events], stream.dst[events]
        self.memory.update_state(src, dst, stream.t[events], stream.features[events])
        self.neighbors.insert(src, dst)

    def train_epoch(self) -> None:
        self.modules.train()
        self.memory.reset_state()
        self.neighbors.reset_state()
        for events in self.stream.batches(0, self.stream.train_end, self.options.batch):
            self.optimizer.zero_grad()
            negatives = self.stream.negatives(events.stop - events.start, self.generator)
            positive, negative = self.scores(events, negatives)
            loss = (
                nn.functional.softplus(-positive).mean() + nn.functional.softplus(negative).mean()
            )
            self.advance(events)
            loss.backward()
            self.optimizer.step()
            self.memory.detach()

    @torch.no_grad()
    def validate(self) -> tuple[Tensor, Tensor]:
        self.modules.eval()
        stream, generator = self.stream, torch.Generator().manual_seed(1)
        scores = []
        for events in stream.batches(stream.train_end, stream.validation_end, EVALUATION_BATCH):
            negatives = stream.negatives(events.stop - events.start, generator)
            scores.append(self.scores(events, negatives))
            self.advance(events)
        positive, negative = zip(*scores, strict=True)
        return torch.cat(positive), torch.cat(negative)


if __name__ == "__main__":
    run = PygTgn()
    measure(run.options, run.stream, run.train_epoch, run.validate)
