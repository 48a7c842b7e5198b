"""The state of a node, and the protocol of whatever keeps it.

A node has a memory, the time it was last updated, and a mailbox of the raw
messages of the last temporal batch that touched it, not yet applied. A raw
message is kept in its compact form: the other endpoint's memory, or what a model
puts in its place, and the event id. What else a message holds is known
elsewhere: the node's own memory is the stored one, the features and the time of
the event are looked up by its id.

A rolling mailbox (APAN) holds the last mails over all batches, applied or not, and
other nodes' events among them. Its mail is the sum of both endpoints' memories.

Shapes: N nodes of the stream, U nodes of a request, D memory size, R mailbox slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pres_dist.pres.transitions import TransitionRows

NO_EVENT = -1
"""Event id of an empty mailbox slot."""
NEVER = -(1 << 63)
"""Last update of a node whose memory was never written."""


@dataclass(frozen=True)
class NodeState:
    """Rows of node state, as a store hands them out and takes them back.

    Attributes:
        memory_UD: float32.
        last_update_U: int64 time of the newest event in the memory, or NEVER.
        mail_memory_URD: float32, the other endpoint's memory when the event happened, or
            its embedding then (DyRep); in a rolling mailbox the memories of both endpoints,
            added up.
        mail_event_UR: int64 event ids, oldest first, full slots before empty ones; in a
            rolling mailbox full slots are in any order.
        mail_count_U: int64, events that the mailbox stands for; those beyond R are
            counted, and their messages lost. For a rolling mailbox, mails that came since
            the memory was written, R at most.
    """

    memory_UD: Tensor
    last_update_U: Tensor
    mail_memory_URD: Tensor
    mail_event_UR: Tensor
    mail_count_U: Tensor


@dataclass(frozen=True)
class Pulled:
    """What a store hands out for a request.

    Attributes:
        state: rows of the nodes, as copies.
        transitions: their statistics; None when the store keeps none.
        version: pushes that the rows have seen.
    """

    state: NodeState
    transitions: TransitionRows | None
    version: int


def elapsed_since(last_update: Tensor, t: Tensor) -> Tensor:
    """int64 time from a node's last update to t; 0 for a node never updated."""
    return torch.where(last_update == NEVER, 0, t - last_update)


class MemoryStore(Protocol):
    """Keeps the state of all nodes. Ids in a request are distinct."""

    num_nodes: int
    dim: int
    num_slots: int
    rolling: bool
    """Whether mailboxes roll: `push` leaves them alone, and `deliver` fills them."""

    @property
    def version(self) -> int:
        """Pushes since the last reset or load."""

    def pull(
        self,
        nodes_U: Tensor,
        with_mixture: bool = False,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Pulled:
        """State of the nodes, and what is known of their transitions.

        It has seen all pushes that this worker has made before, and those of the same
        steps of all others.

        Args:
            nodes_U: distinct ids.
            with_mixture: whether the components of the transitions are wanted too.
            writes_U: bool, the rows that a later push of this worker will write, exactly
                and in this order. Pushes must then follow in the order of their pulls;
                in return ids need not travel again. None announces nothing. All workers
                announce alike.
            observes_U: bool, likewise the rows that a later `observe` will name.
        """

    def push(self, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None = None) -> None:
        """Replace the rows of the nodes.

        Mailboxes are replaced as a whole: applying a mail empties it, and the rows
        hold the messages of the present batch. Mail that came after the pull which the
        rows were computed from is unread: it stays, as far as there is room for the
        newest R messages. Rolling mailboxes stay as they are, and rows bring no slots
        (R = 0).

        Args:
            nodes_U: distinct ids.
            state: their new rows.
            learn: whether the step from the old memory to the new one enters the
                transition statistics (training events only).
            seen: version of the pull; None for the present one, so that no mail is unread.
        """

    def deliver(self, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
        """Put mail into rolling mailboxes, each of which keeps its newest R by event id.

        Memory and last update stay, nothing is learned, and the version does not change.
        In the deliveries of all workers together an event comes to a node once.

        Args:
            nodes_X: receivers, a node once for each of its mails; in any order.
            events_X: event ids.
            memory_XD: both endpoints' memory, added up.
        """

    def observe(self, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor) -> None:
        """Count transitions of the second mixture component without writing the memory."""

    def reset(self) -> None:
        """Forget everything: memory and mail empty, statistics zero."""

    def kept_nodes(self) -> Tensor:
        """[S] distinct ids of the nodes that this worker saves; of all workers, every node once."""

    def state_dict(self) -> dict[str, Any]:
        """Tables of S rows that restore these nodes to the last bit.

        They may change as the store does. Of a store that others share all workers must have
        made the same writes; they may go on meanwhile.
        """

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the rows of these nodes over, as `state_dict` gave them; all workers take part.

        Raises:
            CheckpointError: tables of another layout.
        """
