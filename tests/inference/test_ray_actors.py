"""Actors of Ray that share the work on a run; in a process of its own, which Ray changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

SCRIPT = """
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path
import torch
from pres_dist.cli.options import WorkerOptions
from pres_dist.errors import ConfigError, WorkerLostError
from pres_dist.inference import embeddings
from pres_dist.inference.live import LiveRun
from pres_dist.inference.node_table import joined

class Refuse:
    def compute(self, live, report):
        raise ConfigError("must be another")

class Die:
    def compute(self, live, report):
        os.kill(os.getpid(), signal.SIGKILL)

embeddings.ROWS = 8
run = Path(sys.argv[1])
live = LiveRun(run)
with WorkerOptions(workers=2, address="local").sharing(live) as share:
    found = joined(list(embeddings.embed_nodes(live, live.latest, share=share)))
    for task, expected in ((Refuse, ConfigError), (Die, WorkerLostError)):
        try:
            list(share([task(), task(), task()]))
        except expected as error:
            print(error)
expected = joined(list(embeddings.embed_nodes(live, live.latest)))
print(found.ids.tolist() == expected.ids.tolist(), torch.equal(found.values, expected.values))
"""


@pytest.mark.ray
def test_actors_compute_the_same_bits_and_their_death_is_told(tgn_run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tgn_run)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    refused, died, same = done.stdout.splitlines()
    assert "Traceback" not in done.stderr
    assert refused == "must be another"
    assert died.startswith("worker 0 died, and the command with it")
    assert same == "True True"
