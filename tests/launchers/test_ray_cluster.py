"""Access to the Ray cluster of a run: a local one, and one of several nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pres_dist.config.load import dump_yaml
from pres_dist.errors import ConfigError
from pres_dist.launchers import ray_cluster
from tests.support.ray_runs import ray_run
from tests.support.small_run import MakeConfig

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

LOCAL = """
import os, subprocess, sys
import psutil
from pres_dist.launchers.ray_cluster import cluster

ASK = "import sys, ray; from ray._raylet import GcsClient;" \\
      "print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=240)))"

def ask(token):
    environment = {k: v for k, v in os.environ.items() if k != "RAY_AUTH_TOKEN"}
    environment |= {"HOME": os.getcwd()} | ({"RAY_AUTH_TOKEN": token} if token else {})
    if not token:
        environment["RAY_AUTH_MODE"] = "disabled"
    done = subprocess.run([sys.executable, "-c", ASK, address], env=environment, timeout=240,
                          capture_output=True, text=True)
    print(token is not None, done.returncode, done.stdout.strip(), "Unauthenticated" in done.stderr)

with cluster("local", 1):
    import ray
    address = ray.get_runtime_context().gcs_address
    ask(os.environ["RAY_AUTH_TOKEN"])
    ask(None)
    ask("0" * 64)
    ours = psutil.Process().children(recursive=True)
    open_ports = [c for p in ours for c in p.net_connections("inet") if c.status == "LISTEN"]
    print({c.laddr.ip.removeprefix("::ffff:") for c in open_ports})
"""

SEVERAL_NODES = """
import sys
from ray.cluster_utils import Cluster

small = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args=small)
cluster.add_node(**small)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.mark.attack(
    "requests to a local Ray cluster without its token",
    before="held",
    after="refused; it listens on loopback alone",
)
def test_a_local_cluster_listens_to_those_with_its_token_only(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOCAL], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    with_token, without, with_another, hosts = done.stdout.splitlines()
    assert with_token == "True 0 1 False"
    assert without.endswith("True")
    assert with_another.endswith("True")
    assert hosts == "{'127.0.0.1'}"


@dataclass(frozen=True)
class Nodes:
    """A cluster of two nodes with a CPU each, on this machine."""

    address: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a" * 64,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SEVERAL_NODES],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Nodes(process.stdout.readline().strip(), environment)
    finally:
        process.stdin.close()
        process.wait(timeout=240)


def test_workers_are_spread_over_nodes(
    two_nodes: Nodes, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Run the command of `ray job submit` on a node of the cluster, with RAY_ADDRESS set."""
    config = make_config(training__epochs=1)
    (tmp_path / "run.yaml").write_text(dump_yaml(config))
    done = ray_run(
        "run.yaml",
        "--placement",
        "STRICT_SPREAD",
        cwd=tmp_path,
        environment=two_nodes.environment | {"RAY_ADDRESS": two_nodes.address},
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "2 workers on 2 nodes"
    assert lines[1].startswith("run folder: runs/run-")
    assert len(list(tmp_path.glob("runs/*/results.json"))) == 1
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    token = two_nodes.environment["RAY_AUTH_TOKEN"].encode()
    for content in ((done.out + done.err).encode(), *(path.read_bytes() for path in written)):
        assert token not in content


def test_a_cluster_cannot_be_joined_with_another_token(
    two_nodes: Nodes, make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(dump_yaml(make_config()))
    done = ray_run(
        "run.yaml",
        "--address",
        two_nodes.address,
        cwd=tmp_path,
        environment=two_nodes.environment
        | {"RAY_AUTH_TOKEN": "b" * 64, "RAY_NUM_REDIS_GET_RETRIES": "2"},
    )
    assert done.code == 2
    error = done.err.splitlines()[-1]  # Ray's own log may say so before
    assert error.startswith(f"error: {two_nodes.address}: cannot join the Ray cluster")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("address", ["local", "127.0.0.1:6379"])
def test_a_cluster_that_does_not_start_is_one_error(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray raises it

    monkeypatch.setattr(ray_cluster, "_init", slow)
    told = "the Ray cluster|a cluster on this machine"
    with pytest.raises(ConfigError, match=told), ray_cluster.cluster(address, 1):
        pass
