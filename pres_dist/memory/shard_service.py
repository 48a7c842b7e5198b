"""Network service of a `ShardServer`, with one thread per worker."""

from __future__ import annotations

from threading import Thread

import torch
from torch import Tensor

from pres_dist.errors import StoreError
from pres_dist.failpoint import failpoint, set_identity
from pres_dist.memory.packing import unpack_columns
from pres_dist.memory.placement import Placement
from pres_dist.memory.shard_group import Group, Rendezvous, join_group
from pres_dist.memory.shard_layout import Kind, MessageColumns, ShardLayout
from pres_dist.memory.shard_server import Part, ShardServer
from pres_dist.memory.wire import Header, receive_message, send_answer

_ROWS = [torch.empty(0, dtype=torch.int64)]


def serve_shard(server: ShardServer, layout: ShardLayout, group: Group) -> None:
    """Answer all workers until the last one has left or disconnected."""
    columns = MessageColumns(layout)
    threads = [
        Thread(target=_serve_worker, args=(server, columns, group, worker), daemon=True)
        for worker in range(server.world)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _serve_worker(server: ShardServer, columns: MessageColumns, group: Group, worker: int) -> None:
    lost_write: str | None = None
    try:
        while True:
            header, payload = receive_message(group, worker)
            if header.kind == Kind.LEAVE:
                return
            if not header.answer_bytes:
                try:
                    if lost_write is None:
                        _write(server, columns, worker, header, payload)
                except StoreError as error:
                    lost_write = str(error)
            elif lost_write is not None:
                # Writes have no answer, so the next read reports the error.
                send_answer(group, worker, header, error=lost_write)
            else:
                try:
                    found = _read(server, header, payload)
                except (StoreError, IndexError, RuntimeError) as error:
                    send_answer(group, worker, header, error=str(error))
                    continue
                # No write can have been applied since: it would need a part from this worker.
                send_answer(group, worker, header, server.shard.version, found)
    except RuntimeError:
        return  # the worker has disconnected; reads that need its parts raise
    finally:
        server.leave(worker)


def _write(
    server: ShardServer, columns: MessageColumns, worker: int, header: Header, payload: Tensor
) -> None:
    like = _ROWS + columns.written[header.kind]
    rows_X, *written = unpack_columns(payload, like, header.num_rows)
    seen = None if header.seen < 0 else header.seen
    part = Part(Kind(header.kind), rows_X, written, bool(header.flag), seen)
    if part.kind is Kind.PUSH:
        failpoint("before_push", header.number)
    server.write(worker, header.number, header.incarnation, part)
    if part.kind is Kind.PUSH:
        failpoint("after_push", header.number)


def _read(server: ShardServer, header: Header, payload: Tensor) -> list[Tensor]:
    (rows_X,) = unpack_columns(payload, _ROWS, header.num_rows)
    if header.kind == Kind.DUMP:
        return server.dump(header.number, header.incarnation, rows_X)
    return server.pull(header.number, header.incarnation, rows_X).columns()


def host_shard(
    rendezvous: Rendezvous,
    layout: ShardLayout,
    placement: Placement,
    shard: int,
    world: int,
    timeout_s: float,
    answer_s: float,
) -> None:
    """Run a shard: join the workers, then answer them until all have left.

    Args:
        rendezvous: rendezvous of workers and shards.
        layout: sizes of the rows.
        placement: mapping of nodes to shards.
        shard: number of this shard.
        world: number of workers, W.
        timeout_s: seconds to wait for the others to join.
        answer_s: seconds to wait for writes that a read needs.
    """
    set_identity(shard=shard)
    group = join_group(rendezvous, world + shard, world + placement.world, timeout_s)
    rows = layout.make(len(placement.nodes_of(shard)))
    server = ShardServer(rows, world, rendezvous.incarnation, answer_s)
    serve_shard(server, layout, group)
