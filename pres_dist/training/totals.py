"""What an epoch adds up, batch by batch, without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pres_dist.model.tgn import UpdatedMemory
from pres_dist.parallel.world import World
from pres_dist.training.loss import Loss

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
        device: where the sums are kept.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=device)
        self._pending_max = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, updated: UpdatedMemory, loss: Loss, norm: Tensor, pending_2B: Tensor) -> None:
        """Add one trained batch, or a time slice of it.

        Args:
            updated: memory of the slice's distinct nodes.
            loss: of the whole batch.
            norm: of the whole gradient.
            pending_2B: pending events of each endpoint of the slice, within the batch.
        """
        num_events = pending_2B.numel() // 2
        values = {
            "batches": 1,
            "events": num_events,
            "loss": loss.total * num_events,
            "link_loss": loss.link * num_events,
            "incoherence": loss.incoherence * num_events,
            "label_loss": loss.label * num_events,
            "gradient_norm": norm,
            "pending": pending_2B.sum(),
            "pending_endpoints": (pending_2B > 0).sum(),
            **_prediction_errors(updated),
        }
        device = self._sums.device
        self._sums += torch.stack(
            [torch.as_tensor(values[name], dtype=torch.float64, device=device) for name in _SUMS]
        )
        if num_events:
            self._pending_max = torch.maximum(self._pending_max, pending_2B.max())

    def add_up(self, world: World) -> None:
        """Replace the sums of this worker by those of all."""
        world.add_up(self._sums)
        world.largest(self._pending_max)

    def means(self) -> dict[str, float | None]:
        """Means over events, batches or nodes, under the names of metrics.jsonl."""
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

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "pending_max": self._pending_max}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums.copy_(state["sums"])
        self._pending_max.copy_(state["pending_max"])


def _prediction_errors(updated: UpdatedMemory) -> Mapping[str, Tensor | int]:
    """Squared distance from the measured state, of the prediction and of no change at all."""
    if updated.corrected is None:
        return {"predicted_nodes": 0, "prediction_error": 0, "persistence_error": 0, "gate": 0}
    known_U, gate = updated.corrected.known_U, updated.corrected.gate
    errors = {
        "prediction_error": updated.corrected.predicted_UD,
        "persistence_error": updated.previous_UD,
    }
    gate_U = known_U * 0.0 if gate is None else gate.expand_as(updated.memory_UD).mean(1)
    return {"predicted_nodes": known_U.sum(), "gate": (gate_U * known_U).sum()} | {
        name: ((guess_UD - updated.measured_UD).square().mean(1) * known_U).sum()
        for name, guess_UD in errors.items()
    }
