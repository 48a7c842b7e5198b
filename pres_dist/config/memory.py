"""Configuration of the node memory: size and location."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config, Size


class MemoryConfig(Config):
    """Per-node memory and the mailbox of raw messages that are not yet applied."""

    store: Literal["auto", "local", "sharded", "server"] = "auto"
    """Location of node state: in the process (`local`, for one worker), sharded over the workers
    (`sharded`), or in Ray actors with host memory of their own (`server`). `auto` is
    `local` for one worker and `sharded` for several."""
    dim: Size = 100
    """Dimension of a node's memory."""
    mailbox_slots: Size = 4
    """Number of a node's last messages within a temporal batch to keep, in time order; with
    `model.updater: attention`, number of its last mails to keep across batches."""
    shards: int = Field(0, ge=0)
    """Number of Ray actors that hold the memory, with `store: server`; 0 means one per worker."""
    update: Literal["auto", "owner", "reader"] = "auto"
    """Worker that updates a node's memory in training: its owner, once for all time slices, or each
    slice that reads it. `owner` needs one optimizer step per temporal batch, no staleness, and
    messages that hold memory; `auto` is `owner` for several slices where that holds."""
    staleness: int = Field(0, ge=0)
    """Steps by which memory reads may be stale in training, to overlap them with computation.
    Must be 0 if several workers on GPUs share a memory, unless `store` is `server`."""
