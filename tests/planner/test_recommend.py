"""Recommended layouts fit the machine and never cost more for nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.planner.advice import AS_FAST, Planner
from pres_dist.planner.layout import Bounds, Layout, layouts
from pres_dist.planner.machine import Rates
from tests.planner.made_up import LINK, RootTouches, machine, workload

TOUCH = RootTouches()


@given(
    workers=st.integers(1, 200),
    memory=st.floats(1e6, 1e9),
    node_memory=st.floats(1e6, 1e9),
    batch=st.integers(1, 5000),
    epochs=st.integers(1, 4),
    replicas=st.integers(1, 4),
    nodes=st.integers(10, 10**6),
)
def test_a_recommended_plan_fits_and_uses_all_workers(
    workers: int,
    memory: float,
    node_memory: float,
    batch: int,
    epochs: int,
    replicas: int,
    nodes: int,
) -> None:
    small = machine(worker_memory_bytes=memory, node_memory_bytes=node_memory)
    bounds = Bounds(batch, epochs, replicas)
    planner = Planner(workload(nodes, 100_000), small, TOUCH, bounds)
    advice = planner.advise(workers)
    for choice in [*advice.others, *advice.refused, *([advice.best] if advice.best else [])]:
        plan = choice.layout
        assert plan.slices * plan.epochs * plan.replicas == workers
        assert plan.slices <= plan.batch <= batch
        assert plan.epochs <= epochs
        assert plan.replicas <= replicas
        own = sum(part.bytes for part in choice.parts if not part.of_node)
        saving = sum(part.bytes for part in choice.parts if part.of_node)
        node = saving + own * small.workers_per_node
        assert choice.fits == (own <= memory and node <= node_memory)
    if advice.best is None:
        assert not advice.others
        assert advice.why
        return
    assert advice.best.fits
    fastest = min(choice.epoch_s for choice in [advice.best, *advice.others])
    assert advice.best.epoch_s <= fastest * (1 + AS_FAST)
    assert all(choice.layout.workers < workers and choice.fits for choice in advice.fewer)


def test_every_factorization_within_the_bounds_is_weighed() -> None:
    found = {(plan.slices, plan.epochs, plan.replicas) for plan in layouts(12, Bounds(400, 2, 3))}
    assert found == {(12, 1, 1), (6, 2, 1), (6, 1, 2), (3, 2, 2), (4, 1, 3), (2, 2, 3)}


def test_replicas_are_taken_only_where_they_buy_time() -> None:
    bounds = Bounds(400, 1, 4)
    free = LINK.model_copy(update={"latency_s": 0, "overhead_s": 0, "bytes_per_s": 1e15})
    linear = machine(
        compute=Rates(event_s=1e-4),
        local_store=Rates(),
        sharded_store=Rates(),
        loopback=free,
        network=free,
    )
    best = Planner(workload(), linear, TOUCH, bounds).advise(4).best
    assert best is not None
    assert best.layout.replicas == 1
    # A fixed cost of each step, which larger slices spread: replicas of the memory buy much.
    fixed = machine(compute=Rates(step_s=1.0))
    best = Planner(workload(), fixed, TOUCH, bounds).advise(4).best
    assert best is not None
    assert best.layout == Layout(1, 1, 4, 400)


def test_groups_with_other_negatives_take_workers_that_buy_no_time() -> None:
    fixed = machine(compute=Rates(step_s=1.0))
    best = Planner(workload(), fixed, TOUCH, Bounds(400, 2, 1)).advise(4).best
    assert best is not None
    assert best.layout.epochs == 2


def test_the_batch_for_an_efficiency_reaches_it_and_smaller_ones_do_not() -> None:
    planner = Planner(workload(), machine(), TOUCH, Bounds(1000))
    plan = Layout(16, 1, 1, 1000)
    batch = planner.batch_for(plan, 0.4)
    assert batch is not None

    def reached(events: int) -> float:
        return planner.choice(Layout(16, 1, 1, events)).efficiency

    assert reached(batch) >= 0.4 > reached(batch * 4 // 5)
    assert planner.batch_for(plan, 0.999) is None
    assert f"a temporal batch of {batch:,} events" in planner.batch_needed(plan, 0.4)


def test_small_optimizer_steps_keep_an_efficiency_out_of_reach() -> None:
    planner = Planner(workload(training__events_per_step=100), machine(), TOUCH, Bounds(10**5))
    whole_steps = replace(planner, workload=planner.workload.with_whole_steps)
    plan = Layout(16, 1, 1, 1000)
    whole = whole_steps.batch_for(plan, 0.4)
    assert planner.batch_for(plan, 0.4) is None
    assert whole is not None
    told = planner.batch_needed(plan, 0.4)
    assert "for every 100 events, no temporal batch will do" in told
    assert f"with one optimizer step a batch, a temporal batch of {whole:,} events" in told


def test_more_workers_than_events_are_no_plan() -> None:
    advice = Planner(workload(), machine(), TOUCH, Bounds(100)).advise(101)
    assert advice.best is None
    assert not advice.refused
    assert "cannot be laid out" in advice.why[0]


def test_what_does_not_fit_is_told_with_the_reason() -> None:
    tight = machine(worker_memory_bytes=1e6)
    advice = Planner(workload(), tight, TOUCH, Bounds(400)).advise(2)
    assert advice.best is None
    assert any("temporal adjacency" in reason for reason in advice.why)
    spread = Planner(workload(), machine(worker_memory_bytes=1.2e7), TOUCH, Bounds(400))
    assert spread.advise(64).best is None
    fits = Planner(spread.workload, spread.machine, TOUCH, spread.bounds, ("adjacency",))
    assert fits.advise(64).best is not None


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_reasons_tell_where_the_time_goes(workers: int) -> None:
    advice = Planner(workload(), machine(), TOUCH, Bounds(800)).advise(workers)
    assert advice.best is not None
    assert any("of a step" in reason and "computing" in reason for reason in advice.why)
    assert "800" in advice.why[1]


def test_fewer_workers_that_are_faster_are_told() -> None:
    slow = LINK.model_copy(update={"latency_s": 1.0})
    planner = Planner(workload(), machine(loopback=slow, network=slow), TOUCH, Bounds(800))
    assert any(reason.startswith("1 worker is faster than 4") for reason in planner.advise(4).why)
    quick = Planner(workload(), machine(), TOUCH, Bounds(8000)).advise(4)
    assert not any("are faster" in reason for reason in quick.why)


def test_a_plan_tells_what_would_make_its_workers_pay() -> None:
    slow = LINK.model_copy(update={"latency_s": 0.02})
    machines = machine(loopback=slow, network=slow, worker_memory_bytes=5e8)
    planner = Planner(workload(), machines, TOUCH, Bounds(800))
    layout, alone = Layout(4, 1, 1, 800), Layout(1, 1, 1, 800)
    batch, stream = planner.pays_if(layout, alone)
    found = int(batch.split()[-3].replace(",", ""))
    assert batch == f"4 workers are faster from a temporal batch of {found:,} events on"

    def gain(events: int) -> float:
        times = [planner.choice(replace(one, batch=events)).epoch_s for one in (alone, layout)]
        return times[0] - times[1]

    assert gain(found) > 0 > gain(found * 4 // 5)
    nodes = int(stream.split()[8].replace(",", ""))
    larger = replace(planner, workload=workload(nodes))
    assert not larger.choice(alone).fits
    assert larger.choice(layout).fits
    hopeless = replace(planner, machine=machine(loopback=LINK.model_copy(update={"latency_s": 9})))
    assert "no temporal batch" in hopeless.pays_if(layout, alone)[0]


def test_reasons_count_plans_in_english() -> None:
    one = Planner(workload(), machine(), TOUCH, Bounds(100))
    assert one.advise(1).why[0] == "1 plan fits; 1 x 1 x 1, batch 100 is the fastest"
    several = Planner(workload(), machine(), TOUCH, Bounds(400)).advise(1)
    assert several.why[0].startswith("3 plans fit; ")
    tight = Planner(workload(), machine(worker_memory_bytes=1e3), TOUCH, one.bounds).advise(1)
    assert tight.why[0] == "the only plan, 1 x 1 x 1, batch 100, does not fit because"


@pytest.mark.parametrize(("workers", "nodes"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_an_epoch_costs_whole_nodes(workers: int, nodes: int) -> None:
    """Four workers share a node."""
    planner = Planner(workload(), machine(), TOUCH, Bounds(400), node_price=0.5)
    choice = planner.choice(Layout(workers, 1, 1, 400))
    assert choice.epoch_price == pytest.approx(0.5 * nodes * choice.epoch_s / 3600)


def test_without_a_price_there_is_no_cost() -> None:
    planner = Planner(workload(), machine(), TOUCH, Bounds(400))
    assert planner.choice(Layout(4, 1, 1, 400)).epoch_price is None
