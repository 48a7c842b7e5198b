"""Faults of a machine: two Ray nodes in network namespaces of this one, joined by a cable.

The first has the driver, two workers and a memory shard, the second the other shard.
"""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from leftovers import NETWORKS
from rehearsal import Launch, launch, ray

_CABLES = "faults-v1", "faults-v2"
_ADDRESSES = ("10.99.7.1", "10.99.7.2")
_MEMORY = ["--object-store-memory", str(80 << 20), "--disable-usage-stats"]


@dataclass(frozen=True)
class Node:
    """The second node: what may be done to it."""

    raylet: Launch

    def cut_off(self) -> None:
        """Nothing comes through any more, and no connection is reset."""
        as_root("ip", "netns", "exec", NETWORKS[1], "ip", "link", "set", _CABLES[1], "down")

    def die(self) -> None:
        for process in self.raylet.processes():
            process.kill()


def rehearse_node(
    folder: Path, draw: random.Random, happen: Callable[[Node], None]
) -> tuple[float, Launch]:
    """The job on both nodes, until the second is lost; when that was, and the driver's end."""
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    run, head = folder / "run", f"{_ADDRESSES[0]}:6379"
    with _two_nodes(environment) as second:
        driver = launch(
            _inside(0, ray(run, "--address", head, "--parallel.timeout_s", "15")), environment
        )
        driver.wait_until((run / "checkpoints" / "LATEST").exists)
        time.sleep(draw.uniform(0, 3))
        moment = time.time()
        happen(Node(second))
        return moment, driver.end()


@contextmanager
def _two_nodes(environment: dict[str, str]) -> Iterator[Launch]:
    with _network():
        program = str(Path(sys.executable).parent / "ray")
        start = [program, "start", "--block", *_MEMORY, "--node-ip-address"]
        first = launch(
            _inside(0, [*start, _ADDRESSES[0], "--head", "--num-cpus", "4"]), environment
        )
        second = None
        try:
            first.wait_until(lambda: "Ray runtime started" in first.text())
            join = ["--address", f"{_ADDRESSES[0]}:6379", "--num-cpus", "0"]
            second = launch(_inside(1, [*start, _ADDRESSES[1], *join]), environment)
            second.wait_until(lambda: "Ray runtime started" in second.text())
            yield second
        finally:
            for node in filter(None, (second, first)):
                node.stop()


@contextmanager
def _network() -> Iterator[None]:
    """PermissionError where this user may not make one."""
    try:
        for name in NETWORKS:
            as_root("ip", "netns", "add", name)
        as_root("ip", "link", "add", _CABLES[0], "type", "veth", "peer", "name", _CABLES[1])
        for name, cable, address in zip(NETWORKS, _CABLES, _ADDRESSES, strict=True):
            as_root("ip", "link", "set", cable, "netns", name)
            inside = ["ip", "netns", "exec", name, "ip"]
            as_root(*inside, "addr", "add", f"{address}/24", "dev", cable)
            for device in ("lo", cable):
                as_root(*inside, "link", "set", device, "up")
        yield
    finally:
        for name in NETWORKS:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def as_root(*command: str) -> None:
    """PermissionError where this user may not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(done.stderr.strip())


def _inside(number: int, command: list[str]) -> list[str]:
    return ["ip", "netns", "exec", NETWORKS[number], *command]
