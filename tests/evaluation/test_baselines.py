"""EdgeBank and popularity against loops over events, and what is said of a model they beat."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.evaluation import link_baselines as module
from pres_dist.evaluation.link_baselines import EdgeBank, LinkBaselines, Popularity, candidates_of
from pres_dist.evaluation.metrics import average_precision, reciprocal_ranks, roc_auc
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.report.result_tables import shortcomings
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.negatives import NegativeSampler, destinations_of
from tests.support.nightly import drawn
from tests.support.random_streams import Case, cases


def by_loops(stream, events, negatives, duration, recent=1000):
    """[n][1 + M] scores of every baseline, by going through the stream event by event."""
    src, dst, t = stream.src.tolist(), stream.dst.tolist(), stream.t.tolist()
    scores = {}
    for event, row in zip(events, negatives, strict=True):
        earlier = [i for i in range(stream.num_events) if t[i] < t[event]]
        window = [i for i in earlier if t[i] >= t[event] - duration]
        pairs = {(src[i], dst[i]) for i in earlier}
        lately = {(src[i], dst[i]) for i in window}
        popular = [Counter(dst[i] for i in seen) for seen in (earlier, window, earlier[-recent:])]
        of = {
            "EdgeBank": lambda v: (src[event], v) in pairs,  # noqa: B023
            "EdgeBank, time window": lambda v: (src[event], v) in lately,  # noqa: B023
            "most popular": lambda v: popular[0][v],  # noqa: B023
            "most popular, time window": lambda v: popular[1][v],  # noqa: B023
            "most popular, last 1,000": lambda v: popular[2][v],  # noqa: B023
        }
        if not stream.bipartite:
            of["EdgeBank, either direction"] = lambda v: (
                (src[event], v) in pairs or (v, src[event]) in pairs  # noqa: B023
            )
        for name, score in of.items():
            row_scores = [int(score(v)) for v in [dst[event], *row]]
            scores.setdefault(name, []).append(row_scores)
    return scores


@settings(max_examples=drawn(60, 3))
@given(case=cases(), data=st.data())
def test_scores_against_a_loop(case: Case, data: st.DataObject) -> None:
    stream, tables = case.stream, case.tables
    events = list(range(stream.num_events))
    negatives = [
        data.draw(st.lists(st.sampled_from(case.pool), min_size=2, max_size=2)) for _ in events
    ]
    duration = data.draw(st.sampled_from([0, 1, 8, int(stream.t[-1]) - int(stream.t[0])]))
    candidates = candidates_of(tables, torch.tensor(events), torch.tensor(negatives), duration)
    scores = EdgeBank(stream, tables).scores(candidates) | Popularity(tables).scores(candidates)
    expected = by_loops(stream, events, negatives, duration)
    assert scores.keys() == expected.keys()
    for name, score in scores.items():
        assert score.tolist() == expected[name], name


def test_recent_popularity_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pres_dist.evaluation.link_baselines.RECENT_EVENTS", 2)
    stream = EventStream.from_arrays([0, 0, 0, 0], [1, 1, 2, 2], [0, 1, 2, 3])
    candidates = candidates_of(
        EventTables(stream), torch.tensor([3]), torch.tensor([[1]]), duration=9
    )
    *_, recent = Popularity(EventTables(stream)).scores(candidates).values()
    assert recent.tolist() == [[1, 1]]


def ties(bipartite: bool, num_events: int = 300) -> EventStream:
    """Few nodes, many events of one time, self-loops unless bipartite."""
    rng = np.random.default_rng(3)
    src = rng.integers(0, 9, num_events)
    dst = rng.integers(9, 18, num_events) if bipartite else rng.integers(2, 14, num_events)
    t = np.cumsum(rng.integers(0, 2, num_events))
    return EventStream.from_arrays(src, dst, t, num_sources=9 if bipartite else None)


@pytest.mark.parametrize("bipartite", [True, False])
@pytest.mark.parametrize("kind", ["random", "historical", "inductive"])
def test_metrics_are_those_of_the_model_s_own_events_and_negatives(
    bipartite: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, num = ties(bipartite), 4
    tables = EventTables(stream)
    part = range(210, 300)
    unseen = np.zeros(stream.num_nodes, dtype=bool)
    unseen[[0, 11]] = True

    def sampler() -> NegativeSampler:
        adjacency = TemporalAdjacency(stream, tables)
        return NegativeSampler(kind, stream, destinations_of(stream), adjacency, 150, seed=5)

    whole = LinkBaselines(stream, tables, unseen).metrics(part, sampler(), num)
    monkeypatch.setattr(module, "_CELLS", 37)  # the same in small pieces
    metrics = LinkBaselines(stream, tables, unseen).metrics(part, sampler(), num)
    assert metrics == whole

    events = torch.arange(part.start, part.stop)
    negatives = sampler().sample(tables.src_E[events], tables.dst_E[events], events, num, 0)
    duration = int(stream.t[part.stop - 1] - stream.t[part.start])
    for name, rows in by_loops(stream, events.tolist(), negatives.tolist(), duration).items():
        scores = np.array(rows, dtype=float)
        new = unseen[stream.src[part.start :]] | unseen[stream.dst[part.start :]]
        for which, of in ((slice(None), metrics[name]), (new, metrics[name]["inductive"])):
            positive, negative = scores[which, 0], scores[which, 1:]
            assert of["num_events"] == positive.size
            assert of["ap"] == average_precision(positive, negative[:, 0])
            assert of["auc"] == roc_auc(positive, negative[:, 0])
            assert of["mrr"] == pytest.approx(reciprocal_ranks(positive, negative).mean())


def test_a_part_without_events_has_no_baselines() -> None:
    stream = ties(True)
    baselines = LinkBaselines(stream, EventTables(stream), np.zeros(18, dtype=bool))
    assert baselines.metrics(range(5, 5), None, 3) == {}  # type: ignore[arg-type]


def test_a_model_that_beats_nothing_is_told_so() -> None:
    baselines = {"EdgeBank": {"ap": 0.9, "mrr": 0.5}, "most popular": {"ap": 0.7, "mrr": 0.6}}
    test = {"ap": 0.9, "mrr": 0.61, "auc": 0.3, "baselines": baselines}
    (line,) = shortcomings({"test": test})
    assert line == (
        "warning: test AP 0.9000 does not beat EdgeBank (0.9000): the model has learned nothing "
        "that remembering which pairs have met does not tell"
    )
    assert shortcomings({"test": test | {"ap": 0.91}}) == []
    assert "counting" in shortcomings({"test": test | {"ap": 0.91, "mrr": 0.1}})[0]
    assert shortcomings({}) == shortcomings({"test": {"num_events": 0, "baselines": {}}}) == []
