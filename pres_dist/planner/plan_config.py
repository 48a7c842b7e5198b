"""Options of `pres-dist plan`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pres_dist.config.base import Config
from pres_dist.config.places import Place

SpreadPart = Literal["adjacency", "events", "destinations", "unseen"]


def _count(value: Any) -> Any:
    """Convert text such as `1e9` to an integer; return other values unchanged for validation.

    Raises:
        ValueError: the number is too large for any machine.
    """
    try:
        number = float(value.replace(",", "")) if isinstance(value, str) else value
    except ValueError:
        return value
    if isinstance(number, (int, float)) and number > 1e15:
        raise ValueError("must be at most 1e15")
    return int(number) if isinstance(number, float) and number.is_integer() else value


def _parts(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Count = Annotated[int, BeforeValidator(_count)]


class PlanConfig(Config):
    """The stream, the workers, and the limits of a plan."""

    workers: Count = Field(1, ge=1)
    """Total number of workers: slices x epochs x replicas."""
    nodes: Count = Field(0, ge=0)
    """Number of nodes of the stream, e.g. 1e9; 0 takes it from --stream."""
    events: Count = Field(0, ge=0)
    """Number of events of the stream, e.g. 1e11; 0 takes it from --stream."""
    stream: Place = ""
    """Directory or built-in name of a stream, on which the distinct nodes of a step are counted;
    without one, a power law is assumed."""
    sources: Count = Field(0, ge=0)
    """Number of source nodes, if all others are destinations; 0 if any node may be both."""
    zipf: float = Field(1.0, ge=0, le=3)
    """Exponent of the assumed power law: the r-th busiest node has events in proportion to
    r^-zipf."""
    repeat_share: float = Field(0.0, ge=0, le=1)
    """Assumed share of a node's recent events that repeat a recent partner; 0 gives the most
    traffic."""
    edge_features: Count = Field(0, ge=0)
    """Number of features of an event."""
    node_features: Count = Field(0, ge=0)
    """Number of features of a node."""
    machine: Place = ""
    """YAML file of a machine (--calibrate writes one), or name of a bundled one; by default, the
    bundled machine that was calibrated with the most similar model."""
    largest_batch: Count = Field(0, ge=0)
    """Largest temporal batch, in events, that accuracy allows; 0 takes the value measured for
    the preset (docs/explanation/pres.md)."""
    largest_epochs: Count = Field(2, ge=1)
    """Largest number of groups that draw their own negatives."""
    largest_replicas: Count = Field(1, ge=1)
    """Largest number of memory replicas; each costs accuracy (docs/guides/distributed.md)."""
    efficiency: float = Field(0.5, gt=0, lt=1)
    """Efficiency for which to report the temporal batch that reaches it."""
    spread: Annotated[list[SpreadPart], BeforeValidator(_parts)] = Field(default_factory=list)
    """Parts of memory to count as if they were sharded over workers, which this version does not
    support; comma-separated."""
    simulate: bool = False
    """Also simulate stragglers, slow shards and lost nodes for the plan."""
    mtbf_hours: float = Field(50_000, gt=0)
    """Mean time between failures of a node, in hours, for --simulate."""
    restart_seconds: float = Field(120, ge=0)
    """Seconds from a failure until training resumes, for --simulate."""
    price_per_hour: float = Field(0.0, ge=0)
    """Price of a node of the machine per hour, in any currency, to estimate the price of an epoch
    without a head node, storage and traffic; 0 if unknown."""
