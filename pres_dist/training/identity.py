"""Taking over a checkpoint, if it is of the same events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pres_dist.errors import CheckpointError
from pres_dist.events.stream import EventStream
from pres_dist.parallel.whole_memory import load_memory
from pres_dist.training.checkpoint import Checkpoint
from pres_dist.training.setup import Parts


def fingerprint(stream: EventStream) -> dict[str, Any]:
    """What a checkpoint and a stream must agree on."""
    return {
        "stream": stream.name,
        "num_events": stream.num_events,
        "num_nodes": stream.num_nodes,
        "edge_dim": stream.edge_dim,
        "first_time": int(stream.t[0]),
        "last_time": int(stream.t[-1]),
    }


def check_same_events(stream: EventStream, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a checkpoint is of other events than the stream."""
    for name, value in fingerprint(stream).items():
        saved = state["fingerprint"][name]
        if saved != value:
            raise CheckpointError(
                f"the checkpoint is of other events: {name} was {saved}, and is {value} now"
            )


def load_model(parts: Parts, checkpoint: Checkpoint) -> None:
    """Take over weights and node state; CheckpointError if they are of other events."""
    check_same_events(parts.data.stream, checkpoint.state)
    parts.model.load_state_dict(checkpoint.state["model"])
    load_memory(parts.store, checkpoint.memory, parts.world)
