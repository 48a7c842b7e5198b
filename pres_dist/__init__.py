"""Trains memory-based dynamic graph neural networks (TGN, JODIE, DyRep) with PRES.

Importing the package imports neither torch nor numpy, Ray or DGL: the public
names below are loaded when they are first used.

    import pres_dist

    run = pres_dist.train("configs/quickstart.yaml", epochs=1)
    run.embed().to_pandas()
    run.recommend("N14228", top=5)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pres_dist.version import __version__

if TYPE_CHECKING:
    from pres_dist.config.run import RunConfig
    from pres_dist.events.stream import EventStream
    from pres_dist.inference.new_events import EventColumns
    from pres_dist.inference.node_table import NodeTable
    from pres_dist.inference.recommend import Recommendation
    from pres_dist.inference.run import Run, load_run, train
    from pres_dist.inference.serve.service import ScoringService
    from pres_dist.training.evaluate_run import evaluate_run
    from pres_dist.training.run import resume, start_or_resume

__all__ = [
    "EventColumns",
    "EventStream",
    "NodeTable",
    "Recommendation",
    "Run",
    "RunConfig",
    "ScoringService",
    "__version__",
    "evaluate_run",
    "load_run",
    "resume",
    "start_or_resume",
    "train",
]

_HOMES = {
    "EventColumns": "pres_dist.inference.new_events",
    "EventStream": "pres_dist.events.stream",
    "NodeTable": "pres_dist.inference.node_table",
    "Recommendation": "pres_dist.inference.recommend",
    "Run": "pres_dist.inference.run",
    "RunConfig": "pres_dist.config.run",
    "ScoringService": "pres_dist.inference.serve.service",
    "evaluate_run": "pres_dist.training.evaluate_run",
    "load_run": "pres_dist.inference.run",
    "resume": "pres_dist.training.run",
    "start_or_resume": "pres_dist.training.run",
    "train": "pres_dist.inference.run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
