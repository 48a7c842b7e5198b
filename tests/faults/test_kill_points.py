"""A run that dies anywhere ends as one that did not; points are drawn, and the seed is shown.

Eight points by default and twenty with --nightly; PRES_DIST_KILL_POINTS=200 tries so many,
PRES_DIST_KILL_SEED=7 other ones.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from pres_dist.config.load import dump_yaml
from tests.support.fault_plan import FaultPlan
from tests.support.lives import Lives, end_of
from tests.support.nightly import NIGHTLY
from tests.support.small_run import habitual_stream, small_config

POINTS = int(os.environ.get("PRES_DIST_KILL_POINTS", "20" if NIGHTLY else "8"))
SEED = int(os.environ.get("PRES_DIST_KILL_SEED", "0"))
POINTS_A_RUN = 8
STEPS = 10
PLACES = ["before_step", "after_step", "before_checkpoint", "after_checkpoint"]
SYSTEM_CALLS = {"open": 11, "write": 1, "fsync": 9, "rename": 5}
"""Such calls in one save; a write is broken in the first file that is large enough."""
BY_SIGNAL = {-9, -25}
"""SIGKILL, and SIGXFSZ in the middle of a write."""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lives")
    habitual_stream(700).save(folder / "habits")
    config = small_config(folder / "habits")(
        training__checkpoint_every=2, model__dropout=0.1, evaluation__baselines=False
    )
    (folder / "config.yaml").write_text(dump_yaml(config))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def undisturbed(config_file: Path) -> dict[str, Any]:
    run = config_file.parent / "undisturbed"
    assert Lives(config_file, run, FaultPlan()).until_done() == [0]
    return end_of(run)


def drawn_plan(number: int) -> FaultPlan:
    """Deaths anywhere; each life gets on, since each fault happens once."""
    draw, plan = random.Random(f"{SEED} {number}"), FaultPlan()
    for _ in range(min(POINTS_A_RUN, POINTS - number * POINTS_A_RUN)):
        place = draw.choice([*PLACES, *SYSTEM_CALLS])
        passes = draw.randrange(SYSTEM_CALLS.get(place, 1))
        plan = plan.kill(rank=0, step=draw.randrange(STEPS - 1), place=place, passes=passes)
    return plan


@pytest.mark.attack(
    "SIGKILL of a training at drawn places and system calls, then `resume`",
    before="held",
    after="the run ends in the same bits",
)
@pytest.mark.parametrize("number", range(-(-POINTS // POINTS_A_RUN)))
def test_a_run_that_dies_anywhere_ends_in_the_same_bits(
    number: int, config_file: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    plan = drawn_plan(number)
    print(f"PRES_DIST_KILL_SEED={SEED}, {plan.faults}")
    lives = Lives(config_file, tmp_path / "run", plan)
    *deaths, last = lives.until_done()
    assert last == 0
    assert set(deaths) <= BY_SIGNAL
    # Two faults in the middle of a write may come to one death.
    assert min(3, len(plan.faults)) <= len(deaths) <= lives.happened()
    assert end_of(tmp_path / "run") == undisturbed


def test_sigterm_leaves_a_checkpoint_of_that_step(
    config_file: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Step 4 is not one after which a checkpoint is due."""
    lives = Lives(config_file, tmp_path / "run", FaultPlan().terminate(rank=0, step=4))
    assert lives.live() == 143
    newest = (tmp_path / "run" / "checkpoints" / "LATEST").read_text().strip()
    assert newest == "step-00000005"
    assert lives.live() == 0
    assert end_of(tmp_path / "run") == undisturbed
