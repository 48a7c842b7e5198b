"""Network service of a `ShardServer`, with one thread per worker."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

import torch
from torch import Tensor

from pres_dist.errors import StoreError
from pres_dist.faults import failpoint, set_identity
from pres_dist.memory.frames import unpack_columns
from pres_dist.memory.rendezvous import Group, Rendezvous, join_group
from pres_dist.memory.shard_layout import ShardLayout, like_rows, pulled_columns, table_columns
from pres_dist.memory.shard_server import Part, ShardServer, WriteKind
from pres_dist.memory.wire import (
    Header,
    Kind,
    receive_message,
    send_answer,
    send_error,
)

_ROWS = [torch.empty(0, dtype=torch.int64)]


class Columns:
    """Types and row shapes of the columns in messages, for both ends of a link."""

    def __init__(self, layout: ShardLayout) -> None:
        empty = layout.make(0)
        nobody = torch.empty(0, dtype=torch.int64)
        pulled = empty.pull(nobody)
        state = pushed = pulled.state
        if layout.rolling:
            pushed = replace(layout, num_slots=0).make(0).pull(nobody).state
        self.pulled = [
            like_rows(pulled_columns(empty.pull(nobody, with_mixture)))
            for with_mixture in (False, True)
        ]
        self.tables = like_rows(table_columns(empty.state_dict()))
        self.written: dict[int, list[Tensor]] = {
            Kind.PUSH: like_rows([*vars(pushed).values()]),
            Kind.DELIVER: like_rows([nobody, state.memory_UD]),
            Kind.OBSERVE: like_rows([state.memory_UD, state.last_update_U]),
            Kind.LOAD: self.tables,
            Kind.RESET: [],
        }


def serve_shard(server: ShardServer, layout: ShardLayout, group: Group) -> None:
    """Answer all workers until the last one has left or disconnected."""
    columns = Columns(layout)
    threads = [
        Thread(target=_serve_worker, args=(server, columns, group, worker), daemon=True)
        for worker in range(server.world)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _serve_worker(server: ShardServer, columns: Columns, group: Group, worker: int) -> None:
    lost_write: str | None = None
    try:
        while True:
            header, payload = receive_message(group, worker)
            if header.kind == Kind.LEAVE:
                return
            if not header.answer_bytes:
                lost_write = lost_write or _write(server, columns, worker, header, payload)
            elif lost_write is not None:
                # Writes have no answer, so the next read reports the error.
                send_error(group, worker, header, lost_write)
            else:
                _read(server, columns, group, worker, header, payload)
    except RuntimeError:
        return  # the worker has disconnected; reads that need its parts raise
    finally:
        server.leave(worker)


def _write(
    server: ShardServer, columns: Columns, worker: int, header: Header, payload: Tensor
) -> str | None:
    """Apply a worker's part of a write; return the error text, if any."""
    try:
        like = _ROWS + columns.written[header.kind]
        rows_X, *written = unpack_columns(payload, like, header.num_rows)
        seen = None if header.seen < 0 else header.seen
        part = Part(WriteKind(header.kind), rows_X, written, bool(header.flag), seen)
        pushes = header.kind == Kind.PUSH
        if pushes:
            failpoint("before_push", header.number)
        server.write(worker, header.number, header.incarnation, part)
        if pushes:
            failpoint("after_push", header.number)
    except StoreError as error:
        return str(error)
    return None


def _read(
    server: ShardServer,
    columns: Columns,
    group: Group,
    worker: int,
    header: Header,
    payload: Tensor,
) -> None:
    (rows_X,) = unpack_columns(payload, _ROWS, header.num_rows)
    number, incarnation = header.number, header.incarnation
    try:
        if header.kind == Kind.DUMP:
            found = server.dump(number, incarnation, rows_X)
        else:
            found = pulled_columns(server.pull(number, incarnation, rows_X, bool(header.flag)))
    except (StoreError, IndexError, RuntimeError) as error:
        send_error(group, worker, header, str(error))
        return
    # No write can have been applied since: it would need a part from this worker.
    send_answer(group, worker, header, server.shard.version, found)


def host_shard(
    rendezvous: Rendezvous,
    layout: ShardLayout,
    num_rows: int,
    shard: int,
    world: int,
    num_shards: int,
    timeout_s: float,
    address: str | None = None,
    answer_s: float | None = None,
) -> None:
    """Run a shard: join the workers, then answer them until all have left.

    Args:
        rendezvous: rendezvous of workers and shards.
        layout: sizes of the rows.
        num_rows: number of rows of this shard.
        shard: its number among `num_shards`.
        world: number of workers, W.
        num_shards: number of shards, S.
        timeout_s: seconds to wait for the others to join.
        address: address at which others reach this process; see `join_group`.
        answer_s: seconds to wait for writes that a read needs; None uses `timeout_s`.
    """
    set_identity(shard=shard)
    size = world + num_shards
    group = join_group(rendezvous, world + shard, size, timeout_s, address)
    patience_s = timeout_s if answer_s is None else answer_s
    server = ShardServer(layout.make(num_rows), world, rendezvous.incarnation, patience_s)
    serve_shard(server, layout, group)
