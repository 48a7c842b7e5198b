"""Every memory store against the contract."""

from __future__ import annotations

from store_contract import Layout, StoreContract

from pres_dist.memory.local import LocalStore
from pres_dist.memory.state import MemoryStore


class TestLocalStore(StoreContract):
    def make_store(self, layout: Layout) -> MemoryStore:
        return LocalStore(layout.num_nodes, layout.dim, layout.num_slots, layout.statistics())
