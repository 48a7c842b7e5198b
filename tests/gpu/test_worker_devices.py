"""Each worker computes on a GPU of its own, and sends by it; or one error says why it cannot."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pres_dist.config.load import dump_yaml
from pres_dist.errors import ConfigError
from pres_dist.parallel.device import device_of, use_device
from pres_dist.training.run import train
from tests.support.small_run import small_config

TIMEOUT_S = 240


def launched(monkeypatch: pytest.MonkeyPatch, rank: int, workers: int) -> None:
    """Be one of several workers of this machine, as torchrun tells them."""
    for name, value in {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": workers,
        "LOCAL_WORLD_SIZE": workers,
    }.items():
        monkeypatch.setenv(name, str(value))


def test_a_device_without_a_number_is_that_of_the_worker(
    sim: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device_of("sim") == torch.device("sim", 0)
    assert device_of("sim:1") == torch.device("sim", 1)
    for rank in (0, 1):
        launched(monkeypatch, rank, 2)
        assert device_of("sim") == torch.device("sim", rank)
        assert device_of("cpu") == torch.device("cpu")


def test_the_device_becomes_the_current_one(sim: torch.device) -> None:
    module = torch.get_device_module(sim)
    for index in (1, 0):
        use_device(torch.device("sim", index))
        assert module.current_device() == index
    use_device(torch.device("cpu"))
    assert module.current_device() == 0


@pytest.mark.parametrize(
    ("name", "workers", "message"),
    [
        ("sim:5", 1, r"one of the 4 GPUs of this machine \(sim:0 to sim:3\), got 'sim:5'"),
        ("sim:5", 2, r"one of the 4 GPUs of this machine \(sim:0 to sim:3\), got 'sim:5'"),
        ("sim", 5, r"got 5 workers and 4 GPUs on this machine: start at most 4"),
        ("sim:1", 5, r"got 5 workers and 4 GPUs on this machine: start at most 4"),
        ("sim:0", 2, r"must be sim, without a number, .* got 'sim:0' for 2 workers"),
        ("cuda:-1", 1, r"must be auto or a device torch can use here"),
        ("quantum", 1, r"must be auto or a device torch can use here"),
    ],
)
def test_what_cannot_be_is_one_error(
    name: str, workers: int, message: str, sim: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(monkeypatch, workers - 1, workers)
    with pytest.raises(ConfigError, match=rf"^training\.device.*{message}"):
        device_of(name)


def test_an_error_without_a_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(ConfigError, match="got 'cpu': AssertionError"):
        device_of("cpu")


def test_a_number_is_needed_where_the_launcher_tells_none(
    sim: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert device_of("sim:1") == torch.device("sim", 1)
    with pytest.raises(ConfigError, match="LOCAL_RANK is not set"):
        device_of("sim")


def test_two_workers_train_on_two_devices(habits: Path, sim: torch.device, tmp_path: Path) -> None:
    config = small_config(habits)(training__epochs=1, preset="paper")
    alone = train(config, tmp_path / "alone")
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml(config))
    arguments = ["train", str(file), "--training.device=sim", "--run-dir", str(tmp_path / "two")]
    for code, _, err in two_workers(*arguments):
        assert code == 0, err
    two = json.loads((tmp_path / "two/results.json").read_text())
    for part in ("validation", "test"):
        assert two[part]["ap"] == pytest.approx(alone[part]["ap"], abs=1e-4)


def test_workers_that_send_by_one_device_are_refused(
    habits: Path, sim: torch.device, tmp_path: Path
) -> None:
    """Workers that do not set their device fail in the simulation, as they do with NCCL."""
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml(small_config(habits)(training__device="sim")))
    command = ["train", str(file), "--run-dir", str(tmp_path / "run")]
    for code, _, err in two_workers(*command, PRES_DIST_TEST_DEVICE_UNSET="1"):
        assert code != 0
        assert "Duplicate GPU detected" in err
    assert not (tmp_path / "run").exists()


def two_workers(*arguments: str, **variables: str) -> list[tuple[int, str, str]]:
    """Exit codes, outputs and errors of two workers of `pres-dist`, on two simulated GPUs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "tests.gpu.simulated_worker", *arguments]
    shared: dict[str, Any] = {
        "WORLD_SIZE": 2,
        "LOCAL_WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
        **variables,
    }
    processes = []
    try:
        for rank in range(2):
            own = {name: str(value) for name, value in shared.items()}
            own |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(
                subprocess.Popen(
                    command,
                    env=os.environ | own | {"PYTHONPATH": os.pathsep.join(sys.path)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        told = [process.communicate(timeout=TIMEOUT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, *each) for process, each in zip(processes, told, strict=True)]
