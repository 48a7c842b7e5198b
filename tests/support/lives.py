"""A small run in processes that faults end: each life is a fork of one that has torch loaded.

lives = Lives(config_file, run, plan)
lives.until_done()      # [-9, -9, 0]
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pres_dist.report.metrics_log import read_metrics
from tests.support.fault_plan import FaultPlan

LIFE_S = 60


@dataclass
class Lives:
    """One worker's run with a plan of faults.

    Attributes:
        codes: exit codes of the lives so far; -9 of one that SIGKILL ended.
    """

    config_file: Path
    run: Path
    plan: FaultPlan
    codes: list[int | None] = field(default_factory=list)

    def until_done(self, most: int = 40) -> list[int | None]:
        """Live, and go on from what is left, until a life ends by itself."""
        while not self.codes or self.codes[-1] != 0:
            assert len(self.codes) < most, self.codes
            self.live()
        return self.codes

    def live(self) -> int | None:
        """One life: `train`, or `resume` once there is a checkpoint."""
        arguments = ["resume", str(self.run)]
        if not (self.run / "checkpoints" / "LATEST").exists():
            # A run that left no checkpoint begins anew, in a folder of its own.
            if self.run.exists():
                self.run.rename(self.run.with_name(f"died-{len(self.codes)}"))
            arguments = ["train", str(self.config_file), "--run-dir", str(self.run)]
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["torch.distributed", "pres_dist.training.run"])
        marks = self.run.parent / "marks"
        life = context.Process(target=_live, args=(arguments, self.plan.environment(marks)))
        life.start()
        life.join(LIFE_S)
        assert life.exitcode is not None, "a life does not end"
        self.codes.append(life.exitcode)
        return life.exitcode

    def happened(self) -> int:
        return len(list((self.run.parent / "marks").glob("fault-*")))


def _live(arguments: list[str], environment: dict[str, str]) -> None:
    from pres_dist.cli.main import entry

    os.environ |= environment
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(1)
    import sys

    sys.argv = ["pres-dist", *arguments]
    entry()


def end_of(run: Path) -> dict[str, Any]:
    """Return the results, steps and weights of a run, equal for two runs of the same bits."""
    results = json.loads((run / "results.json").read_text())
    records = read_metrics(run / "metrics.jsonl")
    newest = run / "checkpoints" / (run / "checkpoints" / "LATEST").read_text().strip()
    model = torch.load(newest / "state.pt", weights_only=True)["model"]
    return {
        "results": {name: value for name, value in results.items() if name != "seconds"},
        "steps": [(r["step"], r["loss"]) for r in records if r["kind"] == "step"],
        "weights": {name: weight.tolist() for name, weight in model.items()},
    }
