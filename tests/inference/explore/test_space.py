"""Nearest nodes and the map, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pres_dist.inference.explore import gather
from pres_dist.inference.explore.gather import nearest, plane


def test_nearest_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_CELLS", 16)
    embedded = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    nodes = torch.arange(20) * 3
    parts = list(zip(nodes.split(7), embedded.split(7), strict=True))
    chosen = torch.tensor([4, 11, 2])
    found, cosine = nearest(nodes[chosen], embedded[chosen], parts, 5)
    values = embedded.numpy() / np.linalg.norm(embedded.numpy(), axis=1, keepdims=True)
    all_cosines = values @ values.T
    np.fill_diagonal(all_cosines, -np.inf)
    order = np.argsort(-all_cosines[chosen], axis=1)[:, :5]
    np.testing.assert_array_equal(found.numpy(), nodes.numpy()[order])
    np.testing.assert_allclose(
        cosine.numpy(), np.take_along_axis(all_cosines[chosen], order, 1), atol=1e-6
    )


def test_fewer_candidates_than_asked_for() -> None:
    one = torch.ones(2, 3)
    found, _ = nearest(torch.tensor([5, 6]), one, [(torch.tensor([5, 6]), one)], 3)
    assert found.tolist() == [[6, -1, -1], [5, -1, -1]]


def test_the_map_is_the_principal_plane() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(40, 5)) * [5, 1, 3, 1, 1] + 7
    found, share = plane(torch.from_numpy(values))
    centered = values - values.mean(0)
    variance, axes = np.linalg.eigh(centered.T @ centered)
    expected = centered @ axes[:, [4, 3]]
    np.testing.assert_allclose(np.abs(found.numpy()), np.abs(expected), atol=1e-8)
    assert share == pytest.approx(variance[-2:].sum() / variance.sum())
    turned, _ = plane(torch.from_numpy(np.ascontiguousarray(values[::-1])))
    np.testing.assert_allclose(turned.numpy()[::-1], found.numpy(), atol=1e-8)


@pytest.mark.parametrize("shape", [(1, 4), (2, 1), (3, 2)])
def test_a_map_of_little(shape: tuple[int, int]) -> None:
    found, share = plane(torch.ones(shape))
    assert found.tolist() == [[0, 0]] * shape[0]
    assert share == 1
