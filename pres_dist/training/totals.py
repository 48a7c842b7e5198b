"""Sums over the batches of an epoch, accumulated without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pres_dist.model.tgn import UpdatedMemory
from pres_dist.parallel.world import World
from pres_dist.records import EpochMeans
from pres_dist.training.step import StepResult, Update

_SUMS = (
    "batches",
    "events",
    "loss",
    "link_loss",
    "incoherence",
    "label_loss",
    "gradient_norm",
    "pending",
    "pending_endpoints",
    "predicted_nodes",
    "prediction_error",
    "persistence_error",
    "gate",
)


class EpochTotals:
    """Sums over the batches of an epoch, and the largest number of pending events.

    Args:
        device: device that holds the sums.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=device)
        self._pending_max = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, done: StepResult) -> None:
        """Add a trained temporal batch, or this worker's time slices of it.

        No Python number is converted to a tensor here: the copy to a GPU would be from memory
        that is not pinned, and would block the host.
        """
        # Part by part, so that float sums do not depend on how a worker's parts are grouped.
        for part, pending_2B in enumerate(done.pending):
            update = done.updates[part % len(done.updates)]
            num_events = pending_2B.numel() // 2
            self.add_sums(*part_sums(update, done.updated[part], pending_2B, num_events))

    def add_sums(self, sums: Tensor, pending_max: Tensor) -> None:
        """Add the results of `part_sums`."""
        self._sums += sums
        self._pending_max = torch.maximum(self._pending_max, pending_max)

    def all_reduce(self, world: World) -> None:
        """All-reduce the sums over workers, in place."""
        world.all_reduce(self._sums)
        world.all_reduce_max(self._pending_max)

    def means(self) -> EpochMeans:
        """Return means over events, batches or nodes, with the keys of metrics.jsonl."""
        sums = dict(zip(_SUMS, self._sums.tolist(), strict=True))
        events, nodes = max(sums["events"], 1), sums["predicted_nodes"]
        return {
            "loss": sums["loss"] / events,
            "link_loss": sums["link_loss"] / events,
            "label_loss": sums["label_loss"] / events,
            "coherence": 1 - sums["incoherence"] / events,
            "gradient_norm": sums["gradient_norm"] / max(sums["batches"], 1),
            "pending_events_mean": sums["pending"] / (2 * events),
            "pending_events_max": int(self._pending_max),
            "pending_share": sums["pending_endpoints"] / (2 * events),
            "prediction_error": sums["prediction_error"] / nodes if nodes else None,
            "persistence_error": sums["persistence_error"] / nodes if nodes else None,
            "gate": sums["gate"] / nodes if nodes and sums["gate"] else None,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums, to resume an epoch from."""
        return {"sums": self._sums, "pending_max": self._pending_max}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore sums from a `state_dict`."""
        self._sums.copy_(state["sums"])
        self._pending_max.copy_(state["pending_max"])


@torch.no_grad()
def part_sums(
    update: Update, updated: UpdatedMemory, pending_2B: Tensor, num_events: int | Tensor
) -> tuple[Tensor, Tensor]:
    """Return a part's sums, in the order of the epoch's, and its most pending events.

    Args:
        update: optimizer step that trained the part.
        updated: memory of the part's nodes.
        pending_2B: pending events of each endpoint; 0 for padding.
        num_events: number of events, without padding.
    """
    losses = update.loss.values() * num_events
    floats = torch.cat([losses, update.norm[None], *_errors(updated)]).double()
    corrected = updated.corrected
    known = pending_2B.new_zeros(()) if corrected is None else corrected.known_U.sum()
    events = num_events if isinstance(num_events, Tensor) else known.new_full((), num_events)
    most = pending_2B.amax() if pending_2B.numel() else known.new_zeros(())
    batches = torch.ones_like(known)
    integers = torch.stack([batches, events, pending_2B.sum(), (pending_2B > 0).sum(), known])
    head, tail = integers.double().split([2, 3])
    return torch.cat([head, floats[:5], tail, floats[5:]]), most


def _errors(updated: UpdatedMemory) -> Sequence[Tensor]:
    """Return the last three entries of `_SUMS`, together.

    They are sums over predicted nodes: the squared distance of the measured state from the
    prediction, its squared distance from the previous state, and the gate.
    """
    corrected = updated.corrected
    if corrected is None:
        return [updated.memory_UD.new_zeros(3)]
    known_U, gate = corrected.known_U, corrected.gate
    guesses = torch.stack([corrected.predicted_UD, updated.previous_UD])
    errors_2U = (guesses - updated.measured_UD).square().mean(2)
    gates = errors_2U.new_zeros(1) if gate is None else (known_U * gate).sum()[None]
    return [(errors_2U * known_U).sum(1), gates]
