"""Prediction and correction of PRES against its equations, node by node in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pres_dist.pres.clock import ClockKind, TransitionClock
from pres_dist.pres.correction import PresCorrection, draw_rates
from pres_dist.pres.transitions import Mixture, TransitionRows
from tests.support.by_rates import by_rates

U, D, UNIT = 30, 5, 6.0
CLOCKS = pytest.mark.parametrize("clock", ["time", "log", "event"])


def lengths(clock: ClockKind, elapsed_U: torch.Tensor, events_U: torch.Tensor) -> list[float]:
    units = [int(elapsed) / UNIT for elapsed in elapsed_U]
    if clock == "event":
        return [float(n) * (unit > 0) for unit, n in zip(units, events_U, strict=True)]
    return [math.log1p(unit) if clock == "log" else unit for unit in units]


class Case:
    """Random states; nodes with and without transitions, elapsed times with and without zero."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.previous, self.measured, self.rate, self.drawn = torch.randn(
            4, U, D, generator=generator
        )
        self.elapsed = torch.randint(1, 50, (U,), generator=generator)
        self.elapsed[::3] = 0
        self.observed = torch.randint(1, 9, (U,), generator=generator)
        self.observed[::4] = 0
        self.events = torch.randint(1, 6, (U,), generator=generator)
        self.transitions = TransitionRows(self.observed, self.rate, None)

    def length(self, correction: PresCorrection) -> torch.Tensor:
        return correction.clock(self.elapsed, self.events)

    @property
    def known(self) -> torch.Tensor:
        return (self.observed > 0) & (self.elapsed > 0)


def build(clock: ClockKind = "log", gate: float = 0.7) -> PresCorrection:
    config = by_rates(clock=clock, initial_gate=gate)
    return PresCorrection(config, D, TransitionClock(clock, UNIT))


@CLOCKS
@pytest.mark.parametrize("gate", [0.05, 0.7])
@pytest.mark.parametrize("drawn", [False, True], ids=["mean", "drawn"])
def test_equals_the_equations(clock, gate, drawn):
    case = Case()
    rate = case.drawn if drawn else case.rate
    correction = build(clock, gate)
    corrected = correction(
        case.previous,
        case.measured,
        case.length(correction),
        case.transitions,
        case.drawn if drawn else None,
    )
    for node, duration in enumerate(lengths(clock, case.elapsed, case.events)):
        measured = case.measured[node].double().numpy()
        predicted = measured
        if case.observed[node] > 0 and duration > 0:
            previous, drift = case.previous[node].double(), rate[node].double()
            predicted = (previous + duration * drift).numpy()
        expected = (1 - gate) * predicted + gate * measured
        np.testing.assert_allclose(corrected.predicted_UD[node], predicted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            corrected.memory_UD[node].detach(), expected, rtol=1e-5, atol=1e-5
        )
    assert torch.equal(corrected.known_U, case.known)


@CLOCKS
def test_measured_state_is_kept_where_nothing_is_known(clock):
    case = Case()
    case.rate[~case.known] = 1e30  # whatever a store hands out
    correction = build(clock)
    length = case.length(correction)
    corrected = correction(case.previous, case.measured, length, case.transitions)
    unknown = ~case.known
    assert {bool(observed) for observed in case.observed[unknown] > 0} == {True, False}
    assert torch.equal(corrected.memory_UD[unknown], case.measured[unknown])
    assert (corrected.memory_UD[case.known] != case.measured[case.known]).any(1).all()


@pytest.mark.parametrize("gate", [1e-6, 0.1, 0.5, 0.9, 0.999])
def test_gate_starts_as_configured_and_stays_between_0_and_1(gate):
    correction = build(gate=gate)
    assert correction.gate.item() == pytest.approx(gate, rel=1e-3)
    optimizer = torch.optim.SGD(correction.parameters(), lr=1.0)
    for sign in (1, -1):
        for _ in range(8):
            optimizer.zero_grad()
            (sign * correction.gate).backward()
            optimizer.step()
            assert 0 < correction.gate.item() < 1


def test_gradient_of_the_gate():
    case, correction = Case(), build(gate=0.7)
    upstream = torch.randn(U, D, generator=torch.Generator().manual_seed(1))
    length = case.length(correction)
    corrected = correction(case.previous, case.measured, length, case.transitions)
    (corrected.memory_UD * upstream).sum().backward()
    difference = (case.measured - corrected.predicted_UD).double()
    expected = 0.7 * 0.3 * float((difference * upstream).sum())
    assert correction.gate_logit.grad is not None
    assert float(correction.gate_logit.grad) == pytest.approx(expected, rel=1e-4)


def test_measured_state_gets_the_share_of_the_gate_as_gradient():
    case, correction = Case(), build(gate=0.7)
    case.measured.requires_grad_()
    length = case.length(correction)
    corrected = correction(case.previous, case.measured, length, case.transitions)
    corrected.memory_UD.sum().backward()
    grad = case.measured.grad
    assert grad is not None
    torch.testing.assert_close(grad[case.known], torch.full_like(grad[case.known], 0.7))
    torch.testing.assert_close(grad[~case.known], torch.ones_like(grad[~case.known]))


def mixture_of(num_nodes: int, weights: list[float], dim: int = 3) -> Mixture:
    """The same mixture for every node: means and variances differ by component and axis."""
    components = len(weights)
    mean = torch.tensor([[1.0, -2.0, 0.5], [-3.0, 1.0, 0.5]])[:components, :dim]
    variance = torch.tensor([[0.5, 0.0, 2.0], [1.5, 1.0, 0.1]])[:components, :dim]
    return Mixture(
        torch.tensor(weights).expand(num_nodes, components),
        mean.expand(num_nodes, components, dim),
        variance.expand(num_nodes, components, dim),
    )


def some(mixture: Mixture, rows: torch.Tensor) -> Mixture:
    return Mixture(*(table[rows] for table in vars(mixture).values()))


def random_mixture(num_nodes: int) -> Mixture:
    generator = torch.Generator().manual_seed(3)
    share = torch.rand(num_nodes, 1, generator=generator)
    mean, variance = torch.rand(2, num_nodes, 2, 3, generator=generator)
    return Mixture(torch.cat([share, 1 - share], dim=1), mean, variance)


def test_draws_are_a_function_of_seed_node_and_event():
    nodes, events = torch.arange(50) * 7, torch.arange(50) % 5
    mixture = mixture_of(50, [0.4, 0.6])
    first = draw_rates(mixture, nodes, events, seed=1)
    torch.rand(10)
    assert torch.equal(first, draw_rates(mixture, nodes, events, seed=1))
    for other in (
        draw_rates(mixture, nodes, events, seed=2),
        draw_rates(mixture, nodes + 1, events, seed=1),
        draw_rates(mixture, nodes, events + 1, seed=1),
    ):
        # The second axis has no variance in one component, so that only some differ.
        assert (first[:, 0] != other[:, 0]).all()


def test_draws_do_not_depend_on_the_request():
    nodes, events, mixture = torch.arange(60) * 10**9, torch.arange(60) - 1, random_mixture(60)
    whole = draw_rates(mixture, nodes, events, seed=4)
    assert whole.dtype == torch.float32
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    permuted = draw_rates(some(mixture, order), nodes[order], events[order], seed=4)
    assert torch.equal(permuted, whole[order])
    for rows in order.split(7):
        alone = draw_rates(some(mixture, rows), nodes[rows], events[rows], seed=4)
        assert torch.equal(alone, whole[rows])


@pytest.mark.parametrize("weights", [[0.3, 0.7], [1.0]])
def test_moments_of_the_draws(weights):
    num = 40_000
    mixture = mixture_of(num, weights)
    draws = draw_rates(mixture, torch.arange(num), torch.full((num,), 12), seed=9).double()
    weight = mixture.weight_UC[0, :, None].double()
    mean_CD, variance_CD = mixture.mean_UCD[0].double(), mixture.variance_UCD[0].double()
    mean = (weight * mean_CD).sum(0)
    variance = (weight * (variance_CD + mean_CD**2)).sum(0) - mean**2
    # Five standard errors of a mean, and four in a hundred of a variance.
    assert ((draws.mean(0) - mean).abs() <= 5 * (variance / num).sqrt() + 1e-6).all()
    torch.testing.assert_close(draws.var(0), variance, rtol=0.04, atol=1e-6)


def test_moments_within_each_component():
    """A node's axes all come from one component, and are independent within it."""
    num = 40_000
    mixture = mixture_of(num, [0.3, 0.7])
    draws = draw_rates(mixture, torch.arange(num), torch.full((num,), 12), seed=9).double()
    # The second axis has no variance in the first component: exactly its mean gives it away.
    first = draws[:, 1] == -2.0
    assert float(first.double().mean()) == pytest.approx(0.3, abs=0.012)
    for component, rows in enumerate((draws[first], draws[~first])):
        deviation = mixture.variance_UCD[0, component].double().sqrt()
        normal = (rows - mixture.mean_UCD[0, component].double()) / deviation.clamp(min=1e-9)
        varying = deviation > 0
        covariance = torch.cov(normal[:, varying].T)
        torch.testing.assert_close(
            covariance, torch.eye(len(covariance)).double(), rtol=0, atol=0.06
        )
        assert normal[:, varying].mean(0).abs().max() < 0.05


def test_a_component_without_weight_is_never_drawn():
    for weights, mean in (([1.0, 0.0], -2.0), ([0.0, 1.0], 1.0)):
        mixture = mixture_of(2_000, weights)
        mixture = replace(mixture, variance_UCD=torch.zeros_like(mixture.variance_UCD))
        draws = draw_rates(mixture, torch.arange(2_000), torch.zeros(2_000).long(), seed=0)
        assert (draws[:, 1] == mean).all()


def test_nodes_without_transitions_draw_zero():
    nothing = torch.zeros(4, 2, 3)
    mixture = Mixture(torch.zeros(4, 2), nothing, nothing)
    draws = draw_rates(mixture, torch.arange(4), torch.full((4,), -1), seed=0)
    assert torch.equal(draws, torch.zeros(4, 3))
