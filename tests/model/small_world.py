"""A small random stream, and a model, store and step over it beside their slow reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pres_dist.config.memory import MemoryConfig
from pres_dist.config.model import ModelConfig
from pres_dist.config.pres import PresConfig
from pres_dist.config.sampling import SamplingConfig
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.memory.local import LocalStore
from pres_dist.memory.null import NullStore
from pres_dist.memory.state import NEVER, Pulled
from pres_dist.model.embedding import num_hops
from pres_dist.model.tgn import TGN, StreamShape
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.statistics import TransitionStatistics
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import TemporalBatch, TemporalLoader
from pres_dist.step.forward import Forward
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan
from tests.model.slow_apan import SlowApanModel, SlowApanStep
from tests.model.slow_tgn import SlowModel, SlowStep

MEMORY_DIM, TIME_UNIT, NUM_NEIGHBORS = 6, 4.0, 3
SMALL: dict[str, Any] = {
    **{"embedding_dim": 8, "time_dim": 5, "message_dim": 7},
    "decoder": "embeddings",
}
"""Sizes of the parts, all different from each other and from the memory's; no event log is read."""
IN_MAIL = {**SMALL, "embedding_dim": MEMORY_DIM}
"""The same, with embeddings that mail can hold."""


def random_stream(
    seed: int = 0,
    num_events: int = 90,
    num_nodes: int = 12,
    edge_dim: int = 3,
    node_dim: int = 0,
    start: int = 0,
) -> EventStream:
    """A stream with equal timestamps, repeated pairs, self-loops and busy nodes."""
    random = np.random.default_rng(seed)
    src, dst = (random.integers(0, num_nodes, (2, num_events)) ** 2) // num_nodes
    edges = random.standard_normal((num_events, edge_dim)).astype(np.float32)
    features = random.standard_normal((num_nodes, node_dim)).astype(np.float32)
    return EventStream.from_arrays(
        src,
        dst,
        start + np.cumsum(random.integers(0, 4, num_events)),
        num_nodes=num_nodes,
        edge_features=edges if edge_dim else None,
        node_features=features if node_dim else None,
    )


class SingleSteps:
    """Steps over one part, the whole batch."""

    def __init__(self, step: BatchPipeline) -> None:
        self._step = step
        self._read: dict[int, tuple[Plan, Pulled]] = {}

    def forward(
        self, batch: TemporalBatch, negatives_BM: torch.Tensor, first_event: int | None = None
    ) -> Forward:
        if first_event is not None:
            batch = replace(batch, first_event=first_event)
        return self._run(self._step.plan([batch], [negatives_BM], observes=True))

    def replay(self, batch: TemporalBatch) -> Forward:
        return self._run(self._step.plan_replay([batch]))

    def commit(self, forward: Forward, learn: bool) -> None:
        plan, pulled = self._read[id(forward)]
        if not learn:
            plan = replace(plan, observes_V=None)
        self._step.commit(plan, pulled, [forward], learn)

    def _run(self, plan: Plan) -> Forward:
        pulled = self._step.read(plan)
        forward = self._step.forward(plan, pulled)
        self._read[id(forward)] = plan, pulled
        return forward


@dataclass
class World:
    """Both implementations over one stream, with the same weights."""

    stream: EventStream
    model: TGN
    store: LocalStore | NullStore
    step: BatchPipeline
    slow: SlowStep

    def __post_init__(self) -> None:
        self.single = SingleSteps(self.step)

    def over(self, stream: EventStream) -> World:
        """The same model, and a copy of the store, over another stream of the same shape."""
        own, config = self.store, self.slow.model.config
        if isinstance(own, NullStore):
            step = build_step(stream, self.model, own, config)
            return World(stream, self.model, own, step, self.slow)
        statistics = None
        if own.statistics is not None:
            components, clock = own.statistics.num_components, own.statistics.clock
            statistics = TransitionStatistics(
                own.num_nodes, own.dim, components, clock, of_states=own.statistics.of_states
            )
        store = LocalStore(own.num_nodes, own.dim, own.num_slots, statistics, rolling=own.rolling)
        store.load_state_dict(own.state_dict())
        step = build_step(stream, self.model, store, config)
        return World(stream, self.model, store, step, self.slow)

    def batches(self, size: int = 15) -> list[TemporalBatch]:
        sweep = TemporalLoader(range(self.stream.num_events), self.stream.t, size)
        return list(sweep.batches(self.step.tables))

    def negatives(self, batch: TemporalBatch, num: int = 2) -> torch.Tensor:
        """[B, M] any nodes, the true destination and the source among them."""
        generator = torch.Generator().manual_seed(int(batch.events_B[0]))
        shape = (batch.events_B.numel(), num)
        return torch.randint(0, self.stream.num_nodes, shape, generator=generator)


def weights_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def build_world(
    stream: EventStream,
    model_config: ModelConfig,
    pres: PresConfig,
    num_slots: int = 1,
    seed: int = 3,
) -> World:
    torch.manual_seed(seed)
    memory = MemoryConfig(dim=MEMORY_DIM, mailbox_slots=num_slots)
    shape = StreamShape(stream.edge_dim, stream.node_dim, TIME_UNIT)
    model = TGN(model_config, memory, pres, shape).eval()
    if model.correction is not None and model.correction.predict.share_logit is not None:
        torch.nn.init.normal_(model.correction.predict.share_logit)
    statistics = None
    if pres.prediction:
        statistics = TransitionStatistics(
            stream.num_nodes,
            MEMORY_DIM,
            pres.components,
            TransitionClock(pres.clock, TIME_UNIT),
            of_states=pres.predictor == "level",
        )
    rolling = model_config.updater == "attention"
    store: LocalStore | NullStore = NullStore(stream.num_nodes)
    if model_config.has_memory:
        store = LocalStore(stream.num_nodes, MEMORY_DIM, num_slots, statistics, rolling=rolling)
    step = build_step(stream, model, store, model_config)
    slow_step, slow_model = (SlowApanStep, SlowApanModel) if rolling else (SlowStep, SlowModel)
    slow = slow_step(
        slow_model(weights_of(model), model_config, TIME_UNIT),
        stream,
        pres,
        MEMORY_DIM,
        num_slots,
        NUM_NEIGHBORS,
    )
    return World(stream, model, store, step, slow)


def build_step(
    stream: EventStream,
    model: TGN,
    store: LocalStore | NullStore,
    config: ModelConfig,
) -> BatchPipeline:
    tables = EventTables(stream)
    sampler = NeighborSampler(
        TemporalAdjacency(stream, tables), SamplingConfig(num_neighbors=NUM_NEIGHBORS), seed=0
    )
    hops, mail_hops = num_hops(config), config.mail_hops
    return BatchPipeline(
        model=model,
        store=store,
        tables=tables,
        sampler=sampler,
        num_hops=hops,
        mail_hops=mail_hops,
    )


def last_update_of(slow: SlowStep) -> list[int]:
    return [NEVER if node.last_update is None else node.last_update for node in slow.nodes]
