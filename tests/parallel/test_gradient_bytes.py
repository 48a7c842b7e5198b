"""The reported bytes of gradients are those that the collectives send."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pres_dist.parallel import world
from pres_dist.parallel.grid import Grid
from pres_dist.parallel.world import World


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize(("num_parts", "length"), [(1, 9), (2, 16), (3, 1)])
def test_bytes_are_those_of_the_collectives(
    size: int, num_parts: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def exchange(_received: Tensor, tensor: Tensor, **_: Any) -> None:
        """Every worker but this one gets its share."""
        sent.append(tensor.nbytes * (size - 1) // size)

    def gather(_received: Tensor, tensor: Tensor, **_: Any) -> None:
        sent.append(tensor.nbytes * (size - 1))

    monkeypatch.setattr(world.dist, "all_to_all_single", exchange)
    monkeypatch.setattr(world.dist, "get_backend", lambda _group: "nccl")
    monkeypatch.setattr(world, "_all_gather", gather)
    alone = World(Grid(0, size, size))
    parts_Ln = torch.zeros(num_parts, length)
    alone.all_reduce_parts(parts_Ln)
    assert alone.bytes_to_all_reduce(parts_Ln) == sum(sent)
