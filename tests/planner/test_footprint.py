"""Bytes that the planner tells, against those of what the code allocates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.model.tgn import TGN, StreamShape
from pres_dist.planner.activations import measured_step, saved_bytes
from pres_dist.planner.footprint import (
    Part,
    footprint,
    obstacles,
    over_limit,
    row_bytes,
    store_layout,
)
from pres_dist.planner.layout import Layout
from pres_dist.planner.workload import Workload
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.event_log import numbers_of
from pres_dist.training.optimizer import build_optimizer
from tests.planner.made_up import RootTouches, machine, small_model, workload


def part(name: str, parts: list[Part]) -> float:
    return next(part.bytes for part in parts if part.name == name)


def parts_of(work: Workload, plan: Layout, *spread: str, device: str = "cpu") -> list[Part]:
    return footprint(work, plan, machine(device=device), RootTouches(), spread)


@pytest.mark.parametrize("prediction", [True, False])
@pytest.mark.parametrize(("dim", "slots"), [(8, 1), (100, 4)])
def test_row_sizes_follow_the_formulas(dim: int, slots: int, prediction: bool) -> None:
    config = small_model(
        memory__dim=dim,
        memory__mailbox_slots=slots,
        model__embedding_dim=100,
        model__aggregator="mean",
        pres__prediction=prediction,
        pres__coherence_weight=0,
    )
    rows = row_bytes(config)
    # Memory and mail in float32; last update, mail count and event ids in int64.
    state = 4 * (dim + slots * dim) + 8 * (2 + slots)
    known = 8 + 4 * dim  # transitions and their mean
    sums = 2 * (8 + 4 * dim)  # of two components: count and sum
    assert rows.push == state
    assert rows.pull == state + (known if prediction else 0)
    assert rows.state == state + (sums if prediction else 0)
    assert rows.observe == (4 * dim + 8 if prediction else 0)


def test_rows_of_the_default_have_four_mails_and_one_component() -> None:
    dim, rows = 8, row_bytes(small_model(preset="best"))
    mailbox = 4 * (dim + 4 * dim) + 8 * (2 + 4)
    assert (rows.push, rows.observe) == (mailbox, 0)
    assert rows.pull == mailbox + 8 + 4 * dim
    assert rows.state == mailbox + 8 + 4 * dim


@pytest.mark.parametrize("sharers", [1, 4])
def test_node_state_is_what_a_shard_allocates(sharers: int) -> None:
    work = workload(num_nodes=1000)
    shard = store_layout(work.config).make(1000 // sharers)
    tables = [*shard.state_dict()["rows"].values(), *shard.state_dict()["statistics"].values()]
    allocated = sum(table.untyped_storage().nbytes() for table in tables)
    ids = 0 if sharers == 1 else 8 * 1000 // sharers
    plan = Layout(sharers, 1, 1, 400)
    assert part("state", parts_of(work, plan)) == allocated + ids


def test_the_adjacency_is_what_a_stream_s_takes() -> None:
    stream = EventStream.from_arrays(np.arange(500) % 30, 30 + np.arange(500) % 7, np.arange(500))
    adjacency = TemporalAdjacency(stream, EventTables(stream))
    work = Workload(small_model(), stream.num_nodes, stream.num_events)
    told = part("adjacency", parts_of(work, Layout(1, 1, 1, 100)))
    assert told == adjacency.num_half_edges * torch.int64.itemsize


def test_weights_are_what_the_optimizer_keeps() -> None:
    work = workload()
    config = work.config
    model = TGN(config.model, config.memory, config.pres, StreamShape(0, 0, 1.0))
    optimizer = build_optimizer(model, config.training)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kept = [t for state in optimizer.state.values() for t in state.values() if t.dim()]
    numbers = sum(t.numel() for t in kept)
    numbers += sum(2 * p.numel() for p in model.parameters() if p.requires_grad)
    # Moments of single numbers have no dimension, and neither have step counts.
    singles = sum(2 for p in model.parameters() if p.requires_grad and not p.dim())
    told = part("weights", parts_of(work, Layout(1, 1, 1, 100)))
    assert told == 4 * (numbers + singles)


def test_muon_keeps_fewer_numbers() -> None:
    work = workload(training__optimizer="muon", model__decoder="history")
    shape = StreamShape(0, 0, 1.0, len(numbers_of(bipartite=False)))
    model = TGN(work.config.model, work.config.memory, work.config.pres, shape)
    optimizer = build_optimizer(model, work.config.training)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kept = sum(t.numel() for state in optimizer.state.values() for t in state.values())
    kept += sum(2 * p.numel() for p in model.parameters() if p.requires_grad)
    told = part("weights", parts_of(work, Layout(1, 1, 1, 100)))
    assert 0.7 * told < 4 * kept <= told


@pytest.mark.parametrize(
    ("config", "within"),
    [
        (small_model(), 0.05),
        (small_model(model__kind="jodie"), 0.05),
        (small_model(preset="best"), 0.05),
    ],
)
def test_activations_of_other_sizes_are_foretold(config: RunConfig, within: float) -> None:
    rates = saved_bytes(config, 3, 0)
    for num_nodes, num_events in ((200, 128), (1000, 150)):
        step = measured_step(config, 3, 0, num_nodes, num_events)
        # What is saved once for each distinct querying node or event is counted with the others.
        told = rates.bytes(step.events, step.nodes, step.messages)
        assert told == pytest.approx(step.saved, rel=within)


def test_on_a_gpu_the_columns_of_the_stream_count() -> None:
    work, plan = Workload(small_model(), 100, 5000, edge_dim=3), Layout(1, 1, 1, 100)
    columns = 5000 * (3 * 8 + 3 * 4)
    assert part("events", parts_of(work, plan, device="cuda")) == columns
    assert "events" not in [one.name for one in parts_of(work, plan)]


def test_parts_that_are_spread_are_shared() -> None:
    work, plan = workload(), Layout(4, 2, 2, 400)
    whole, spread = parts_of(work, plan), parts_of(work, plan, "adjacency")
    assert part("adjacency", spread) == part("adjacency", whole) / 8
    assert part("state", spread) == part("state", whole)


def test_an_adjacency_on_disk_is_shared_by_the_workers_of_a_node() -> None:
    plan, num_events = Layout(4, 1, 1, 400), 10**9
    for home, device, of_node in (
        ("auto", "cpu", True),
        ("memory", "cpu", False),
        ("auto", "cuda", False),
    ):
        work = Workload(small_model(sampling__adjacency=home), 1000, num_events)
        (found,) = (p for p in parts_of(work, plan, device=device) if p.name == "adjacency")
        assert (found.bytes, found.of_node) == (16 * num_events, of_node)
    (spread,) = (p for p in parts_of(work, plan, "adjacency") if p.name == "adjacency")
    assert (spread.bytes, spread.of_node) == (4 * num_events, False)


def test_a_node_holds_copies_of_its_workers_rows_while_they_are_saved() -> None:
    work = workload()
    for plan in (Layout(2, 1, 3, 100), Layout(1, 1, 1, 100)):
        parts, here = parts_of(work, plan), min(plan.workers, machine().workers_per_node)
        ids = 8 * work.num_nodes if plan.workers == 1 else 0  # a lone worker keeps none
        assert part("checkpoint", parts) == here * (part("state", parts) + ids)


def test_keys_beyond_int64_are_an_obstacle() -> None:
    config = small_model()
    assert obstacles(Workload(config, 2**31, 2**31)) == []
    (problem,) = obstacles(Workload(config, 2**31, 2**32))
    assert "must be below 2^63" in problem
    assert obstacles(Workload(config, 2**31, 2**32), ["adjacency"]) == []


def test_too_little_memory_is_told_with_the_largest_part() -> None:
    parts = [Part("a", "small things", 3.0), Part("b", "large things", 1e9)]
    parts.append(Part("c", "saving", 9.0, of_node=True))
    (problem,) = over_limit(parts, machine(worker_memory_bytes=1e9))
    assert problem == "a worker needs 1 GB of 1 GB, 1 GB of them for large things"
    assert over_limit(parts, machine(worker_memory_bytes=1e9 + 3)) == []
    (problem,) = over_limit(parts, machine(worker_memory_bytes=2e9, node_memory_bytes=8))
    assert problem.startswith("a node needs")
