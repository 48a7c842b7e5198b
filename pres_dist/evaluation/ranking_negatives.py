"""Negatives that the events of an evaluation are ranked against."""

from __future__ import annotations

from pres_dist.config.evaluation import EvaluationConfig, EvaluationNegatives
from pres_dist.errors import ConfigError
from pres_dist.events.split import Split
from pres_dist.events.stream import EventStream
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import (
    Negatives,
    NegativeSampler,
    OfficialNegatives,
    destinations_of,
)


def negatives_of(
    config: EvaluationConfig, stream: EventStream, split: Split, adjacency: TemporalAdjacency
) -> Negatives:
    """Return the configured negatives, among all destinations of the stream.

    Raises:
        ConfigError: official negatives are configured and cannot be used.
    """
    check_negatives(config, stream, split)
    if config.negatives == "tgb":
        return OfficialNegatives(stream, split.train_end, config.seed, adjacency.device)
    listed = destinations_of(stream)
    return NegativeSampler(
        config.negatives, stream, listed, adjacency, split.train_end, config.seed
    )


def check_negatives(config: EvaluationConfig, stream: EventStream, split: Split) -> None:
    """Raise `ConfigError` if official negatives are configured and cannot be used."""
    if config.negatives != "tgb":
        return
    if stream.negatives is None:
        raise ConfigError(
            f"evaluation.negatives: tgb needs a stream with TGB's negatives, and {stream.name} has "
            "none: pres-dist data import tgbl-NAME --format tgb"
        )
    if not _is_official(stream, split):
        raise ConfigError(
            "evaluation.negatives: tgb needs TGB's own split, since its negatives are of those "
            "events: set data.split to official"
        )


def kinds_of(stream: EventStream, split: Split) -> list[EvaluationNegatives]:
    """Return all kinds of negatives available for the stream and split."""
    kinds: list[EvaluationNegatives] = ["random", "historical", "inductive"]
    if stream.negatives is not None and _is_official(stream, split):
        kinds.append("tgb")
    return kinds


def _is_official(stream: EventStream, split: Split) -> bool:
    return stream.official_split == (split.train_end, split.validation_end)
