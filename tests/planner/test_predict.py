"""The cost of a step: formulas, what it must grow with, and bytes against a real store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.memory.placement import Placement
from pres_dist.memory.sharded import ShardedStore
from pres_dist.memory.updated_rows import UpdatedRows
from pres_dist.model.tgn import TGN, StreamShape
from pres_dist.planner.footprint import row_bytes, store_layout
from pres_dist.planner.layout import Layout
from pres_dist.planner.machine import Rates
from pres_dist.planner.predict import (
    efficiency,
    largest_block,
    one_worker,
    predict,
    step_bytes,
    waiting_share,
    work_inflation,
)
from pres_dist.planner.touched import Touched, Waiting
from tests.planner.made_up import LINK, RootTouches, machine, small_model, workload
from tests.support.gloo_world import GlooWorld, Worker

TOUCH = RootTouches()


def test_one_worker_moves_nothing_and_is_its_own_measure() -> None:
    plan = Layout(1, 1, 1, 800)
    cost = predict(workload(), plan, machine(jitter=0.2), TOUCH)
    assert cost.bytes.total == cost.reduce_s == cost.wait_s == 0
    nodes = TOUCH.touched(800).pulled
    # Computing and store, by the rates of `made_up`.
    assert cost.step_s == pytest.approx(1e-3 + 800 * 5e-5 + nodes * 2e-5 + 1e-4 + nodes * 1e-7)
    assert cost.cpu_s == pytest.approx(cost.step_s)
    alone = one_worker(workload(), 800, machine(), TOUCH)
    assert efficiency(cost, 1, alone) == pytest.approx(1)
    assert work_inflation(cost, 1, alone) == pytest.approx(1)


def test_gradients_move_as_a_ring_moves_them() -> None:
    work = workload()
    config = work.config
    model = TGN(config.model, config.memory, config.pres, StreamShape(0, 0, 1.0))
    numbers = sum(p.numel() for p in model.parameters() if p.requires_grad) + 4
    for workers in (2, 3, 8):
        cost = predict(work, Layout(workers, 1, 1, 800), machine(), TOUCH)
        assert cost.bytes.gradients == pytest.approx(2 * (workers - 1) / workers * 4 * numbers)


def test_several_optimizer_steps_add_up_gradients_several_times() -> None:
    plan = Layout(4, 1, 1, 800)
    once = predict(workload(), plan, machine(), TOUCH)
    often = predict(workload(training__events_per_step=200), plan, machine(), TOUCH)
    assert often.bytes.gradients == 4 * once.bytes.gradients
    assert often.bytes.rows == once.bytes.rows
    assert often.compute_s > once.compute_s


def test_messages_that_wait_cost_what_each_does() -> None:
    """Each optimizer step applies them all, and what is written is computed once more."""
    rates = Rates(message_s=1e-6)
    costly = machine(compute=rates, update=rates)
    plan = Layout(2, 1, 1, 800)
    for each, updates in ((0, 1), (200, 4)):
        work = workload(training__events_per_step=each)
        events = 400 / updates
        messages = updates * TOUCH.touched(events).pulled * TOUCH.waiting(events, 800).pulled
        if updates > 1:
            messages += TOUCH.touched(800, 1 / 2).written * TOUCH.waiting(400, 800).written
        assert predict(work, plan, costly, TOUCH).compute_s == pytest.approx(messages * 1e-6)


def test_work_grows_by_nodes_that_are_in_several_slices() -> None:
    """Inflation comes from distinct nodes alone where nothing else costs anything."""
    free = Rates()
    ideal = machine(
        compute=Rates(node_s=1e-5),
        local_store=free,
        sharded_store=free,
        loopback=LINK.model_copy(update={"overhead_s": 0, "cpu_s_per_byte": 0}),
        network=LINK.model_copy(update={"overhead_s": 0, "cpu_s_per_byte": 0}),
    )
    for workers in (2, 8, 32):
        plan = Layout(workers, 1, 1, 3200)
        expected = workers * TOUCH.touched(3200 / workers).pulled / TOUCH.touched(3200).pulled
        cost = predict(workload(), plan, ideal, TOUCH)
        alone = one_worker(workload(), 3200, ideal, TOUCH)
        assert work_inflation(cost, workers, alone) == pytest.approx(expected)


@given(st.integers(1, 7), st.integers(0, 2), st.integers(1000, 100_000))
def test_a_step_takes_no_less_on_anything_slower(power: int, replicas: int, batch: int) -> None:
    work, plan = workload(), Layout(2**power, 1, 2**replicas, batch)
    base = predict(work, plan, machine(jitter=0.1), TOUCH)
    slow_link = LINK.model_copy(update={"bytes_per_s": 5e8, "latency_s": 1e-4, "overhead_s": 1e-5})
    for slower in (
        machine(jitter=0.2),
        machine(jitter=0.1, loopback=slow_link, network=slow_link),
        machine(jitter=0.1, compute=Rates(step_s=2e-3, event_s=5e-5, node_s=2e-5)),
    ):
        assert predict(work, plan, slower, TOUCH).step_s > base.step_s
    larger = predict(work, replace(plan, batch=2 * batch), machine(jitter=0.1), TOUCH)
    assert larger.step_s > base.step_s
    assert larger.step_s < 2 * base.step_s
    more = predict(work, plan, machine(jitter=0.1), RootTouches(25.0))
    assert more.step_s > base.step_s
    assert more.bytes.rows > base.bytes.rows


def test_reads_ahead_hide_behind_computing_and_writes_do_not() -> None:
    plan = Layout(4, 1, 1, 4000)
    now = predict(workload(), plan, machine(), TOUCH)
    ahead = predict(workload(memory__staleness=1), plan, machine(), TOUCH)
    read = (now.bytes.ids + now.bytes.pull) / LINK.bytes_per_s
    written = (now.bytes.push + now.bytes.observe) / LINK.bytes_per_s
    assert read < now.step_s - ahead.step_s < now.exchange_s - written
    idle = machine(compute=Rates(event_s=1e-9))
    hidden = predict(workload(), plan, idle, TOUCH).step_s
    hidden -= predict(workload(memory__staleness=1), plan, idle, TOUCH).step_s
    assert hidden == pytest.approx(1000 * 1e-9)  # all of computing


def test_the_slowest_of_many_is_as_slow_as_in_many_draws() -> None:
    jitter, draws = 0.2, np.random.default_rng(0)
    sigma = np.sqrt(np.log1p(jitter**2))
    for workers in (2, 16, 1024):
        times = np.exp(sigma * draws.standard_normal((2000, workers)) - sigma**2 / 2)
        slowest = times.max(1).mean() / times.mean()
        assert 1 + waiting_share(workers, jitter) == pytest.approx(slowest, rel=0.02)
    assert waiting_share(1, 0.5) == waiting_share(64, 0.0) == 0


def test_the_fullest_block_is_as_full_as_in_many_draws() -> None:
    draws = np.random.default_rng(0)
    for sharers, pulled in ((4, 800), (16, 3000)):
        fullest = [
            draws.multinomial(pulled, np.full(sharers, 1 / sharers), sharers).max()
            for _ in range(300)
        ]
        assert largest_block(pulled, sharers) == pytest.approx(np.mean(fullest), rel=0.03)


ROWS = 600
"""Rows that each worker pulls; half are written, a third observed. Room for ids is made once."""


def traffic_of(dim: int, worker: Worker) -> dict[str, int]:
    """Bytes of the second of two equal steps, in which blocks have the room they need."""
    config = small_model(memory__dim=dim)
    placement = Placement(6000, worker.world)
    shard = store_layout(config).make(len(placement.nodes_of(worker.rank)))
    store = ShardedStore(shard, placement, worker.group)
    # Of every owner as many: what is random in a stream is even here.
    nodes_U = torch.arange(ROWS) * 7 % 6000
    nodes_U = nodes_U.sort().values
    writes_U, observes_U = torch.arange(ROWS) % 2 == 0, torch.arange(ROWS) % 3 == 0
    for _ in range(2):
        store.traffic.reset()
        state = store.pull(nodes_U, writes_U, observes_U).state
        observed = (nodes_U[observes_U], state.memory_UD[observes_U])
        store.observe(*observed, state.last_update_U[observes_U])
        columns = {name: column[writes_U] for name, column in vars(state).items()}
        store.push(nodes_U[writes_U], type(state)(**columns), True)
    return {verb: volume.remote_bytes for verb, volume in vars(store.traffic).items()}


@dataclass(frozen=True)
class Fixed:
    origin = "fixed"

    def touched(self, events: float, share: float = 1.0) -> Touched:
        return Touched(ROWS, ROWS / 2, ROWS / 3)

    def waiting(self, events: float, batch: float) -> Waiting:
        return Waiting(1.0, 1.0)


def test_bytes_are_those_that_a_sharded_store_counts(tmp_path: Path) -> None:
    work = workload()
    with GlooWorld(3, tmp_path) as world:
        for sharers in (2, 3):
            counted = world.run(sharers, partial(traffic_of, work.config.memory.dim))
            told = step_bytes(work, Layout(sharers, 1, 1, 900), Fixed(), row_bytes(work.config))
            pulls = np.mean([one["pull"] for one in counted])
            pushes = np.mean([one["push"] for one in counted])
            observes = np.mean([one["observe"] for one in counted])
            assert told.pull + told.ids == pytest.approx(pulls, rel=0.03)
            assert told.push == pytest.approx(pushes, rel=0.03)
            assert told.observe == pytest.approx(observes, rel=0.03)


def owner_traffic_of(dim: int, worker: Worker) -> int:
    """Bytes of the second of two equal steps of owners."""
    placement = Placement(6000, worker.world)
    rows = UpdatedRows(placement, worker.rank, worker.group)
    nodes_U = torch.arange(ROWS) * 7 % 6000
    for _ in range(2):
        rows.traffic.reset()
        read = rows.request(rows.wanted([nodes_U], None, nodes_U[:0]))
        columns = [torch.zeros(read.nodes_P.numel(), *shape) for shape in ([dim], [])]
        memory_UD, one_U, _ = rows.send(read, [*columns, read.nodes_P])
        rows.send_back(read, [memory_UD, one_U])
    return rows.traffic.pull.remote_bytes


def test_bytes_of_owners_are_those_that_are_counted(tmp_path: Path) -> None:
    work = workload(memory__update="owner")
    layout, rows = Layout(3, 1, 1, 900), row_bytes(work.config)
    with GlooWorld(3, tmp_path) as world:
        counted = world.run(3, partial(owner_traffic_of, work.config.memory.dim))
    told = step_bytes(work, layout, Fixed(), rows)
    assert told.rows == told.pull + told.ids == pytest.approx(np.mean(counted), rel=0.03)


def test_owners_update_their_share_of_the_nodes_and_slices_embed_their_own() -> None:
    rates = machine(compute=Rates(node_s=3e-5, message_s=1e-6), update=Rates(node_s=1e-5))
    reader, owner = (
        predict(workload(memory__update=update), Layout(4, 1, 1, 800), rates, TOUCH)
        for update in ("reader", "owner")
    )
    fewer = TOUCH.touched(200).pulled - TOUCH.touched(800).pulled / 4
    update_s = 1e-5 + TOUCH.waiting(200, 800).pulled * 1e-6
    assert reader.compute_s - owner.compute_s == pytest.approx(fewer * update_s)
    assert owner.bytes.rows < reader.bytes.rows


def test_one_worker_helper_is_the_plan_of_one() -> None:
    alone = one_worker(workload(), 500, machine(), TOUCH)
    assert alone == predict(workload(), Layout(1, 1, 1, 500), machine(), TOUCH)
