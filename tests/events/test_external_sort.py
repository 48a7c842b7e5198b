from __future__ import annotations

import numpy as np
import pytest

from pres_dist.events.columns import ColumnFile, sort_by_time


def store(directory, **columns):
    for name, values in columns.items():
        width = values.shape[1] if values.ndim == 2 else 0
        column = ColumnFile(directory / f"{name}.npy", values.dtype, width)
        column.append(values)
        column.flush()
        column.close()


@pytest.mark.parametrize("seed", range(40))
def test_equals_a_stable_sort_in_memory(seed, tmp_path):
    random = np.random.default_rng(seed)
    events = int(random.integers(1, 3_000))
    t = random.integers(-5, random.choice([-4, 3, 10_000]), events)
    x, f = np.arange(events), random.random((events, 2), dtype=np.float32)
    store(tmp_path, t=t, x=x, f=f)
    sort_by_time(tmp_path, ["t", "x", "f"], memory_bytes=int(random.integers(1, 100_000)))
    order = np.argsort(t, kind="stable")
    for name, values in {"t": t, "x": x, "f": f}.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), values[order])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f.npy", "t.npy", "x.npy"]


def test_parts_stay_small_with_a_giant_tie(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    t = np.where(random.random(20_000) < 0.7, 500, random.integers(0, 1_000, 20_000))
    store(tmp_path, t=t)
    largest = 0

    def argsort(values, kind):
        nonlocal largest
        largest = max(largest, len(values))
        return np.lexsort((values,))

    monkeypatch.setattr("pres_dist.events.columns.np.argsort", argsort)
    sort_by_time(tmp_path, ["t"], memory_bytes=3 * 8 * 2_000)
    assert largest <= 2_000
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), np.sort(t))
