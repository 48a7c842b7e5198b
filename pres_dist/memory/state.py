"""Node state, and the protocol of the stores that hold it.

A node has a memory, the time it was last updated, and a mailbox of the raw
messages of the last temporal batch that touched it, not yet applied. A raw
message is stored in compact form: the other endpoint's memory, or its replacement in
some models, and the event id. The rest of a message is available elsewhere: the node's
own memory is in its row, and the features and the time of the event are looked up by
its id.

A rolling mailbox (FIFO, as in APAN) holds the last mails over all batches, applied or
not, including mail of neighbors' events. Its mail is the sum of both endpoints' memories.

Shapes: N nodes of the stream, U nodes of a request, D memory size, R mailbox slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from torch import Tensor

from pres_dist.pres.statistics import TransitionRows

NO_EVENT = -1
"""Event id of an empty mailbox slot."""
NEVER = -(1 << 63)
"""Last update of a node whose memory was never written."""


Tables = dict[str, dict[str, Tensor]]
"""State of a store: tables by name, for the parts `rows` and `statistics`."""


@dataclass(frozen=True)
class NodeState:
    """Rows of node state, as a store returns and accepts them.

    The order of the fields is the order of columns in messages and of tables in checkpoints.

    Attributes:
        memory_UD: float32.
        last_update_U: int64 time of the newest event in the memory, or NEVER.
        mail_memory_URD: float32, the other endpoint's memory at the time of the event, or its
            embedding then (DyRep); in a rolling mailbox the sum of both endpoints' memories.
        mail_event_UR: int64 event ids, oldest first, full slots before empty ones; in a
            rolling mailbox full slots are in any order.
        mail_count_U: int64 number of events in the mailbox; events beyond R are counted, but
            their messages are lost. For a rolling mailbox, number of mails since the memory
            was written, at most R.
    """

    memory_UD: Tensor
    last_update_U: Tensor
    mail_memory_URD: Tensor
    mail_event_UR: Tensor
    mail_count_U: Tensor

    def columns(self) -> list[Tensor]:
        """Return the columns, in the order of the fields."""
        return [*self.named().values()]

    def named(self) -> dict[str, Tensor]:
        """Return the columns by name, in the order of the fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_columns(cls, columns: Iterable[Tensor]) -> NodeState:
        """Return the rows whose `columns` are these."""
        return cls(*columns)

    def rows(self, index: Tensor) -> NodeState:
        """Return the rows at the given indices."""
        return NodeState.from_columns(each.index_select(0, index) for each in self.columns())


@dataclass(frozen=True)
class Pulled:
    """Answer of a store to a pull.

    Attributes:
        state: rows of the nodes, as copies.
        transitions: their statistics; None if the store has none.
        version: number of pushes included in the rows.
    """

    state: NodeState
    transitions: TransitionRows | None
    version: int

    def columns(self) -> list[Tensor]:
        """Return the columns of the state and of its statistics."""
        columns, known = self.state.columns(), self.transitions
        if known is not None:
            columns += [known.num_observed_U, known.rate_UD]
        return columns

    @classmethod
    def from_columns(cls, columns: Sequence[Tensor], version: int) -> Pulled:
        """Return the answer whose `columns` are these."""
        num_columns = len(fields(NodeState))
        state, known = NodeState.from_columns(columns[:num_columns]), columns[num_columns:]
        if not known:
            return cls(state, None, version)
        return cls(state, TransitionRows(*known), version)

    def rows(self, index: Tensor) -> Pulled:
        """Return the rows at the given indices, of the same version."""
        columns = [column.index_select(0, index) for column in self.columns()]
        return Pulled.from_columns(columns, self.version)


def elapsed_since(last_update: Tensor, t: Tensor) -> Tensor:
    """Return the int64 time from a node's last update to t; 0 for a node never updated."""
    # A product: `where` with a number of Python launches one kernel more on a GPU.
    return (t - last_update) * (last_update != NEVER)


class MemoryStore(Protocol):
    """Store of the state of all nodes. Ids in a request are distinct."""

    num_nodes: int
    dim: int
    num_slots: int
    rolling: bool
    """True if mailboxes are FIFO: `deliver` fills them, and `push` does not change them."""

    @property
    def observes(self) -> bool:
        """True if the transitions of negatives have a mixture component of their own."""

    @property
    def version(self) -> int:
        """Number of pushes since the last reset or load."""

    def pull(
        self,
        nodes_U: Tensor,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Pulled:
        """Return the state of the nodes and their transition statistics.

        The state includes all earlier pushes of this worker, and the pushes of the same
        steps of all other workers.

        Args:
            nodes_U: distinct ids.
            writes_U: bool, announces the rows that a later push of this worker will write,
                exactly and in this order. Pushes must then follow the order of their pulls,
                and need not send ids again. If None, nothing is announced. All workers
                must announce the same kinds.
            observes_U: bool, announces the rows of a later `observe` in the same way.
        """

    def push(self, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None = None) -> None:
        """Replace the rows of the nodes.

        Mailboxes are replaced as a whole: applied mail is removed, and the rows hold the
        messages of the current batch. Mail that arrived after the pull from which the rows
        were computed is unread: it is kept, within the limit of the newest R messages.
        Rolling mailboxes do not change, and the rows have no slots (R = 0).

        Args:
            nodes_U: distinct ids.
            state: their new rows.
            learn: whether the transition from the old to the new memory enters the
                statistics (training events only).
            seen: version of the pull; None for the current one, so that no mail is unread.
        """

    def deliver(self, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
        """Put mail into rolling mailboxes, each of which keeps its newest R mails by event id.

        Memory, last update, statistics and version do not change. Over the deliveries of
        all workers, a node receives each event once.

        Args:
            nodes_X: receivers, in any order; a node appears once for each of its mails.
            events_X: event ids.
            memory_XD: sums of both endpoints' memories.
        """

    def observe(self, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor) -> None:
        """Add transitions to the second mixture component without writing the memory."""

    def reset(self) -> None:
        """Clear all memory, mail and statistics."""

    def kept_nodes(self) -> Tensor:
        """Return the [S] ids of the nodes this worker saves; each node has exactly one worker."""

    def state_dict(self) -> Tables:
        """Return tables of S rows that restore these nodes bit for bit.

        The tables may share memory with the store. If other workers share the store, all
        workers must have made the same writes; they may continue during the call.
        """

    def load_state_dict(self, state: Tables) -> None:
        """Load the rows of these nodes from a `state_dict`; all workers must call this.

        Raises:
            CheckpointError: the tables have another layout.
        """
