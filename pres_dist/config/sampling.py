"""Configuration of neighbor and negative sampling in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator

from pres_dist.config.base import Config, Size

NegativeKind = Literal["random", "historical", "inductive"]
TrainingNegatives = Literal["random", "historical", "inductive", "popular"]
AdjacencyHome = Literal["auto", "memory", "disk"]


def shares_of(negatives: str) -> Mapping[TrainingNegatives, float]:
    """Return the share of each kind in a mixture such as `random 0.7, historical 0.3`.

    Raises:
        ValueError: not a mixture of known kinds.
    """
    weights: dict[TrainingNegatives, float] = {}
    for part in negatives.split(","):
        name, _, weight = part.strip().partition(" ")
        kind = next((kind for kind in get_args(TrainingNegatives) if kind == name), None)
        if kind is None or kind in weights:
            raise ValueError(_not_a_mixture(negatives))
        try:
            weights[kind] = float(weight or 1)
        except ValueError:
            raise ValueError(_not_a_mixture(negatives)) from None
        if not 0 < weights[kind] < float("inf"):
            raise ValueError(_not_a_mixture(negatives))
    total = sum(weights.values())
    return {kind: weight / total for kind, weight in weights.items()}


def _not_a_mixture(negatives: str) -> str:
    kinds = " | ".join(get_args(TrainingNegatives))
    return (
        f"must be {kinds}, or several of them, each with a share > 0 that is 1 unless it is given, "
        f"as in 'random 0.7, historical 0.3', got {negatives!r}"
    )


def _checked_mixture(negatives: str) -> str:
    shares_of(negatives)
    return negatives


class SamplingConfig(Config):
    """Temporal neighbors of a query and negative destinations of an event."""

    num_neighbors: Size = 10
    """Number of neighbors to sample for each query and hop."""
    strategy: Literal["recent", "uniform"] = "recent"
    """Sample the most recent earlier events of a node, or draw uniformly from all of them."""
    negatives: Annotated[str, AfterValidator(_checked_mixture)] = "random, historical"
    """Kind of negative destinations of training events: random | historical | inductive | popular,
    or a mixture such as `random 0.7, historical 0.3`. Historical and inductive negatives are
    earlier partners of the source, inductive ones first met in the later half of the events before;
    popular negatives are destinations of the last 1,000 events. With `model.decoder: history`,
    the loss corrects scores for the density of historical negatives in a mixture."""
    num_negatives: Size = 1
    """Number of negative destinations for each training event."""
    adjacency: AdjacencyHome = "auto"
    """Location of the sorted histories of nodes: in the memory of every worker, sorted at each
    start, or in a file that is written once, next to the stream or in the cache, and shared by all
    workers of a machine. `auto` is `disk` from 10 million events if a file can be written."""
