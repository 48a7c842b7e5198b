"""Every memory store against the contract."""

from __future__ import annotations

from pres_dist.memory.state import MemoryStore
from tests.memory.store_contract import StoreContract
from tests.support.store_of_all import make_local
from tests.support.store_rows import Layout


class TestLocalStore(StoreContract):
    def make_store(self, layout: Layout) -> MemoryStore:
        return make_local(layout)
