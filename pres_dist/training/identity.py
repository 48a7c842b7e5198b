"""Load a checkpoint if it is of the same events."""

from __future__ import annotations

from pres_dist.events.identity import check_same_events
from pres_dist.parallel.whole_memory import load_memory
from pres_dist.training.checkpoint import Checkpoint
from pres_dist.training.setup import Parts
from pres_dist.training.state import load_weights


def load_model(parts: Parts, checkpoint: Checkpoint) -> None:
    """Load weights and node state; raise CheckpointError if they are of other events."""
    state = checkpoint.training_state()
    check_same_events(parts.data.stream, state.fingerprint)
    load_weights(parts.model, state.model, str(checkpoint.file))
    load_memory(parts.store, checkpoint.memory, parts.world)
