"""Machine files, and the rates that calibration fits."""

from __future__ import annotations

import tempfile
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from pres_dist.config.dump import dump_yaml
from pres_dist.errors import ConfigError
from pres_dist.planner.calibrate import StepTime, calibrate, compute_rates, stage_rates
from pres_dist.planner.machine import fit_rates, load_machine, shipped_machines
from pres_dist.step.stages import STAGES
from tests.planner.made_up import machine, small_model
from tests.support.small_run import habitual_stream


@pytest.mark.parametrize("name", sorted(shipped_machines()))
def test_machines_that_come_along_load(name: str) -> None:
    assert load_machine(name).compute.event_s > 0


def test_a_machine_is_written_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    own = machine(calibrated_for={"memory.dim": "8"})
    file.write_text(dump_yaml(own, with_help=True), encoding="utf-8")
    assert load_machine(str(file)) == own


def test_a_wrong_machine_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(dump_yaml(machine()).replace("jitter: 0.0", "jitter: -1\njiter: 2"))
    with pytest.raises(ConfigError) as caught:
        load_machine(str(file))
    assert "jitter must be a number >= 0, got -1" in str(caught.value)
    assert "did you mean `jitter`" in str(caught.value)
    with pytest.raises(ConfigError, match=r"must be a YAML file or one of .*two-cores"):
        load_machine("cray")
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_machine(str(tmp_path / "none.yaml"))


def test_rates_are_found_again() -> None:
    rows = [[1.0, events, events**0.7] for events in (25, 100, 400, 1600, 3200)]
    seconds = np.array(rows) @ [1e-3, 5e-5, 2e-5]
    assert fit_rates(rows, seconds.tolist()) == pytest.approx([1e-3, 5e-5, 2e-5])


def test_no_rate_is_negative() -> None:
    # Fewer seconds for more events: what is best without a negative rate is a constant.
    rates = fit_rates([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], [1.0, 0.9, 0.8])
    assert rates[1] == 0
    assert rates[0] == pytest.approx(0.89, abs=0.02)


def test_messages_have_a_rate_of_their_own_in_the_stages_that_apply_them() -> None:
    def step(events: int, nodes: int, messages: int) -> StepTime:
        stages = dict.fromkeys(STAGES, 1e-4)
        stages["embed"] = 1e-4 + 2e-6 * events
        stages["update"] = 1e-4 + 1e-6 * nodes + 5e-6 * messages
        return StepTime(events, nodes, messages, sum(stages.values()), stages)

    sizes = [(100, 300, 300), (100, 300, 900), (400, 700, 900), (1600, 1200, 4000)]
    rounds = [[step(*size)] for size in sizes]
    update, compute = stage_rates(rounds, "update"), compute_rates(rounds)
    assert update.message_s == compute.message_s == pytest.approx(5e-6, rel=1e-3)
    assert update.node_s == pytest.approx(1e-6, rel=1e-3)
    assert compute.event_s == pytest.approx(2e-6, rel=1e-3)


@pytest.mark.slow
def test_this_machine_can_be_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    habitual_stream().save(tmp_path / "stream")
    found = calibrate(small_model(data__stream=tmp_path / "stream"), rounds=1)
    assert found.compute.seconds(100, 50) > 0
    assert found.sharded_store.seconds(100, 50) > 0
    assert found.loopback.bytes_per_s > 0
    assert found.loopback.latency_s > 0
    assert found.calibrated_for["memory.dim"] == "8"
    assert load_machine_of(found, tmp_path) == found
    assert not active_children()
    assert not list(tmp_path.glob("pres-dist-plan-*"))


def load_machine_of(found: object, folder: Path) -> object:
    file = folder / "found.yaml"
    file.write_text(dump_yaml(found), encoding="utf-8")  # type: ignore[arg-type]
    return load_machine(str(file))
