"""Runs of different models over one small stream, trained when they are first asked for."""

from __future__ import annotations

from pathlib import Path

from pres_dist.training.run import train
from tests.support.small_run import small_config

KINDS = ("tgn", "apan", "dyrep", "jodie", "tgat", "two slots")


def settings_of(kind: str) -> dict[str, object]:
    """Configurations that differ in what memory, mail and decoder read; one reads the event log."""
    kinds: dict[str, dict[str, object]] = {
        "two slots": {"memory.mailbox_slots": 2, "model.aggregator": "sequential"},
        "rates": {"preset": "paper", "pres.clock": "log"},
        "labels": {"task.kind": "node_classification", "data.stream": "labelled"},
        "talk": {"data.stream": "talks"},
        "history": {
            "model.decoder": "history",
            "sampling.negatives": "random 2, historical, popular",
            "sampling.num_negatives": 2,
        },
    }
    return {"model.decoder": "embeddings", **kinds.get(kind, {"model.kind": kind})}


def trained(runs: Path, kind: str = "tgn") -> Path:
    """The run of a kind, trained by the first test that asks."""
    run_dir = runs / kind
    if not run_dir.exists():
        settings = {**settings_of(kind), "training.epochs": 1}
        settings["data.stream"] = runs / str(settings.get("data.stream", "habits"))
        train(small_config(runs)(**settings), run_dir)
    return run_dir
