"""Two workers under torchrun that diverge: where they listen meanwhile, and how they end."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil

from pres_dist.config.load import dump_yaml
from pres_dist.parallel.loopback import INTERFACES, stay_on_loopback
from tests.support.launched import Launched, torchrun
from tests.support.small_run import MakeConfig


def test_they_listen_on_loopback_and_say_once_that_they_diverged(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(dump_yaml(make_config(training__learning_rate=1e30)))
    arguments = ["train", "config.yaml", "--run-dir", "run"]
    unset = dict.fromkeys(INTERFACES, "")
    with torchrun(
        arguments, launcher="pres_dist.parallel.agent", environment=unset, folder=tmp_path
    ) as launched:
        listening = _workers_listen_on(launched)
        assert launched.wait() == 3
        said = launched.errors()
    assert said.count("error: habits: epoch 1, step ") == 1
    assert "Traceback" not in said
    assert not list(tmp_path.glob("run/checkpoints/*"))
    # torchrun's own store listens everywhere, which only launch/torchrun.sh can keep it from.
    assert listening == {"127.0.0.1"}
    noted = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert noted["interfaces"] == INTERFACES


def _workers_listen_on(launched: Launched) -> set[str]:
    """Addresses of all processes but torchrun's own, until the launch ends."""
    addresses: set[str] = set()
    while launched.process.poll() is None:
        for process in launched.processes():
            try:
                connections = process.net_connections(kind="inet")
            except psutil.Error:
                continue
            if process.pid != launched.process.pid:
                addresses |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
        time.sleep(0.05)
    return {address.removeprefix("::ffff:") for address in addresses}


def test_workers_of_several_machines_are_not_kept_on_loopback() -> None:
    one = {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}
    assert stay_on_loopback(one) == INTERFACES
    chosen = {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "ib0"}
    assert stay_on_loopback(one | chosen) == {}
    assert stay_on_loopback({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}) == {}
    assert stay_on_loopback({"WORLD_SIZE": "2"}) == {}
