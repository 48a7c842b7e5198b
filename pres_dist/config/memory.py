"""Size and home of the node memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config

PlacementKind = Literal["modulo", "streaming"]


class MemoryConfig(Config):
    """Per-node memory and the mailbox of raw messages not yet applied."""

    store: Literal["auto", "local", "sharded", "server"] = "auto"
    """Where node state lives: in the process (`local`, for one worker), with the workers
    (`sharded`), or in Ray actors with host memory of their own (`server`). `auto` is
    `local` for one worker and `sharded` for several."""
    dim: int = Field(100, ge=1)
    """Numbers in a node's memory."""
    mailbox_slots: int = Field(4, ge=1)
    """Last messages of a node within a temporal batch that are kept, in time order; with
    `model.updater: attention`, last mails that are kept over batches."""
    placement: PlacementKind = "modulo"
    """Who keeps a node's row: node ids dealt out in turn, or nodes that often meet together."""
    shards: int = Field(0, ge=0)
    """Ray actors that hold the memory, with `store: server`; 0 is as many as workers."""
    staleness: int = Field(0, ge=0)
    """Steps that memory may lag behind in training, so that it is read while a step computes.
    Must be 0 where several workers on GPUs share a memory, unless `store` is `server`."""
