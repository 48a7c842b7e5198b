"""A run folder as a finished run leaves it, with made-up but plausible numbers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from pres_dist.config.run import RunConfig
from pres_dist.report.metrics_log import MetricsLog
from pres_dist.report.run_folder import create_run_folder
from pres_dist.run_files import RESULTS

EPOCHS, STEPS, BATCH = 5, 290, 800
SHARES = {
    "sample": 0.06,
    "pull": 0.04,
    "update": 0.22,
    "embed": 0.27,
    "loss": 0.05,
    "backward": 0.28,
    "optimizer": 0.03,
    "push": 0.05,
}


def validation(epoch: int, shift: float = 0.0) -> dict[str, Any]:
    """Metrics that rise towards 0.98 as epochs go by."""
    ap = 0.98 - 0.07 * math.exp(-epoch) - shift
    inductive = {"ap": ap - 0.02, "auc": ap - 0.015, "mrr": ap - 0.25, "num_events": 4012}
    return {"ap": ap, "auc": ap + 0.004, "mrr": ap - 0.2, "num_events": 50139} | {
        "ap_per_batch": ap + 0.001,
        "auc_per_batch": ap + 0.003,
        "inductive": inductive,
    }


def step_record(step: int, pres: bool, noise: random.Random) -> dict[str, Any]:
    link_loss = 0.25 + 0.45 * math.exp(-step / 200) + noise.gauss(0, 0.015)
    coherence = 0.4 * math.exp(-step / 400) + 0.05 + noise.gauss(0, 0.005)
    return {
        "kind": "step",
        "step": step,
        "epoch": (step - 1) // STEPS + 1,
        "events": ((step - 1) % STEPS + 1) * BATCH,
        "loss": link_loss + (0.1 * coherence if pres else 0),
        "link_loss": link_loss,
        "coherence": coherence if pres else None,
        "gate": 0.9 - 0.15 * (1 - math.exp(-step / 500)) if pres else None,
        "learning_rate": 0.002,
        "events_per_second": 9800 + noise.gauss(0, 400),
    }


def epoch_record(epoch: int, pres: bool, workers: int = 1) -> dict[str, Any]:
    return {
        "kind": "epoch",
        "step": epoch * STEPS,
        "epoch": epoch,
        "loss": 0.25 + 0.4 * math.exp(-epoch),
        "link_loss": 0.25 + 0.35 * math.exp(-epoch),
        "coherence": 0.1 if pres else None,
        "gate": 0.8 if pres else None,
        "prediction_error": 0.011 - 0.001 * epoch if pres else None,
        "persistence_error": 0.0095 if pres else None,
        "pending_events_mean": 7.4,
        "pending_events_max": 213,
        "pending_share": 0.61,
        "events_per_second": 9700.0 + 40 * epoch,
        "events_per_cpu_second": 9100.0,
        "seconds": 24.1,
        "stage_seconds": {name: 24.1 * share for name, share in SHARES.items()},
        "peak_rss_bytes": 812_000_000,
        "gradient_norm": 0.31,
        "workers": [worker_record(rank) for rank in range(workers)],
        "staleness": {"0": 1, "1": STEPS - 1} if workers > 1 else {"0": STEPS},
        "validation": validation(epoch),
    }


def worker_record(rank: int) -> dict[str, Any]:
    split = {"sample": 1.4, "pull": 2.2, "compute": 14.0, "push": 1.3, "all_reduce": 0.6}
    volume = {"local_rows": 900, "remote_rows": 1100, "local_bytes": 1.1e6, "remote_bytes": 1.4e6}
    return {
        "rank": rank,
        "host": "one",
        "seconds": {**split, "wait": 1.0 + rank},
        "cpu_seconds": 19.0,
        "peak_rss_bytes": 400_000_000,
        "traffic": dict.fromkeys(("pull", "push", "observe"), volume),
    }


def make_run(folder: Path, pres: bool = True, workers: int = 1, **config: Any) -> Path:
    """A run folder with everything but report.html."""
    if not pres:
        config["pres"] = {"prediction": False, "coherence_weight": 0.0}
    with create_run_folder(RunConfig.model_validate(config), folder) as lock:
        run_dir = lock.folder
    log, noise = MetricsLog(run_dir), random.Random(0)
    for step in range(1, EPOCHS * STEPS + 1):
        log.write(step_record(step, pres, noise))
        if step % STEPS == 0:
            log.write(epoch_record(step // STEPS, pres, workers))
    results = {
        "validation": validation(5),
        "test": validation(5, shift=0.004),
        "best_epoch": 5,
        "seconds": 132.4,
        "num_negatives": 20,
        "negatives": "random",
    }
    log.write({"kind": "final", "step": EPOCHS * STEPS, **results})
    log.close()
    (run_dir / RESULTS).write_text(json.dumps(results))
    return run_dir
