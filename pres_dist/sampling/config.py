"""How neighbours and negatives are drawn in training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config

NegativeKind = Literal["random", "historical", "inductive"]
AdjacencyHome = Literal["auto", "memory", "disk"]


class SamplingConfig(Config):
    """Temporal neighbours of a query and negative destinations of an event."""

    num_neighbours: int = Field(10, ge=1)
    """Neighbours drawn for each query and hop."""
    strategy: Literal["recent", "uniform"] = "recent"
    """The most recent earlier events of a node, or a uniform draw over all of them."""
    negatives: Literal["random", "historical"] = "random"
    """Where negative destinations of training events come from."""
    num_negatives: int = Field(1, ge=1)
    """Negative destinations for each training event."""
    adjacency: AdjacencyHome = "auto"
    """Where the sorted histories of nodes are: in the memory of every worker, sorted at each start,
    or in a file that is made once, beside the stream or in the cache, and that all workers of a
    machine share. `auto` is `disk` from 10 million events, where a file can be written."""
