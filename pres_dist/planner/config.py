"""What `pres-dist plan` is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pres_dist.config.base import Config
from pres_dist.config.places import Place

SpreadPart = Literal["adjacency", "events", "destinations", "unseen"]


def _count(value: Any) -> Any:
    """`1e9` as the integer that it is; what is none is left for the check."""
    if isinstance(value, str):
        try:
            number = float(value.replace(",", ""))
        except ValueError:
            return value
        return int(number) if number.is_integer() else value
    return value


def _parts(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Count = Annotated[int, BeforeValidator(_count)]


class PlanConfig(Config):
    """The stream, the workers, and what a plan may cost."""

    workers: Count = Field(1, ge=1)
    """Workers in all: slices x epochs x replicas."""
    nodes: Count = Field(0, ge=0)
    """Nodes of the stream, e.g. 1e9; 0 takes those of --stream."""
    events: Count = Field(0, ge=0)
    """Events of the stream, e.g. 1e11; 0 takes those of --stream."""
    stream: Place = ""
    """Directory of a stream, or a built-in name, whose batches tell how many distinct nodes a
    step touches; without one a power law is assumed."""
    sources: Count = Field(0, ge=0)
    """Nodes that are sources, the rest being destinations; 0 if any node may be both."""
    zipf: float = Field(1.0, ge=0, le=3)
    """Exponent of the assumed power law: events of the r-th busiest node go as r^-zipf."""
    repeat_share: float = Field(0.0, ge=0, le=1)
    """Assumed share of a node's recent events that repeat a recent partner; 0 is most traffic."""
    edge_features: Count = Field(0, ge=0)
    """Numbers in an event's features."""
    node_features: Count = Field(0, ge=0)
    """Numbers in a node's features."""
    machine: Place = ""
    """YAML file of a machine (--calibrate writes one), or the name of one that comes along; if
    not given, the one of these that was calibrated with the most similar model."""
    largest_batch: Count = Field(0, ge=0)
    """Largest temporal batch, in events, that accuracy allows; 0 takes what was measured for
    the preset (docs/pres.md)."""
    largest_epochs: Count = Field(2, ge=1)
    """Most groups with negatives of their own."""
    largest_replicas: Count = Field(1, ge=1)
    """Most memory replicas; each costs accuracy (docs/distributed.md)."""
    efficiency: float = Field(0.5, gt=0, lt=1)
    """Efficiency for which the temporal batch that it would take is told."""
    spread: Annotated[list[SpreadPart], BeforeValidator(_parts)] = Field(default_factory=list)
    """Parts of memory to count as if they were spread over workers, which this version does not
    do: what would be the plan if they were; comma-separated."""
    simulate: bool = False
    """Also simulate stragglers, slow shards and lost nodes for the plan."""
    mtbf_hours: float = Field(50_000, gt=0)
    """Mean time between failures of a node, in hours, for --simulate."""
    restart_seconds: float = Field(120, ge=0)
    """From a failure until training goes on, in seconds, for --simulate."""
    price_per_hour: float = Field(0.0, ge=0)
    """What a node of the machine costs an hour, in any currency; tells what an epoch costs, without
    a head node, storage and traffic. 0 where it is not known."""
    calibrate: Path | None = None
    """Measure this machine on CONFIG's stream and write the YAML file."""
