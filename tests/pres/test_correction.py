"""Prediction and correction of PRES against its equations, node by node in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pres_dist.pres.clock import ClockKind, TransitionClock
from pres_dist.pres.correction import PresCorrection
from pres_dist.pres.statistics import TransitionRows
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
        self.previous, self.measured, self.rate = torch.randn(3, U, D, generator=generator)
        self.elapsed = torch.randint(1, 50, (U,), generator=generator)
        self.elapsed[::3] = 0
        self.observed = torch.randint(1, 9, (U,), generator=generator)
        self.observed[::4] = 0
        self.events = torch.randint(1, 6, (U,), generator=generator)
        self.transitions = TransitionRows(self.observed, self.rate)

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
def test_equals_the_equations(clock, gate):
    case = Case()
    correction = build(clock, gate)
    length = case.length(correction)
    corrected = correction(case.previous, case.measured, length, case.transitions)
    for node, duration in enumerate(lengths(clock, case.elapsed, case.events)):
        measured = case.measured[node].double().numpy()
        predicted = measured
        if case.observed[node] > 0 and duration > 0:
            previous, drift = case.previous[node].double(), case.rate[node].double()
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
