"""Assignment of slices, epochs and replicas to workers."""

from __future__ import annotations

import pytest

from pres_dist.config.parallel import ParallelConfig
from pres_dist.errors import ConfigError
from pres_dist.parallel.grid import Grid, evaluation_grid, training_grid

SHAPES = [(1, 1, 1), (2, 1, 1), (4, 1, 1), (2, 2, 1), (2, 1, 2), (1, 2, 2), (2, 2, 2), (6, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_events", [0, 1, 5, 100])
def test_every_event_is_in_one_slice_of_every_group(
    shape: tuple[int, int, int], num_events: int
) -> None:
    slices, epochs, replicas = shape
    config = ParallelConfig(slices=slices, epochs=epochs, replicas=replicas)
    sizes = [n * epochs * replicas for n in range(1, slices + 1) if slices % n == 0]
    for size in sizes:
        parts: dict[tuple[int, int], list[int]] = {}
        for rank in range(size):
            grid = training_grid(config, rank, size)
            own = [
                event for part in grid.own_slices(num_events) for event in range(num_events)[part]
            ]
            parts.setdefault((grid.replica, grid.epoch), []).extend(own)
        assert set(parts) == {(r, e) for r in range(replicas) for e in range(epochs)}
        assert all(events == list(range(num_events)) for events in parts.values())


def test_the_order_of_parts_does_not_depend_on_the_workers() -> None:
    """Gradients are added up in this order."""

    def order(size: int) -> list[tuple[int, int, slice]]:
        config = ParallelConfig(slices=4, epochs=2, replicas=2)
        grids = [training_grid(config, rank, size) for rank in range(size)]
        return [(g.replica, g.epoch, part) for g in grids for part in g.own_slices(100)]

    assert order(4) == order(8) == order(16)


def test_as_many_slices_as_workers_unless_said() -> None:
    assert training_grid(ParallelConfig(), 2, 3).slices == 3
    assert training_grid(ParallelConfig(epochs=2), 2, 4).slices == 2


@pytest.mark.parametrize(
    ("config", "size", "text"),
    [
        (ParallelConfig(slices=2), 3, "slices must be a multiple of the 3 workers"),
        (ParallelConfig(slices=2), 4, "slices must be a multiple of the 4 workers"),
        (ParallelConfig(epochs=2), 3, "2 x 1 = 2, got 3"),
        (ParallelConfig(epochs=2, replicas=2), 2, "2 x 2 = 4, got 2"),
    ],
)
def test_workers_that_cannot_share_the_work_are_refused(
    config: ParallelConfig, size: int, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        training_grid(config, 0, size)


def test_evaluation_takes_any_number_of_workers() -> None:
    config = ParallelConfig(slices=4, epochs=2, replicas=3)
    assert [evaluation_grid(config, 0, size).slices for size in (1, 2, 3, 4, 5)] == [4, 4, 3, 4, 5]


def test_those_who_share_a_memory() -> None:
    grid = Grid(rank=5, size=8, slices=2, epochs=2, replicas=2)
    assert (grid.replica, grid.epoch, grid.in_last_replica) == (1, 0, True)
    assert grid.memory_ranks(1) == [4, 5, 6, 7]
    assert grid.last_replica_leader == 4
    own = grid.own_replica()
    assert (own.rank, own.size, own.epoch, own.replica) == (1, 4, 0, 0)
    assert own.own_slices(10) == grid.own_slices(10)
