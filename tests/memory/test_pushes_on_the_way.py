"""Pushes that come twice, late or in another order leave a shard as if nothing had happened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pres_dist import failpoint
from pres_dist.memory.placement import Placement
from tests.memory.test_server_store import assert_slices_equal_whole
from tests.support import fault_injector
from tests.support.fault_plan import FaultPlan
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.store_rows import Layout
from tests.support.store_scenarios import Scenario

NUM_STEPS = 6
FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["duplicate", "reorder", "delay"]),
        st.integers(0, 1),
        st.integers(0, 2 * NUM_STEPS - 1),
    ),
    min_size=1,
    max_size=12,
)


def arm(worker: Worker, plan: dict[str, str]) -> None:
    fault_injector.disarm()
    os.environ.update(plan)
    failpoint.set_identity(rank=worker.rank)


def num_pending(worker: Worker) -> int:
    return len(failpoint._inject.__self__.faults)


@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(faults=FAULTS, statistics=st.booleans(), seed=st.integers(0, 99))
def test_what_happens_to_pushes_changes_nothing(
    gloo: GlooWorld,
    tmp_path_factory: pytest.TempPathFactory,
    faults: list[tuple[str, int, int]],
    statistics: bool,
    seed: int,
) -> None:
    """The oracle is one store that takes whole batches in order; see `play_whole`."""
    plan = FaultPlan()
    for verb, rank, passes in faults:
        late = {"ms": 20.0} if verb == "delay" else {}
        plan = getattr(plan, verb)(rank=rank, passes=passes, **late)
    folder: Path = tmp_path_factory.mktemp("marks")
    scenario = Scenario(
        "on the way",
        Layout(num_nodes=7, num_slots=2, num_components=2 if statistics else 0),
        num_steps=NUM_STEPS,
        seed=seed,
    )
    gloo.run(2, arm, plan.environment(folder))
    try:
        assert_slices_equal_whole(gloo, 2, Placement(7, 2), scenario)
        left = sum(gloo.run(2, num_pending))
    finally:
        gloo.run(2, arm, {})
    assert len(list(folder.iterdir())) == len(faults) - left > 0
