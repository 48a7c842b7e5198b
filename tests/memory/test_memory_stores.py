"""Every memory store against the contract."""

from __future__ import annotations

from store_contract import StoreContract
from store_of_all import make_local
from store_rows import Layout

from pres_dist.memory.state import MemoryStore


class TestLocalStore(StoreContract):
    def make_store(self, layout: Layout) -> MemoryStore:
        return make_local(layout)
