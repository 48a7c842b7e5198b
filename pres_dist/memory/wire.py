"""Messages between workers and memory shards.

A message is a header of fixed size, followed by a payload of bytes if the header has a
nonzero payload size. A worker's messages to a shard arrive in the order in which they
were sent. A request gives the size of its answer, and the answer has exactly that size:
the worker can post the receive before the shard has the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import timedelta

import torch
from torch import Tensor
from torch.distributed import Work

from pres_dist.errors import StoreError, first_line
from pres_dist.memory.packing import fill_frame
from pres_dist.memory.shard_group import Group

_FOREVER = timedelta(days=3650)
"""Timeout of a shard waiting for the next message; a worker's exit ends the wait."""
_TEXT_ROOM = 1024
"""Smallest size of an answer in bytes, so that the text of an error fits."""

_TAG = 0
_ANSWER_HEADER = 2 * 8
"""Header of an answer in bytes: version of the shard, length of the error text."""


@dataclass(frozen=True)
class Header:
    """Header of a message to a shard; the fields are sent as int64, in this order.

    Attributes:
        kind: a `Kind`.
        incarnation: incarnation of the shard that the message is meant for.
        number: number of a write, or number of writes that a read requires.
        num_rows: number of rows in the payload.
        num_bytes: size of the payload.
        answer_bytes: size of the answer without its header; 0 for no answer.
        flag: for a push, whether to learn.
        seen: for a push, the version it was computed from; -1 for the current one.
    """

    kind: int
    incarnation: int
    number: int
    num_rows: int = 0
    num_bytes: int = 0
    answer_bytes: int = 0
    flag: int = 0
    seen: int = -1


class Link:
    """A worker's connection to one shard.

    Args:
        group: process group of all workers and shards.
        peer: rank of the shard in the group.
        name: name of the shard, for errors.
        timeout_s: seconds to wait until a message is received, or for an answer.
    """

    _MAX_IN_FLIGHT = 16

    def __init__(self, group: Group, peer: int, name: str, timeout_s: float) -> None:
        self._group, self._peer, self._name = group, peer, name
        self._timeout = timedelta(seconds=timeout_s)
        # Sends are asynchronous: a message must not be freed before its send has ended.
        self._sent: list[tuple[Work, Tensor]] = []

    def send(self, header: Header, payload: Tensor | None = None) -> None:
        """Send a message without waiting for it to arrive."""
        num_bytes = 0 if payload is None else payload.numel()
        header = replace(header, num_bytes=num_bytes)
        messages = [torch.tensor(astuple(header), dtype=torch.int64)]
        if payload is not None and num_bytes:
            messages.append(payload)
        self.settle(self._MAX_IN_FLIGHT)
        with self._clear_errors():
            for message in messages:
                self._sent.append((self._group.send([message], self._peer, _TAG), message))

    def request(
        self, header: Header, payload: Tensor, num_bytes: int
    ) -> Callable[[], tuple[int, Tensor]]:
        """Send a message that requests an answer of `num_bytes` bytes.

        Never raises, so that a caller querying several shards can still collect the other
        answers.

        Returns:
            a function that waits for the answer and returns the version of the shard and the
            requested bytes, or raises StoreError: the shard reported an error, or does not
            answer.
        """
        header = replace(header, answer_bytes=max(num_bytes, _TEXT_ROOM))
        frame = torch.empty(_ANSWER_HEADER + header.answer_bytes, dtype=torch.uint8)
        failure: StoreError | None = None
        try:
            with self._clear_errors():
                # Post the receive first, so that the answer has a buffer when it arrives.
                work = self._group.recv([frame], self._peer, _TAG)
            self.send(header, payload)
        except StoreError as error:
            failure = error

        def wait() -> tuple[int, Tensor]:
            if failure is not None:
                raise failure
            with self._clear_errors():
                work.wait(self._timeout)
            self.settle()
            version, text_bytes = frame[:_ANSWER_HEADER].view(torch.int64).tolist()
            body = frame[_ANSWER_HEADER:]
            if text_bytes:
                raise StoreError(f"{self._name}: {bytes(body[:text_bytes].tolist()).decode()}")
            return version, body[:num_bytes]

        return wait

    def settle(self, most: int = 0) -> None:
        """Wait until at most `most` messages are in flight."""
        with self._clear_errors():
            while len(self._sent) > most:
                work, _ = self._sent.pop(0)
                work.wait(self._timeout)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise StoreError(
                f"{self._name} does not answer ({first_line(error)}); what it held is lost, "
                "and the run must start again from its last checkpoint"
            ) from error


def receive_message(group: Group, worker: int) -> tuple[Header, Tensor]:
    """Receive the next message of a worker; raise RuntimeError if it has disconnected."""
    numbers = torch.empty(len(fields(Header)), dtype=torch.int64)
    group.recv([numbers], worker, _TAG).wait(_FOREVER)
    header = Header(*numbers.tolist())
    payload = torch.empty(header.num_bytes, dtype=torch.uint8)
    if header.num_bytes:
        group.recv([payload], worker, _TAG).wait(_FOREVER)
    return header, payload


def send_answer(
    group: Group,
    worker: int,
    header: Header,
    version: int = 0,
    columns: Sequence[Tensor] = (),
    error: str | None = None,
) -> None:
    """Answer a message with the requested columns, or with the text of an error instead."""
    # Cut to the room of an answer, at the start of a character.
    text = (error or "").encode()[:_TEXT_ROOM].decode(errors="ignore").encode()
    message = torch.empty(_ANSWER_HEADER + header.answer_bytes, dtype=torch.uint8)
    message[:_ANSWER_HEADER].view(torch.int64).copy_(torch.tensor([version, len(text)]))
    body = message[_ANSWER_HEADER:]
    if error is None:
        fill_frame(body, columns)
    else:
        body[: len(text)] = torch.tensor([*text], dtype=torch.uint8)
    group.send([message], worker, _TAG).wait(_FOREVER)
