"""Embedding modules and the decoder against recursion over the histories of nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pres_dist.config.model import ModelConfig
from pres_dist.memory.state import NEVER
from pres_dist.model.decoder import LinkDecoder
from pres_dist.model.embedding import num_hops
from pres_dist.model.neighborhood import Hop, NodeInputs
from pres_dist.model.rows import Rows
from pres_dist.step.gather import Gathered, gather
from tests.model.slow_tgn import SlowEmbedding
from tests.model.small_world import (
    MEMORY_DIM,
    NUM_NEIGHBORS,
    SMALL,
    World,
    build_world,
    random_stream,
)
from tests.support.by_rates import by_rates

NO_PRES = by_rates(prediction=False)
CONFIGS = {
    "attention-1": ModelConfig(**SMALL),
    "attention-2": ModelConfig(**SMALL, num_layers=2),
    "attention-2-learnable-four-heads": ModelConfig(
        **SMALL, num_layers=2, num_heads=4, time_encoding="learnable"
    ),
    "sum-1": ModelConfig(**SMALL, embedding="sum"),
    "sum-2": ModelConfig(**SMALL, embedding="sum", num_layers=2),
    "identity": ModelConfig(**SMALL, embedding="identity"),
    "identity-same-size": ModelConfig(
        **(SMALL | {"embedding_dim": MEMORY_DIM}), embedding="identity"
    ),
    "time": ModelConfig(**SMALL, embedding="time"),
}
EVERY = pytest.mark.parametrize("kind", CONFIGS)
GRAPH = pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind[-1].isdigit()])


def build(kind: str, **stream: int) -> World:
    return build_world(random_stream(seed=4, **stream), CONFIGS[kind], NO_PRES)


def read(world: World, batch: int = 3) -> tuple[Gathered, NodeInputs]:
    """Return the inputs of the embedding of a batch, with random memory."""
    chosen = world.batches()[batch]
    hops = num_hops(world.slow.model.config)
    negatives = world.negatives(chosen)
    gathered = gather(chosen, negatives, world.step.sampler, world.step.tables, hops, epoch=0)
    generator = torch.Generator().manual_seed(8)
    num_nodes = world.stream.num_nodes
    memory_ND = torch.randn(num_nodes, MEMORY_DIM, generator=generator)
    # Before the batch, and before its neighbors' events too.
    last_update_N = -torch.randint(1, 99, (num_nodes,), generator=generator)
    last_update_N[::4] = NEVER
    nodes_U = gathered.nodes_U
    features_Ud = world.step.tables.node_features(nodes_U)
    return gathered, NodeInputs(memory_ND[nodes_U], last_update_N[nodes_U], features_Ud)


def slowly(world: World, gathered: Gathered, nodes: NodeInputs) -> Tensor:
    """[Q, A] by recursion."""
    row = {int(node): place for place, node in enumerate(gathered.nodes_U)}
    weights = world.slow.model.weights

    def state(node: int) -> np.ndarray:
        memory = nodes.memory_UD[row[node]].double().numpy()
        if world.stream.node_features is None:
            return memory
        return memory + weights["features.weight"] @ world.stream.node_features[node]

    def last_update(node: int) -> int | None:
        last = int(nodes.last_update_U[row[node]])
        return None if last == NEVER else last

    slow = SlowEmbedding(world.slow.model, world.stream, NUM_NEIGHBORS, state, last_update)
    first = gathered.hops[0]
    queries = zip(gathered.nodes_U[first.index_Q].tolist(), first.t_Q.tolist(), strict=True)
    return torch.tensor(np.array([slow.embed(node, t) for node, t in queries]))


@EVERY
@pytest.mark.parametrize(("edge_dim", "node_dim"), [(3, 0), (0, 2)])
def test_equals_recursion(kind, edge_dim, node_dim):
    world = build(kind, edge_dim=edge_dim, node_dim=node_dim)
    for batch in (0, 3):
        gathered, nodes = read(world, batch)
        embedded = world.model.embed(nodes, gathered.hops)
        expected = slowly(world, gathered, nodes)
        torch.testing.assert_close(embedded.double(), expected, rtol=1e-5, atol=1e-5)


@GRAPH
def test_queries_with_few_and_many_neighbors_are_among_the_tested(kind):
    world = build(kind)
    masks = [read(world, batch)[0].hops[0].mask_QK for batch in (0, 3)]
    counts = torch.cat([mask.sum(1) for mask in masks])
    assert sorted(set(counts.tolist())) == list(range(NUM_NEIGHBORS + 1))


@EVERY
def test_order_of_the_distinct_nodes_does_not_matter(kind):
    world = build(kind, node_dim=2)
    gathered, nodes = read(world)
    order = torch.randperm(gathered.nodes_U.numel(), generator=torch.Generator().manual_seed(0))
    place = torch.argsort(order)
    hops = [
        replace(hop, index_Q=place[hop.index_Q], index_QK=place[hop.index_QK])
        for hop in gathered.hops
    ]
    assert nodes.features_Ud is not None
    permuted = NodeInputs(
        nodes.memory_UD[order], nodes.last_update_U[order], nodes.features_Ud[order]
    )
    before, after = (
        world.model.embed(*arguments) for arguments in ((nodes, gathered.hops), (permuted, hops))
    )
    torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-6)


@EVERY
def test_shifting_all_times_changes_no_bit(kind):
    """At epoch milliseconds a gap of 1 still counts: only differences become float."""
    world = build(kind)
    gathered, nodes = read(world)
    start = 1_700_000_000_000
    hops = [replace(hop, t_Q=hop.t_Q + start, t_QK=hop.t_QK + start) for hop in gathered.hops]
    last_U = nodes.last_update_U
    later = replace(nodes, last_update_U=torch.where(last_U == NEVER, NEVER, last_U + start))
    before = world.model.embed(nodes, gathered.hops)
    assert torch.equal(before, world.model.embed(later, hops))


@GRAPH
def test_masked_slots_have_no_influence(kind):
    world = build(kind)
    gathered, nodes = read(world)

    def poison(hop: Hop, like: Tensor, value: int) -> Tensor:
        return torch.where(hop.mask_QK, like, value)

    # Of a two-layer hop the index must stay: its neighbors are the next hop's queries.
    last = gathered.hops[-1]
    assert not last.mask_QK.all()
    assert last.edges is not None
    other = replace(
        last,
        index_QK=poison(last, last.index_QK, 0),
        t_QK=poison(last, last.t_QK, 3),
        edges=Rows.of(last.edges.dense_QKd + 1e3 * ~last.mask_QK[:, :, None]),
    )
    before = world.model.embed(nodes, gathered.hops)
    after = world.model.embed(nodes, [*gathered.hops[:-1], other])
    assert torch.equal(before, after)


@EVERY
def test_memory_gets_gradient_and_its_parameters_too(kind):
    world = build(kind, node_dim=2)
    gathered, nodes = read(world)
    nodes.memory_UD.requires_grad_()
    world.model.embed(nodes, gathered.hops).square().sum().backward()
    read_rows = torch.unique(gathered.hops[0].index_Q)
    grad = nodes.memory_UD.grad
    assert grad is not None
    assert grad.isfinite().all()
    assert (grad[read_rows].abs().sum(1) > 0).all()
    for name, parameter in world.model.embedding.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert world.model.features is not None
    assert world.model.features.weight.grad is not None


@GRAPH
def test_autocast_is_close_to_float32(kind):
    world = build(kind)
    gathered, nodes = read(world)
    nodes.memory_UD.requires_grad_()
    expected = world.model.embed(nodes, gathered.hops)
    with torch.autocast("cpu", torch.bfloat16):
        actual = world.model.embed(nodes, gathered.hops)
    torch.testing.assert_close(actual.float(), expected, rtol=0.1, atol=0.1)
    wanted, got = (
        torch.autograd.grad(result.float().square().sum(), nodes.memory_UD)[0]
        for result in (expected, actual)
    )
    assert (got - wanted).norm() < 0.05 * wanted.norm()


def test_decoder_equals_one_perceptron_of_both_embeddings():
    torch.manual_seed(0)
    decoder = LinkDecoder(dim=6, dropout=0.0)
    joined = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 1))
    with torch.no_grad():
        joined[0].weight[:] = torch.cat([decoder.source.weight, decoder.destination.weight], 1)
        joined[0].bias[:] = decoder.source.bias
        joined[2].load_state_dict(decoder.out.state_dict())
    sources_BA, candidates_BMA = torch.randn(5, 6), torch.randn(5, 4, 6)
    pairs = torch.cat([sources_BA[:, None].expand(5, 4, 6), candidates_BMA], dim=2)
    logits = decoder(sources_BA, candidates_BMA)
    assert logits.shape == (5, 4)
    torch.testing.assert_close(logits, joined(pairs)[:, :, 0], rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_only():
    config = ModelConfig(**SMALL, dropout=0.5)
    world = build_world(random_stream(seed=4), config, NO_PRES)
    gathered, nodes = read(world)
    twice = [world.model.embed(nodes, gathered.hops) for _ in range(2)]
    assert torch.equal(*twice)
    world.model.train()
    twice = [world.model.embed(nodes, gathered.hops) for _ in range(2)]
    assert not torch.equal(*twice)
