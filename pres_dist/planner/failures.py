"""Node failures: the useful share of training time, and the best checkpoint interval.

When a worker fails, all workers restart from the newest checkpoint, as in pres_dist. Workers fail
independently, with exponentially distributed lifetimes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pres_dist.planner.footprint import saved_by_a_node
from pres_dist.planner.layout import Layout
from pres_dist.planner.machine import Machine
from pres_dist.planner.workload import Workload

LOSSES = 20_000
"""Number of failures to simulate."""


@dataclass(frozen=True)
class Failures:
    """Rate and cost of failures, in seconds.

    Attributes:
        mtbf_s: mean time between failures of the whole cluster: of a node, divided by the number
            of nodes.
        save_s: time to write a checkpoint.
        restart_s: time from a failure until training resumes.
    """

    mtbf_s: float
    save_s: float
    restart_s: float


def useful_share(failures: Failures, every_s: float, losses: int = LOSSES, seed: int = 0) -> float:
    """Simulate `losses` failures; return the share of time whose training is not lost.

    A segment of training counts once the checkpoint after it is written. A failure in either loses
    everything since the previous checkpoint. A failure during a restart begins the restart again.
    """
    lives = np.random.default_rng(seed).exponential(failures.mtbf_s, losses)
    trained = np.maximum(lives - failures.restart_s, 0.0)
    segments = np.floor(trained / (every_s + failures.save_s))
    return float(segments.sum() * every_s / lives.sum())


def young(failures: Failures) -> float:
    """Return the seconds of training between checkpoints by Young (1974): sqrt(2 C M)."""
    return math.sqrt(2 * failures.save_s * failures.mtbf_s)


def daly(failures: Failures) -> float:
    """Return the seconds of training between checkpoints by Daly (2006), equation 37.

    It is Young's interval to a higher order, or M if saving takes 2 M or more.
    """
    save, mtbf = failures.save_s, failures.mtbf_s
    if save >= 2 * mtbf:
        return mtbf
    ratio = save / (2 * mtbf)
    return math.sqrt(2 * save * mtbf) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save


def best_interval(failures: Failures, losses: int = LOSSES, seed: int = 0) -> float:
    """Return the seconds between checkpoints with the largest useful share, by simulation.

    Simulated shares near Young's interval are noisy and flat at the maximum. A cubic in the
    logarithm of the interval is fitted to them, and its maximum is returned.
    """
    places = np.linspace(-0.6, 0.6, 25)
    shares = [
        useful_share(failures, young(failures) * math.exp(place), losses, seed) for place in places
    ]
    curve = np.polynomial.Polynomial.fit(places, shares, 3)
    fine = np.linspace(places[0], places[-1], 1201)
    return young(failures) * math.exp(fine[np.argmax(curve(fine))])


@dataclass(frozen=True)
class Lossy:
    """Training with failures and the best checkpoint interval.

    Attributes:
        failures: failures of the cluster.
        best_s, young_s, daly_s: seconds between checkpoints: the best in the simulation, and by
            the formulas of Young and Daly.
        useful: share of time whose training is not lost, at the best interval.
    """

    failures: Failures
    best_s: float
    young_s: float
    daly_s: float
    useful: float


def losses(
    workload: Workload, layout: Layout, machine: Machine, mtbf_hours: float, restart_s: float
) -> Lossy:
    """Simulate training where each node fails once in `mtbf_hours` on average.

    A checkpoint takes the time to send the rows of a node's workers over its network link to
    storage. The simulation stops training for that time; in fact training waits only for a copy.
    """
    nodes = machine.num_nodes(layout.workers)
    saved = saved_by_a_node(workload, layout, machine)
    save_s = max(saved / machine.network.bytes_per_s, 1e-3)
    failures = Failures(mtbf_hours * 3600 / nodes, save_s, restart_s)
    best_s = best_interval(failures)
    useful = useful_share(failures, best_s)
    return Lossy(failures, best_s, young(failures), daly(failures), useful)
