"""Lost nodes: how much of the time trains, and how often to save.

When a worker is lost, all start again from the newest checkpoint, as pres_dist does.
Workers fail independently, each with an exponential life.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Failures:
    """What a loss costs, in seconds.

    Attributes:
        mtbf_s: mean time between failures of the whole cluster: a worker's, over the workers.
        save_s: that a checkpoint takes.
        restart_s: from a failure until training goes on.
    """

    mtbf_s: float
    save_s: float
    restart_s: float


def useful_share(failures: Failures, every_s: float, losses: int, seed: int = 0) -> float:
    """Share of the time that ends up in weights, simulated over so many failures.

    A segment of training and the checkpoint after it count once both are done; a failure in
    either costs all since the last checkpoint, and one while starting again starts that again.
    """
    lives = np.random.default_rng(seed).exponential(failures.mtbf_s, losses)
    trained = np.maximum(lives - failures.restart_s, 0.0)
    segments = np.floor(trained / (every_s + failures.save_s))
    return float(segments.sum() * every_s / lives.sum())


def expected_share(failures: Failures, every_s: float) -> float:
    """The same in closed form.

    Daly, A higher order estimate of the optimum checkpoint interval for restart dumps (2006):
    a segment of t seconds takes M e^(R/M) (e^((t + C)/M) - 1) on average.
    """
    mtbf = failures.mtbf_s
    lost = math.expm1((every_s + failures.save_s) / mtbf)
    return every_s / (mtbf * math.exp(failures.restart_s / mtbf) * lost)


def young(failures: Failures) -> float:
    """Young (1974): seconds of training between checkpoints, sqrt(2 C M)."""
    return math.sqrt(2 * failures.save_s * failures.mtbf_s)


def daly(failures: Failures) -> float:
    """Daly (2006), equation 37: the same to a higher order; M where saving takes 2 M or more."""
    save, mtbf = failures.save_s, failures.mtbf_s
    if save >= 2 * mtbf:
        return mtbf
    ratio = save / (2 * mtbf)
    return math.sqrt(2 * save * mtbf) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save


def best_interval(failures: Failures, losses: int = 20_000, seed: int = 0) -> float:
    """Seconds between checkpoints with most useful time, by simulation.

    Simulated shares about Young's interval are noisy and flat at the top: a cubic through
    them, over the logarithm of the interval, says where the top is.
    """
    places = np.linspace(-0.6, 0.6, 25)
    shares = [
        useful_share(failures, young(failures) * math.exp(place), losses, seed) for place in places
    ]
    curve = np.polynomial.Polynomial.fit(places, shares, 3)
    fine = np.linspace(places[0], places[-1], 1201)
    return young(failures) * math.exp(fine[np.argmax(curve(fine))])
