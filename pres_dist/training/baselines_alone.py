"""LinkBaselines of a stream without a model, with every kind of negatives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pres_dist.config.run import RunConfig
from pres_dist.evaluation.link_baselines import LinkBaselines
from pres_dist.evaluation.ranking_negatives import kinds_of, negatives_of
from pres_dist.events.identity import check_same_events
from pres_dist.records import Metrics, Results
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import Negatives
from pres_dist.training.setup import choose_device, load_data


def stream_baselines(
    config: RunConfig, expected: Mapping[str, Any] | None = None
) -> dict[str, Results]:
    """Evaluate the EdgeBank and popularity baselines on the stream of a configuration.

    Args:
        config: settings of the stream, its split and the evaluation.
        expected: identity that the stream must have, if the configuration belongs to a run.

    Returns:
        For each kind of negatives, the same keys as results.json of a run, without the model's
        metrics, and the `seconds` taken.

    Raises:
        ConfigError: a setting cannot be used here.
        DataError: the stream cannot be used.
        CheckpointError: the stream is not the expected one.
    """
    data = load_data(config, choose_device(config))
    stream, split = data.stream, data.split
    if expected is not None:
        check_same_events(stream, expected)
    adjacency = TemporalAdjacency(stream, data.tables, home=config.sampling.adjacency)
    baselines = LinkBaselines(stream, data.tables, data.unseen_N)
    results: dict[str, Results] = {}
    for kind in kinds_of(stream, split):
        started = time.perf_counter()
        evaluation = config.evaluation.model_copy(update={"negatives": kind})
        negatives = negatives_of(evaluation, stream, split, adjacency)
        num = negatives.num_slots(evaluation.num_negatives)
        results[kind] = {
            "negatives": kind,
            "num_negatives": num,
            "validation": _measured(baselines, split.validation, negatives, num),
            "test": _measured(baselines, split.test, negatives, num),
            "seconds": time.perf_counter() - started,
        }
    return results


def _measured(baselines: LinkBaselines, events: range, negatives: Negatives, num: int) -> Metrics:
    by_name = baselines.metrics(events, negatives, num)
    drawn, found = negatives.counts.tolist()
    negatives.counts.zero_()
    return {
        "num_events": len(events),
        "baselines": by_name,
        "negatives_found": found / drawn if drawn else None,
    }
