"""Memory store for a model without memory: it stores nothing and sends nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.memory.state import NEVER, NO_EVENT, NodeState, Pulled, Tables


class NullStore:
    """Rows without columns, identical on all workers. See `MemoryStore` for the methods."""

    dim = 0
    num_slots = 0
    rolling = False
    observes = False

    def __init__(self, num_nodes: int) -> None:
        self.num_nodes, self.version = num_nodes, 0

    def pull(
        self,
        nodes_U: Tensor,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Pulled:
        num, device = nodes_U.numel(), nodes_U.device
        state = NodeState(
            memory_UD=torch.zeros(num, 0, device=device),
            last_update_U=torch.full((num,), NEVER, device=device),
            mail_memory_URD=torch.zeros(num, 0, 0, device=device),
            mail_event_UR=torch.full((num, 0), NO_EVENT, device=device),
            mail_count_U=torch.zeros(num, dtype=torch.int64, device=device),
        )
        return Pulled(state, None, self.version)

    def push(self, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None = None) -> None:
        self.version += 1

    def observe(self, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor) -> None:
        pass

    def deliver(self, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
        pass

    def reset(self) -> None:
        self.version = 0

    def kept_nodes(self) -> Tensor:
        return torch.empty(0, dtype=torch.int64)

    def state_dict(self) -> Tables:
        return {"rows": {}, "statistics": {}}

    def load_state_dict(self, state: Tables) -> None:
        self.version = 0
