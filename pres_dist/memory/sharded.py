"""Row-sharded node memory: rows are distributed over the workers of a process group.

Each node's row is stored by one worker, its owner, in a `LocalStore` of that worker's
rows: the shard. All methods that read or write nodes are collectives.

Shapes: N nodes of the stream, U nodes of a request, X rows that arrive at an owner,
P distinct rows among them, D memory size, R mailbox slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor

from pres_dist.memory.exchange import Delivery, RowExchange
from pres_dist.memory.local import LocalStore
from pres_dist.memory.merge import first_of_each, merge_rows
from pres_dist.memory.placement import Placement
from pres_dist.memory.state import NodeState, Pulled, Tables
from pres_dist.memory.traffic import Traffic, Volume


class ShardedStore:
    """Node state held by the workers of a process group. See `MemoryStore` for the methods.

    `pull`, `push`, `deliver` and `observe` are collectives: all workers call
    them in the same order, with the same flags, each with its own distinct ids, which
    may be none, on the device of the shard. An id outside the stream raises on the
    worker that would own it, as in `LocalStore`.

    A pull takes two exchanges. A push or an observation takes one exchange if a pull
    announced it, and two otherwise; a delivery of mail always takes two. Collectives may be
    called from any thread, one at a time, in the same order on all workers.

    In one push several workers may write the same node, each with the events of its own
    time slice: see `merge_rows`. It counts as one transition, and so does an
    observation by several workers.

    Args:
        shard: rows of this worker, `placement.nodes_of(rank)`, with statistics of equally many
            rows, or none.
        placement: owner and row of each node.
        group: process group of the workers; None is the default one.

    Raises:
        ValueError: the placement is for another number of workers or rows.
    """

    def __init__(
        self, shard: LocalStore, placement: Placement, group: dist.ProcessGroup | None = None
    ) -> None:
        self._exchange = RowExchange(placement, group)
        self._nodes_S = placement.nodes_of(self._exchange.rank)
        if shard.num_nodes != len(self._nodes_S):
            raise ValueError(
                f"the shard of worker {self._exchange.rank} must have {len(self._nodes_S)} rows, "
                f"got one of {shard.num_nodes}"
            )
        self.num_nodes, self.dim, self.num_slots = placement.num_nodes, shard.dim, shard.num_slots
        self.rolling, self.shard = shard.rolling, shard
        self.traffic = Traffic()
        # Announced deliveries that are still pending, oldest first.
        self._writes: deque[Delivery] = deque()
        self._observations: deque[Delivery] = deque()
        # Separate, because its blocks need a much larger capacity than pull blocks.
        self._post = RowExchange(placement, group)

    def pull(
        self,
        nodes_U: Tensor,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Pulled:
        observes_U = observes_U if self.observes else None
        request = self._exchange.request(nodes_U, self.traffic.pull, writes_U, observes_U)
        if request.written is not None:
            self._writes.append(request.written)
        if request.observed is not None:
            self._observations.append(request.observed)
        columns = self.shard.pull(request.rows_X).columns()
        received = self._exchange.reply(request, columns, self.traffic.pull)
        return Pulled.from_columns(received, self.version)

    def push(self, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None = None) -> None:
        """Replace rows, see `MemoryStore`.

        Raises:
            ValueError: the nodes differ from the announced ones.
        """
        rows_X, received = self._deliver(self._writes, nodes_U, state.columns(), self.traffic.push)
        # Received in rank order, so that merges keep the write of the earliest slice.
        arrived = NodeState.from_columns(received)
        self.shard.push(*merge_rows(rows_X, arrived), learn, seen)

    def deliver(self, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
        way = self._post.announce(nodes_X, self.traffic.push)
        columns = self._post.deliver(way, [events_X, memory_XD], self.traffic.push)
        self.shard.deliver(way.rows_X, *columns)

    @property
    def version(self) -> int:
        return self.shard.version

    def observe(self, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor) -> None:
        """Observe transitions, see `MemoryStore`.

        Raises:
            ValueError: the nodes differ from the announced ones.
        """
        if not self.observes:
            return  # on all workers alike
        rows_X, (memory_XD, last_update_X) = self._deliver(
            self._observations, nodes_U, [memory_UD, last_update_U], self.traffic.observe
        )
        rows_P, (memory_PD, last_update_P) = first_of_each(rows_X, memory_XD, last_update_X)
        self.shard.observe(rows_P, memory_PD, last_update_P)

    def _deliver(
        self,
        announced: deque[Delivery],
        nodes_U: Tensor,
        columns: Sequence[Tensor],
        volume: Volume,
    ) -> tuple[Tensor, list[Tensor]]:
        """Send rows to their owners, as announced; announce them now if nothing is pending."""
        if announced:
            announced[0].check(nodes_U)
            delivery = announced.popleft()
        else:
            delivery = self._exchange.announce(nodes_U, volume)
        return delivery.rows_X, self._exchange.deliver(delivery, columns, volume)

    @property
    def observes(self) -> bool:
        return self.shard.observes

    def reset(self) -> None:
        self._forget_announced()
        self.shard.reset()

    def kept_nodes(self) -> Tensor:
        return self._nodes_S

    def state_dict(self) -> Tables:
        return self.shard.state_dict()

    def load_state_dict(self, state: Tables) -> None:
        self._forget_announced()
        self.shard.load_state_dict(state)

    def _forget_announced(self) -> None:
        self._writes.clear()
        self._observations.clear()
