"""`pres-dist` as a worker on a simulated GPU, joined to others by simulated NCCL."""

from __future__ import annotations

import os
import sys
from unittest import mock

import torch

from pres_dist.cli.main import main
from tests.gpu import simulated_collectives  # noqa: F401

if __name__ == "__main__":
    torch.autograd.set_multithreading_enabled(False)  # see simulated.py
    if os.environ.get("PRES_DIST_TEST_DEVICE_UNSET"):
        with mock.patch("pres_dist.parallel.join.use_device"):
            sys.exit(main())
    sys.exit(main())
