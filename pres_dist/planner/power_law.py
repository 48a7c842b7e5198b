"""Distinct nodes of a slice of events if popularity follows a power law.

The number of event endpoints at the r-th busiest of N nodes is proportional to r^-s, and events
are drawn independently: a node with share p of the endpoints is among n draws with probability
1 - exp(-n p). Real streams are bursty and touch fewer nodes.

Shapes: G groups of nodes of similar popularity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pres_dist.config.run import RunConfig
from pres_dist.config.sampling import shares_of
from pres_dist.model.embedding import num_hops
from pres_dist.planner.touched import Touched, Waiting

_EXACT_RANKS = 1000
"""Number of busiest nodes with a group each; the ranks of further groups grow by a factor."""
_GROUP_FACTOR = 1.05


@dataclass(frozen=True)
class Popularity:
    """Shares of the event endpoints on one side, by groups of nodes.

    Attributes:
        nodes_G: number of nodes of a group.
        share_G: share of each node of a group; over all nodes, the shares sum to 1.
    """

    nodes_G: np.ndarray
    share_G: np.ndarray

    @property
    def num_nodes(self) -> float:
        """Return the number of nodes of all groups."""
        return float(self.nodes_G.sum())

    def distinct(self, draws: float, uniform_draws: float = 0.0) -> float:
        """Return the expected distinct nodes among draws by popularity and uniform draws."""
        return float(self.nodes_G @ self._met(draws, uniform_draws))

    def neighbors(self, draws: float, uniform_draws: float, history: float, most: int) -> float:
        """Return the expected sampled neighbors of the distinct nodes of the draws.

        Args:
            draws: draws by popularity.
            uniform_draws: uniform draws of nodes.
            history: event endpoints of the side at the end of the training split. A node's share
                of them grows from 0; the result is the average over that time.
            most: largest number of neighbors sampled per node.
        """
        final_G = np.maximum(self.share_G * history, 1e-300)
        known_G = np.where(final_G <= most, final_G / 2, most - most**2 / (2 * final_G))
        return float(self.nodes_G @ (self._met(draws, uniform_draws) * known_G))

    def waiting(
        self, draws: float, uniform_draws: float, history: float, batch: float, slots: int
    ) -> float:
        """Return the expected pending messages of the distinct nodes of the draws.

        Pending messages are from the last temporal batch in which a node was drawn. Their number
        follows a Poisson distribution conditioned on being above 0.

        Args:
            draws: draws by popularity.
            uniform_draws: uniform draws of nodes.
            history: as in `neighbors`.
            batch: number of draws of a temporal batch.
            slots: largest number of messages kept per node.
        """
        rate_G = np.maximum(self.share_G * batch, 1e-12)
        chance_G = reached_G = -np.expm1(-rate_G)  # probability of at least one message
        kept_G = chance_G.copy()
        term_G = np.exp(-rate_G)
        for number in range(1, slots):
            term_G = term_G * rate_G / number  # probability of exactly `number` messages
            reached_G = np.maximum(reached_G - term_G, 0.0)
            kept_G += reached_G
        drawn_before_G = -np.expm1(-self.share_G * history / 2)
        each_G = drawn_before_G * kept_G / chance_G
        return float(self.nodes_G @ (self._met(draws, uniform_draws) * each_G))

    def _met(self, draws: float, uniform_draws: float) -> np.ndarray:
        return -np.expm1(-draws * self.share_G - uniform_draws / self.num_nodes)


def power_law(num_nodes: int, exponent: float) -> Popularity:
    """Return the popularity where the r-th busiest node has a share proportional to r^-exponent."""
    exact = min(num_nodes, _EXACT_RANKS)
    num_groups = 2 + int(np.log(max(num_nodes / exact, 1)) / np.log(_GROUP_FACTOR))
    bounds = np.unique(np.geomspace(exact, num_nodes, num_groups).round())
    first = np.concatenate([np.arange(1, exact + 1), bounds[:-1] + 1])
    last = np.concatenate([np.arange(1, exact + 1), bounds[1:]])
    nodes_G = last - first + 1
    # The geometric mean of a narrow group's ranks represents all of them.
    weight_G = np.sqrt(first * last) ** -exponent
    return Popularity(nodes_G, weight_G / (nodes_G @ weight_G))


def of_degrees(degrees: np.ndarray) -> Popularity:
    """Return the popularity of a stream's nodes, without nodes that have no event."""
    values, counts = np.unique(degrees[degrees > 0], return_counts=True)
    return Popularity(counts.astype(float), values / degrees.sum())


def fitted_exponent(popularity: Popularity, draws: float) -> float:
    """Fit a power law with the same number of nodes to the distinct nodes; return its exponent."""
    num_nodes, wanted = int(popularity.num_nodes), popularity.distinct(draws)
    low, high = 0.0, 3.0
    for _ in range(40):  # a larger exponent gives fewer distinct nodes
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if power_law(num_nodes, middle).distinct(draws) > wanted
            else (low, middle)
        )
    return (low + high) / 2


@dataclass(frozen=True)
class PowerLawTouches:
    """Touch model with expected distinct nodes under a power law.

    Attributes:
        sources, destinations: popularity of each side; of the same nodes unless `bipartite`.
        bipartite: True if sources and destinations are different nodes.
        history: event endpoints of a side at the end of the training split.
        num_negatives: negatives per event.
        uniform_share: share of negatives drawn uniformly from destinations; others are drawn by
            popularity, as earlier partners are.
        num_neighbors: largest number of neighbors sampled per query.
        num_hops: number of sampling hops.
        slots: largest number of messages kept per node.
        repeat_share: share of a node's recent events that repeat a recent partner.
        name: description of the assumed distribution.
    """

    sources: Popularity
    destinations: Popularity
    bipartite: bool
    history: float
    num_negatives: int
    uniform_share: float
    num_neighbors: int
    num_hops: int
    slots: int
    repeat_share: float
    name: str

    @property
    def origin(self) -> str:
        """Return the source of the numbers."""
        return f"distinct nodes expected under {self.name}, independent draws"

    def touched(self, events: float, share: float = 1.0) -> Touched:
        """Return the distinct nodes of a share of consecutive events."""
        events *= share  # draws are independent, so a spread-out share equals consecutive events
        return Touched(
            self._union(*self._draws(events)),
            self._union(events, events, 0.0),
            self.destinations.distinct(*self._negatives(events)),
        )

    def waiting(self, events: float, batch: float) -> Waiting:
        """Return the pending messages per node touched by consecutive events."""
        known = self.history, batch if self.bipartite else 2 * batch, self.slots
        each = []
        for src, dst, uniform in (self._draws(events), (events, events, 0.0)):
            if self.bipartite:
                messages = self.sources.waiting(src, 0.0, *known)
                messages += self.destinations.waiting(dst, uniform, *known)
            else:
                messages = self.destinations.waiting(src + dst, uniform, *known)
            each.append(messages / max(self._union(src, dst, uniform), 1e-300))
        return Waiting(*each)

    def _draws(self, events: float) -> tuple[float, float, float]:
        """Return the draws of sources, of destinations, and uniform draws of destinations."""
        known = self.history, self.num_neighbors
        popular, uniform = self._negatives(events)
        src, dst = events, events + popular
        for _ in range(self.num_hops):
            of_src = self._partners(self.sources.neighbors(src, 0.0, *known), src)
            neighbors = self.destinations.neighbors(dst, uniform, *known)
            of_dst = self._partners(neighbors, dst + uniform)
            src, dst = src + of_dst, dst + of_src
        return src, dst, uniform

    def _negatives(self, events: float) -> tuple[float, float]:
        """Return the negatives drawn by popularity, and those drawn uniformly."""
        negatives = events * self.num_negatives
        return negatives * (1 - self.uniform_share), negatives * self.uniform_share

    def _partners(self, neighbors: float, roots: float) -> float:
        """Return the distinct partners among neighbors: the first of each node, and new ones."""
        firsts = min(roots, neighbors / max(self.num_neighbors, 1))
        return firsts + (neighbors - firsts) * (1 - self.repeat_share)

    def _union(self, src: float, dst: float, uniform: float) -> float:
        if self.bipartite:
            return self.sources.distinct(src) + self.destinations.distinct(dst, uniform)
        return self.destinations.distinct(src + dst, uniform)


def assumed_touches(
    config: RunConfig, nodes: int, events: int, sources: int, exponent: float, repeat_share: float
) -> PowerLawTouches:
    """Return a touch model for a stream that is not available, averaged over its training split.

    Args:
        config: configuration with hops, neighbors and negatives.
        nodes: number of nodes of the stream.
        events: number of events of the stream.
        sources: number of source nodes, if all others are destinations; 0 if any may be both.
        exponent: exponent of both sides.
        repeat_share: share of a node's recent events that repeat a recent partner.
    """
    history = events * config.data.train_share
    both = f"{sources:,} sources" if sources else "any node source or destination"
    return PowerLawTouches(
        power_law(sources or nodes, exponent),
        power_law(nodes - sources, exponent),
        bool(sources),
        history if sources else 2 * history,
        config.sampling.num_negatives,
        shares_of(config.sampling.negatives).get("random", 0.0),
        config.sampling.num_neighbors,
        num_hops(config.model),
        config.memory.mailbox_slots,
        repeat_share,
        f"a power law with exponent {exponent:g} ({both}, {repeat_share:.0%} of recent events "
        "repeat a partner)",
    )
