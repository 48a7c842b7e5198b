"""The same training by pres_dist: TGN without PRES, every query embedded at its own time.

With `--defaults`, by the default settings of pres_dist, which are for accuracy at a large batch:
PRES, mailboxes of several messages, several optimizer steps a temporal batch, another rate.

    python ours.py data/wikipedia --batch 600
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from common import (
    DIM,
    EVALUATION_BATCH,
    NUM_HEADS,
    NUM_NEIGHBORS,
    RESULT,
    TRAIN_SHARE,
    VALIDATION_SHARE,
    Options,
    load,
    parse_options,
)

from pres_dist.config.load import load_config
from pres_dist.report.metrics_log import read_metrics
from pres_dist.run_files import METRICS
from pres_dist.training.run import train
from pres_dist.training.timing import peak_rss_bytes


def settings(options: Options) -> dict[str, object]:
    """Return the settings of the other systems' trainings, in the names of pres_dist."""
    same = {
        "preset": "none",
        "model.decoder": "embeddings",
        "sampling.negatives": "random",
        "training.optimizer": "adamw",
        "training.learning_rate": options.learning_rate,
        "training.learning_rate_scaling": "sqrt",
        "training.learning_rate_decay": "none",
    }
    return {
        **({} if options.defaults else same),
        "data.stream": options.stream.resolve(),
        **({"data.max_events": options.max_events} if options.max_events else {}),
        "data.train_share": TRAIN_SHARE,
        "data.validation_share": VALIDATION_SHARE,
        "memory.dim": DIM,
        "model.embedding_dim": DIM,
        "model.time_dim": DIM,
        "model.num_heads": NUM_HEADS,
        "sampling.num_neighbors": NUM_NEIGHBORS,
        "sampling.num_negatives": 1,
        "training.batch_size": options.batch,
        "training.epochs": options.epochs,
        "training.num_threads": options.threads,
        "training.seed": options.seed,
        "training.device": "cpu",
        "evaluation.batch_size": EVALUATION_BATCH,
        "evaluation.num_negatives": 1,
    }


def main() -> None:
    options = parse_options()
    arguments = [
        text for pair in settings(options).items() for text in (f"--{pair[0]}", str(pair[1]))
    ]
    with tempfile.TemporaryDirectory() as folder:
        train(load_config(None, arguments), Path(folder) / "run")
        records = read_metrics(Path(folder) / "run" / METRICS)
    epochs = [record for record in records if record["kind"] == "epoch"]
    events = load(options).train_end
    rows = [
        {
            "seconds": events / epoch["events_per_second"],
            "cpu_seconds": events / epoch["events_per_cpu_second"],
            "validation_ap": epoch["validation"]["ap"],
        }
        for epoch in epochs
    ]
    print(RESULT + json.dumps({"events": events, "epochs": rows, "peak_rss": peak_rss_bytes()}))


if __name__ == "__main__":
    main()
