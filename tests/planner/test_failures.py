"""Lost nodes: simulation, Daly's closed form, and the interval of Young and Daly."""

from __future__ import annotations

import math

import pytest

from pres_dist.planner.failures import (
    Failures,
    best_interval,
    daly,
    useful_share,
    young,
)

CLUSTER = Failures(mtbf_s=36_000, save_s=30, restart_s=120)


def expected_share(failures: Failures, every_s: float) -> float:
    """The share of `useful_share` in closed form.

    Daly, A higher order estimate of the optimum checkpoint interval for restart dumps (2006):
    a segment of t seconds takes M e^(R/M) (e^((t + C)/M) - 1) on average.
    """
    mtbf = failures.mtbf_s
    lost = math.expm1((every_s + failures.save_s) / mtbf)
    return every_s / (mtbf * math.exp(failures.restart_s / mtbf) * lost)


def test_without_failures_only_saving_takes_time() -> None:
    safe = Failures(mtbf_s=1e9, save_s=30, restart_s=120)
    assert useful_share(safe, 270, 100) == pytest.approx(0.9, rel=1e-5)


@pytest.mark.parametrize("every_s", [200, 1500, 8000])
@pytest.mark.parametrize("failures", [CLUSTER, Failures(5000, 60, 900)])
def test_the_simulation_meets_the_closed_form(failures: Failures, every_s: float) -> None:
    assert useful_share(failures, every_s, 40_000) == pytest.approx(
        expected_share(failures, every_s), rel=0.02
    )


@pytest.mark.parametrize(
    "failures", [CLUSTER, Failures(100_000, 10, 60), Failures(20_000, 100, 300)]
)
def test_the_best_interval_is_that_of_young_and_daly(failures: Failures) -> None:
    found = best_interval(failures)
    assert found == pytest.approx(daly(failures), rel=0.06)
    # What counts: nothing is lost by it.
    assert expected_share(failures, found) == pytest.approx(
        expected_share(failures, daly(failures)), abs=1e-4
    )


def test_no_interval_does_better_than_daly_s() -> None:
    best = expected_share(CLUSTER, daly(CLUSTER))
    for factor in (0.5, 0.8, 1.25, 2):
        assert expected_share(CLUSTER, factor * daly(CLUSTER)) < best
    assert daly(CLUSTER) == pytest.approx(young(CLUSTER), rel=0.05)


def test_saving_that_takes_longer_than_the_cluster_lives_has_a_last_resort() -> None:
    assert daly(Failures(mtbf_s=100, save_s=300, restart_s=0)) == 100
