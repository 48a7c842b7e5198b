"""TGN as TGM's parts make it: `TGNMemory`, `GraphAttentionEmbedding`, its hooks and loader.

Embeds each distinct node once, as PyG's does, from memory at the start of the batch; its
neighbors are those before the time of each query. The sort key of its neighbor hook is
an int32 that overflows (node * time), which mixes up the order of a node's events.

    python tgm_tgn.py data/wikipedia --batch 600
"""

from __future__ import annotations

import torch
from common import DIM, EVALUATION_BATCH, NUM_NEIGHBORS, load, measure, parse_options, scaled_rate
from pyg import Decoder
from tgm import DGBatch, DGraph
from tgm.constants import PADDED_NODE_ID
from tgm.data import DGData, DGDataLoader
from tgm.hooks import (
    DeduplicationHook,
    HookManager,
    NegativeEdgeSamplerHook,
    RecencyNeighborHook,
)
from tgm.nn.encoder.tgn import (
    GraphAttentionEmbedding,
    IdentityMessage,
    LastAggregator,
    TGNMemory,
)
from torch import Tensor, nn

PARTS = ["train", "validation"]


class TgmTgn:
    """Model, memory and loaders of one run."""

    def __init__(self) -> None:
        self.options = parse_options()
        self.stream = stream = load(self.options)
        feature_dim = stream.features.shape[1]
        self.memory = TGNMemory(
            stream.num_nodes,
            feature_dim,
            DIM,
            DIM,
            message_module=IdentityMessage(feature_dim, DIM, DIM),
            aggregator_module=LastAggregator(),
        )
        self.embedding = GraphAttentionEmbedding(
            DIM, DIM, feature_dim, time_enc=self.memory.time_enc
        )
        self.decoder = Decoder()
        self.modules = nn.ModuleList([self.memory, self.embedding, self.decoder])
        self.optimizer = torch.optim.Adam(self.modules.parameters(), lr=scaled_rate(self.options))
        self.hooks = self._hooks()
        ends = [0, stream.train_end, stream.validation_end]
        sizes = [self.options.batch, EVALUATION_BATCH]
        self.loaders = {
            part: DGDataLoader(self._graph(*ends[n : n + 2]), sizes[n], hook_manager=self.hooks)
            for n, part in enumerate(PARTS)
        }

    def _graph(self, start: int, end: int) -> DGraph:
        stream, events = self.stream, slice(start, end)
        pairs = torch.stack([stream.src[events], stream.dst[events]], dim=1)
        # Its ids are 32 bits wide.
        data = DGData.from_raw(stream.t[events], pairs.int(), stream.features[events])
        return DGraph(data)

    def _hooks(self) -> HookManager:
        stream, hooks = self.stream, HookManager(keys=PARTS)
        seeds = ["edge_src", "edge_dst", "neg"], ["edge_time", "edge_time", "neg_time"]
        for part in PARTS:
            hooks.register(part, NegativeEdgeSamplerHook(stream.first_dst, stream.num_nodes))
        hooks.register_shared(
            RecencyNeighborHook(stream.num_nodes, [NUM_NEIGHBORS], seeds[0], seeds[1])
        )
        hooks.register_shared(DeduplicationHook())
        return hooks

    def scores(self, batch: DGBatch) -> tuple[Tensor, Tensor]:
        """Logits of the events and of one negative each."""
        memory, last_update = self.memory(batch.unique_nids)
        seen = batch.nbr_nids[0] != PADDED_NODE_ID
        ends = torch.cat([batch.edge_src, batch.edge_dst, batch.neg])[:, None].expand_as(seen)
        edges = torch.stack(
            [batch.global_to_local(batch.nbr_nids[0][seen]), batch.global_to_local(ends[seen])]
        )
        z = self.embedding(
            memory,
            last_update,
            edges.long(),
            batch.nbr_edge_time[0][seen],
            batch.nbr_edge_x[0][seen],
        )
        source = z[batch.global_to_local(batch.edge_src)]
        return (
            self.decoder(source, z[batch.global_to_local(batch.edge_dst)]),
            self.decoder(source, z[batch.global_to_local(batch.neg)]),
        )

    def advance(self, batch: DGBatch) -> None:
        """Tell memory of the events; the hooks keep the neighbors."""
        self.memory.update_state(
            batch.edge_src.long(), batch.edge_dst.long(), batch.edge_time, batch.edge_x
        )

    def train_epoch(self) -> None:
        self.modules.train()
        self.memory.reset_state()
        self.hooks.reset_state()
        with self.hooks.activate("train"):
            for batch in self.loaders["train"]:
                self.optimizer.zero_grad()
                positive, negative = self.scores(batch)
                loss = (
                    nn.functional.softplus(-positive).mean()
                    + nn.functional.softplus(negative).mean()
                )
                self.advance(batch)
                loss.backward()
                self.optimizer.step()
                self.memory.detach()

    @torch.no_grad()
    def validate(self) -> tuple[Tensor, Tensor]:
        self.modules.eval()
        scores = []
        with self.hooks.activate("validation"):
            for batch in self.loaders["validation"]:
                scores.append(self.scores(batch))
                self.advance(batch)
        positive, negative = zip(*scores, strict=True)
        return torch.cat(positive), torch.cat(negative)


if __name__ == "__main__":
    run = TgmTgn()
    measure(run.options, run.stream, run.train_epoch, run.validate)
