"""A process that ends with the one that started it, also where that has died before it looked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launched import Launched, wait_until

CHILD = """
import os, sys, time
from pathlib import Path
from pres_dist.parallel import parent

if sys.argv[2] == "elsewhere":  # a system that does not send a signal
    parent._prctl = lambda *_: False
    parent._POLL_S = 0.1
os.environ["TORCHELASTIC_RUN_ID"] = "one"
if sys.argv[2] == "late":
    while os.getppid() == int(os.environ[parent.AGENT]):
        time.sleep(0.01)
    Path(sys.argv[1]).write_text(str(os.getpid()))
parent.end_with_agent()
Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(100)
"""
AGENT = f"""
import os, subprocess, sys, time
from pres_dist.parallel.parent import AGENT

os.environ[AGENT] = str(os.getpid())
subprocess.Popen([sys.executable, "-c", {CHILD!r}, *sys.argv[1:]], start_new_session=True)
time.sleep(float(sys.argv[3]))
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["kernel", "elsewhere", "late"])
def test_a_worker_ends_with_its_agent(tmp_path: Path, how: str) -> None:
    """Nothing of the launch is left, or `Launched` fails."""
    begun = tmp_path / "begun"
    alive_s = "0.1" if how == "late" else "100"
    with Launched([sys.executable, "-c", AGENT, str(begun), how, alive_s]) as launched:
        if how != "late":
            wait_until(begun.exists, launched)
            launched.process.kill()
        launched.wait()
        wait_until(begun.exists)


def test_without_an_agent_nothing_happens() -> None:
    code = "from pres_dist.parallel.parent import end_with_agent; end_with_agent(); print('lives')"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TORCHELASTIC")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "lives\n"
