"""Messages between workers and memory shards.

A message is a header of fixed size, followed by a payload of bytes if the header has a
nonzero payload size. A worker's messages to a shard arrive in the order in which they
were sent. A request gives the size of its answer, and the answer has exactly that size:
the worker can post the receive before the shard has the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum

import torch
from torch import Tensor
from torch.distributed import Work

from pres_dist.errors import StoreError
from pres_dist.memory.frames import fill_frame
from pres_dist.memory.rendezvous import Group, first_line

FOREVER_S = 10 * 365 * 86_400.0
"""Timeout of a shard waiting for the next message; a worker's exit ends the wait."""
TEXT_ROOM = 1024
"""Smallest size of an answer in bytes, so that the text of an error fits."""

_TAG = 0


class Kind(IntEnum):
    """Kind of a message. Kinds of writes have the values of `WriteKind`."""

    OBSERVE = 1
    PUSH = 2
    RESET = 3
    LOAD = 4
    PULL = 5
    DUMP = 6
    LEAVE = 7
    DELIVER = 8


@dataclass(frozen=True)
class Header:
    """Header of a message to a shard; all numbers are sent as int64.

    Attributes:
        kind: a `Kind`.
        incarnation: incarnation of the shard that the message is meant for.
        number: number of a write, or number of writes that a read requires.
        num_rows: number of rows in the payload.
        num_bytes: size of the payload.
        answer_bytes: size of the answer without its header; 0 for no answer.
        flag: for a pull, whether to return the mixture; for a push, whether to learn.
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

    def message(self) -> Tensor:
        return torch.tensor([*vars(self).values()], dtype=torch.int64)


_HEADER_NUMBERS = len(Header.__dataclass_fields__)
_ANSWER_NUMBERS = 2
_ANSWER_HEADER = _ANSWER_NUMBERS * 8


class Link:
    """A worker's connection to one shard.

    Args:
        group: process group of all workers and shards.
        peer: rank of the shard in the group.
        name: name of the shard, for errors.
        timeout_s: seconds to wait until a message is received, or for an answer.
    """

    _MOST_ON_THE_WAY = 16

    def __init__(self, group: Group, peer: int, name: str, timeout_s: float) -> None:
        self._group, self._peer, self._name = group, peer, name
        self._timeout = timedelta(seconds=timeout_s)
        self._sent: list[tuple[Work, Tensor]] = []

    def tell(self, header: Header, payload: Tensor | None = None) -> None:
        """Send a message without waiting for it to arrive."""
        if payload is not None and payload.numel():
            header = replace(header, num_bytes=payload.numel())
        with self._clear_errors():
            self._settle(self._MOST_ON_THE_WAY)
            self._send(header.message())
            if header.num_bytes:
                assert payload is not None
                self._send(payload)

    def ask(self, header: Header, payload: Tensor | None, num_bytes: int) -> Answer:
        """Send a message that requests an answer of `num_bytes` bytes.

        Never raises, so that a caller querying several shards can still collect the other
        answers.
        """
        header = replace(header, answer_bytes=max(num_bytes, TEXT_ROOM))
        frame = torch.empty(_ANSWER_HEADER + header.answer_bytes, dtype=torch.uint8)
        try:
            with self._clear_errors():
                # Post the receive first, so that the answer has a buffer when it arrives.
                work = self._group.recv([frame], self._peer, _TAG)
            self.tell(header, payload)
        except StoreError as error:
            return Answer(self, error, frame, num_bytes)
        return Answer(self, work, frame, num_bytes)

    def receive(self, work: Work, frame: Tensor, num_bytes: int) -> tuple[int, Tensor]:
        with self._clear_errors():
            work.wait(self._timeout)
            self._settle(0)
        version, text_bytes = frame[:_ANSWER_HEADER].view(torch.int64).tolist()
        if text_bytes:
            text = bytes(frame[_ANSWER_HEADER : _ANSWER_HEADER + text_bytes].tolist()).decode()
            raise StoreError(f"{self._name}: {text}")
        return version, frame[_ANSWER_HEADER : _ANSWER_HEADER + num_bytes]

    def settle(self) -> None:
        """Wait until all messages have been received."""
        with self._clear_errors():
            self._settle(0)

    def _send(self, message: Tensor) -> None:
        self._sent.append((self._group.send([message], self._peer, _TAG), message))

    def _settle(self, most: int) -> None:
        """Wait until at most `most` messages are in flight."""
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


@dataclass(frozen=True)
class Answer:
    """A pending answer, or the error of the request."""

    link: Link
    work: Work | StoreError
    frame: Tensor
    num_bytes: int

    def wait(self) -> tuple[int, Tensor]:
        """Wait for the answer; return the version of the shard and the requested bytes.

        Raises:
            StoreError: the shard reported an error, or does not answer.
        """
        if isinstance(self.work, StoreError):
            raise self.work
        return self.link.receive(self.work, self.frame, self.num_bytes)


def receive_message(group: Group, worker: int) -> tuple[Header, Tensor]:
    """Receive the next message of a worker; raise RuntimeError if it has disconnected."""
    numbers = torch.empty(_HEADER_NUMBERS, dtype=torch.int64)
    _take(group, numbers, worker)
    header = Header(*numbers.tolist())
    payload = torch.empty(header.num_bytes, dtype=torch.uint8)
    if header.num_bytes:
        _take(group, payload, worker)
    return header, payload


def send_answer(
    group: Group, worker: int, header: Header, version: int, columns: Sequence[Tensor]
) -> None:
    """Answer a message with the requested columns."""
    message, body = _answer(header, version, text_bytes=0)
    fill_frame(body, columns)
    _send_answer(group, worker, message)


def send_error(group: Group, worker: int, header: Header, text: str) -> None:
    """Answer a message with an error instead."""
    encoded = text.encode()[:TEXT_ROOM].decode(errors="ignore").encode()
    message, body = _answer(header, version=0, text_bytes=len(encoded))
    body[: len(encoded)] = torch.tensor([*encoded], dtype=torch.uint8)
    _send_answer(group, worker, message)


def _answer(header: Header, version: int, text_bytes: int) -> tuple[Tensor, Tensor]:
    """Return an answer of the requested length, and a view of the part after its header."""
    message = torch.empty(_ANSWER_HEADER + header.answer_bytes, dtype=torch.uint8)
    message[:_ANSWER_HEADER].view(torch.int64).copy_(torch.tensor([version, text_bytes]))
    return message, message[_ANSWER_HEADER:]


def _send_answer(group: Group, worker: int, message: Tensor) -> None:
    group.send([message], worker, _TAG).wait(timedelta(seconds=FOREVER_S))


def _take(group: Group, buffer: Tensor, worker: int) -> None:
    group.recv([buffer], worker, _TAG).wait(timedelta(seconds=FOREVER_S))
