"""1 - cosine(s(t1), s(t2)) and where its gradient goes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pres_dist.pres.coherence import incoherence

U, D = 20, 6


def random_states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    previous, updated = torch.randn(2, U, D)
    return previous, updated.requires_grad_(), torch.arange(U) % 3 != 0


def test_equals_one_minus_cosine():
    previous, updated, counts = random_states()
    result = incoherence(previous, updated, counts).detach()
    for node in range(U):
        before = previous[node].double().numpy()
        after = updated[node].detach().double().numpy()
        cosine = before @ after / math.sqrt((before @ before) * (after @ after))
        expected = 1 - cosine if counts[node] else 0.0
        assert float(result[node]) == pytest.approx(expected, abs=1e-6)
    assert torch.equal(result[~counts], torch.zeros(int((~counts).sum())))


def test_same_direction_0_opposite_direction_2():
    states = torch.randn(U, D)
    everyone = torch.ones(U, dtype=torch.bool)
    same = incoherence(states, 3 * states, everyone)
    opposite = incoherence(states, -0.1 * states, everyone)
    torch.testing.assert_close(same, torch.zeros(U), rtol=0, atol=1e-6)
    torch.testing.assert_close(opposite, torch.full((U,), 2.0), rtol=0, atol=1e-6)


def test_gradient_of_the_new_state():
    previous, updated, counts = random_states()
    incoherence(previous, updated, counts).sum().backward()
    assert previous.grad is None
    grad = updated.grad
    assert grad is not None
    assert torch.equal(grad[~counts], torch.zeros_like(grad[~counts]))
    for node in counts.nonzero().flatten().tolist():
        a = previous[node].double().numpy()
        b = updated[node].detach().double().numpy()
        norm_a, norm_b = np.linalg.norm(a), np.linalg.norm(b)
        expected = -(a / (norm_a * norm_b) - (a @ b) * b / (norm_a * norm_b**3))
        np.testing.assert_allclose(grad[node].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_for_the_old_state():
    previous, updated, counts = random_states()
    previous.requires_grad_()
    incoherence(previous, updated, counts).sum().backward()
    assert previous.grad is None or not previous.grad.any()


@pytest.mark.parametrize("zero", ["previous", "updated", "both"])
def test_zero_memory_gives_no_nan(zero):
    previous, updated, counts = random_states()
    with torch.no_grad():
        for name, states in (("previous", previous), ("updated", updated)):
            if zero in (name, "both"):
                states[:6] = 0
    result = incoherence(previous, updated, counts)
    result.sum().backward()
    assert result.isfinite().all()
    assert torch.equal(result[~counts], torch.zeros(int((~counts).sum())))
    grad = updated.grad
    assert grad is not None
    assert grad.isfinite().all()
    assert torch.equal(grad[~counts], torch.zeros_like(grad[~counts]))
