"""Messages between workers and memory shards.

A message is a header of fixed size and, if that says so, a payload of bytes. Messages
of a worker to a shard arrive in the order in which they were sent. A worker that wants
an answer says how long that may be, and gets one of exactly that length: it can wait
for the answer before the shard knows it.
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
"""For a shard that waits for the next message; the end of its worker ends the wait."""
TEXT_ROOM = 1024
"""Bytes that an answer has at least, so that there is room for the text of an error."""

_TAG = 0


class Kind(IntEnum):
    """What a message asks for. Those of writes are as in `WriteKind`."""

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
    """Beginning of a message to a shard; all numbers are int64 on the way.

    Attributes:
        kind: of `Kind`.
        incarnation: that the message is meant for.
        number: of a write its own, of a read the writes it must have seen.
        num_rows: rows in the payload.
        num_bytes: of the payload.
        answer_bytes: of the answer after its own header; 0 wants none.
        flag: of a pull, whether with the mixture; of a push, whether to learn.
        seen: of a push, the version it was computed from; -1 for the present one.
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
    """A worker's end of the way to one shard.

    Args:
        group: of all workers and shards.
        peer: the shard's rank there.
        name: the shard, in errors.
        timeout_s: seconds that a message may take to be taken, or an answer to come.
    """

    _MOST_ON_THE_WAY = 16

    def __init__(self, group: Group, peer: int, name: str, timeout_s: float) -> None:
        self._group, self._peer, self._name = group, peer, name
        self._timeout = timedelta(seconds=timeout_s)
        self._sent: list[tuple[Work, Tensor]] = []

    def tell(self, header: Header, payload: Tensor | None = None) -> None:
        """Send a message and do not wait for it to arrive."""
        if payload is not None and payload.numel():
            header = replace(header, num_bytes=payload.numel())
        with self._clear_errors():
            self._settle(self._MOST_ON_THE_WAY)
            self._send(header.message())
            if header.num_bytes:
                assert payload is not None
                self._send(payload)

    def ask(self, header: Header, payload: Tensor | None, num_bytes: int) -> Answer:
        """Send a message that wants an answer of so many bytes.

        Raises nothing, so that who asks many can wait for those that do answer.
        """
        header = replace(header, answer_bytes=max(num_bytes, TEXT_ROOM))
        frame = torch.empty(_ANSWER_HEADER + header.answer_bytes, dtype=torch.uint8)
        try:
            with self._clear_errors():
                # First of all, so that the answer finds its place when it comes.
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
        """Wait until all messages have been taken."""
        with self._clear_errors():
            self._settle(0)

    def _send(self, message: Tensor) -> None:
        self._sent.append((self._group.send([message], self._peer, _TAG), message))

    def _settle(self, most: int) -> None:
        """Wait until no more than so many messages are on the way."""
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
    """An answer that was asked for and may not be there yet, or why it will not come."""

    link: Link
    work: Work | StoreError
    frame: Tensor
    num_bytes: int

    def wait(self) -> tuple[int, Tensor]:
        """Version of the shard, and the bytes asked for.

        Raises:
            StoreError: with the text of the shard, or that it does not answer.
        """
        if isinstance(self.work, StoreError):
            raise self.work
        return self.link.receive(self.work, self.frame, self.num_bytes)


def receive_message(group: Group, worker: int) -> tuple[Header, Tensor]:
    """The next message of a worker; RuntimeError when it is gone."""
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
    """Answer a message with the columns it asked for."""
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
    """An answer of the length that was asked for, and the part after its header."""
    message = torch.empty(_ANSWER_HEADER + header.answer_bytes, dtype=torch.uint8)
    message[:_ANSWER_HEADER].view(torch.int64).copy_(torch.tensor([version, text_bytes]))
    return message, message[_ANSWER_HEADER:]


def _send_answer(group: Group, worker: int, message: Tensor) -> None:
    group.send([message], worker, _TAG).wait(timedelta(seconds=FOREVER_S))


def _take(group: Group, buffer: Tensor, worker: int) -> None:
    group.recv([buffer], worker, _TAG).wait(timedelta(seconds=FOREVER_S))
