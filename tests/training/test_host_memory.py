"""Memory that tensors leave stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from pres_dist.host_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()


def step():
    return [torch.ones(size * 100_000) for size in (100, 150)]


for _ in range(10):  # until the heap has settled
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(mode: str) -> int:
    """Of five rounds of two large tensors, freed together."""
    command = [sys.executable, "-c", PROGRAM, mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_tensors_reuse_the_pages_of_earlier_ones() -> None:
    assert _page_faults("keep") < _page_faults("by default") / 2
