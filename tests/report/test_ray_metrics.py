"""The figures of a run as Ray's metrics: the gauges, and what Prometheus would collect."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pres_dist.config.load import dump_yaml
from pres_dist.report.metric_sinks import RayMetrics
from tests.support.ray_runs import started
from tests.support.small_run import habitual_stream, small_config

pytest.importorskip("ray")

EPOCH = {
    "kind": "epoch",
    "step": 7,
    "loss": 0.5,
    "gate": None,
    "staleness": {"0": 3, "2": 4},
    "validation": {"ap": 0.75},
    "workers": [
        {"rank": 0, "host": "a", "seconds": {"wait": 1.0}, "compute_by_range": [1.0]},
        {"rank": 1, "host": "b", "seconds": {"wait": 2.0}, "compute_by_range": [2.0]},
    ],
}


class RecordedGauge:
    """A gauge that remembers what it was set to."""

    values: dict[tuple[str, str, str], float]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert tag_keys == ("run", "index")
        self._name = name

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[self._name, tags["run"], tags["index"]] = value


def test_every_number_becomes_a_gauge(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.util.metrics

    RecordedGauge.values = {}
    monkeypatch.setattr(ray.util.metrics, "Gauge", RecordedGauge)
    metrics = RayMetrics("one")
    metrics.write(EPOCH)
    metrics.write({"kind": "step", "step": 8, "loss": 0.25, "ap@10": 1})
    assert RecordedGauge.values == {
        ("pres_dist_epoch_steps", "one", ""): 7,
        ("pres_dist_epoch_loss", "one", ""): 0.5,
        ("pres_dist_epoch_staleness", "one", "0"): 3,
        ("pres_dist_epoch_staleness", "one", "2"): 4,
        ("pres_dist_epoch_validation_ap", "one", ""): 0.75,
        ("pres_dist_epoch_workers_seconds_wait", "one", "0"): 1.0,
        ("pres_dist_epoch_workers_seconds_wait", "one", "1"): 2.0,
        ("pres_dist_step_steps", "one", ""): 8,
        ("pres_dist_step_loss", "one", ""): 0.25,
        ("pres_dist_step_ap_10", "one", ""): 1,
    }


def test_ray_takes_the_names_and_tags(recwarn: pytest.WarningsRecorder) -> None:
    """Ray's own class, which drops a metric with a bad name after a warning."""
    metrics = RayMetrics("one")
    metrics.write(EPOCH)
    assert [str(warning.message) for warning in recwarn if "metric" in str(warning.message)] == []


WITH_AGENT = """
import sys
import ray
ray.init(include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=0, num_cpus=4,
         object_store_memory=80 * 2**20, log_to_driver=False, _temp_dir=sys.argv[1])
node = ray.nodes()[0]
print(ray.get_runtime_context().gcs_address,
      f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture
def cluster_with_agent() -> Iterator[tuple[dict[str, str], str, str]]:
    """Environment, address and metrics of a Ray cluster with what `ray[default]` brings."""
    if importlib.util.find_spec("opencensus") is None:
        pytest.skip("Ray's agent, which serves metrics, needs ray[default]")
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a" * 64,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    scratch = tempfile.mkdtemp(dir="/tmp")  # short: Ray's sockets have long names
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_AGENT, scratch],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address, metrics = process.stdout.readline().split()
        yield environment, address, metrics
    finally:
        process.stdin.close()
        process.wait(timeout=240)
        shutil.rmtree(scratch, ignore_errors=True)  # Ray's processes may still write there


@pytest.mark.ray
@pytest.mark.slow
def test_prometheus_collects_the_figures_of_all_workers(
    cluster_with_agent: tuple[dict[str, str], str, str], tmp_path: Path
) -> None:
    environment, address, metrics = cluster_with_agent
    habitual_stream().save(tmp_path / "habits")
    config = small_config(tmp_path / "habits")(preset="paper", training__epochs=2000)  # has a gate
    (tmp_path / "run.yaml").write_text(dump_yaml(config))
    collected = ""

    def found() -> bool:
        nonlocal collected
        time.sleep(0.5)
        with urllib.request.urlopen(metrics, timeout=240) as answer:
            collected = answer.read().decode()
        return "ray_pres_dist_epoch_workers_seconds_wait{" in collected

    arguments = ["run.yaml", "--run-dir", "live", "--address", address]
    with started(*arguments, cwd=tmp_path, environment=environment) as run:
        run.wait_until(found)
    lines = [line for line in collected.splitlines() if line.startswith("ray_pres_dist_")]
    for name in (
        "step_events_per_second",
        "step_worker_0_remote_bytes",
        "epoch_pending_events_mean",
        "epoch_coherence",
        "epoch_gate",
        "epoch_staleness",
    ):
        assert any(line.startswith(f"ray_pres_dist_{name}{{") for line in lines), name
    waits = [line for line in lines if "epoch_workers_seconds_wait" in line]
    assert len(waits) == 2
    assert all('run="live"' in line for line in waits)
