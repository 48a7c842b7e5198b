"""Common neighbors of sources and candidates, and scores of queries that are no events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.events.stream import EventStream
from pres_dist.model.history import HistoryDecoder, Past
from pres_dist.model.rows import Rows
from pres_dist.parallel.world import World
from pres_dist.sampling.event_log import LogReads, numbers_of
from pres_dist.step.batches import batch_of
from pres_dist.step.history import Around, Queries, candidates_of, joined_queries, past_of
from pres_dist.training.setup import assembled
from tests.sampling.test_event_log import NUM, log_of, queries
from tests.support.nightly import drawn
from tests.support.random_streams import Case, cases, ids
from tests.support.slow_event_log import SlowLog
from tests.support.small_run import habitual_stream, small_config


def around_of(log, nodes_Q, t_Q):  # type: ignore[no-untyped-def]
    """Recent neighbors, each with a state of its own that tells its id."""
    before = log.sampler.adjacency.first_event_at(t_Q)
    found = log.sampler.sample(nodes_Q, before)
    distinct, index = found.nodes_QK.unique(return_inverse=True)
    states = torch.stack([torch.ones(len(distinct)), torch.arange(len(distinct)).float()], 1)
    return Around.of(Rows(states, index), found.nodes_QK, found.mask_QK), distinct


@given(data=st.data())
@settings(max_examples=drawn(60, 3), deadline=None)
def test_states_of_common_neighbors_are_added_up_once_each(data: st.DataObject) -> None:
    case, bipartite = data.draw(cases()), data.draw(st.booleans())
    log, slow = log_of(case, bipartite), SlowLog(case)
    src, dst, t = data.draw(queries(case))
    around, distinct = around_of(log, ids(dst).flatten(), ids(t).repeat_interleave(2))
    past = past_of(log.read(ids(src), ids(dst), ids(t)), around)
    place = {node: place for place, node in enumerate(distinct.tolist())}
    for row, (source, candidates, time) in enumerate(zip(src, dst, t, strict=True)):
        for column, candidate in enumerate(candidates):
            common = slow.common(source, candidate, time, NUM, bipartite)
            assert past.num_common_BM[row, column] == len(common)
            expected = [len(common), sum(place[node] for node in common)]
            assert past.common_BMS[row, column].tolist() == expected


@pytest.mark.parametrize("bipartite", [True, False])
def test_a_part_without_events_has_nothing_to_read(bipartite: bool) -> None:
    ends = np.array([[0, 1, 0], [2, 3, 3]])
    case = Case(EventStream.from_arrays(*ends, np.arange(3)), None, [])
    log, none = log_of(case, bipartite), ids([])
    reads = log.read(none, none.view(0, 2), none)
    around, _ = around_of(log, none, none)
    past = past_of(reads, around)
    assert past.numbers_BMF.shape == (0, 2, len(numbers_of(bipartite)))
    assert past.common_BMS is not None
    assert past.common_BMS.shape == (0, 2, 2)


def test_candidates_are_destinations_and_negatives_of_each_event() -> None:
    rows = torch.arange(8)[:, None]
    around = Around(Rows(torch.zeros(8, 1), rows), rows, rows > 0)
    # Queries 0, 1: sources; 2, 3: destinations; then two negatives of each event.
    found = candidates_of(around, num_events=2, num_negatives=2)
    assert found.nodes_QK.flatten().tolist() == [2, 4, 5, 3, 6, 7]


def test_queries_of_several_parts_keep_their_neighbors() -> None:
    rows = torch.arange(3)[:, None]

    def part(first: int) -> Queries:
        states = Rows(torch.arange(first, first + 3.0)[:, None], rows)
        around = Around(states, rows + first, rows >= 0)
        return Queries(torch.arange(3) + first, rows[:, 0], torch.zeros(3, 2), around)

    both = joined_queries([part(0), part(10)]).at(torch.tensor([4, 1]))
    assert both.nodes_Q.tolist() == [11, 1]
    assert both.around is not None
    assert both.around.nodes_QK.flatten().tolist() == [11, 1]
    assert both.around.states.dense_QKd.flatten().tolist() == [11, 1]


def test_numbers_are_standardized_and_rare_ones_are_not_blown_up() -> None:
    decoder = HistoryDecoder(dim=4, dropout=0.0, num_numbers=2, common_dim=None)
    numbers = torch.stack([torch.linspace(5, 9, 101), torch.full((101,), 3.0)], dim=1)
    decoder.standardize(numbers)
    found = (numbers - decoder.shift_F) * decoder.scale_F
    np.testing.assert_allclose(found.mean(0), [0, 0], atol=1e-6)
    assert float(found[:, 0].std(correction=0)) == 1
    assert float(decoder.scale_F[1]) == 10  # not more, however little it varies
    assert {"shift_F", "scale_F"} <= decoder.state_dict().keys()


def test_a_model_without_states_counts_common_neighbors() -> None:
    reads = LogReads(ids([[7]]), torch.zeros(1, 1, 2), ids([[-1, 3]]))
    around = Around(Rows(torch.zeros(4, 0), ids([[1, 2]])), ids([[3, 4]]), ids([[1, 1]]).bool())
    past = past_of(reads, around)
    assert past.common_BMS is not None
    assert past.common_BMS.shape == (1, 1, 0)
    decoder = HistoryDecoder(dim=4, dropout=0.0, num_numbers=2, common_dim=0)
    with_one = decoder(torch.zeros(1, 4), torch.zeros(1, 1, 4), past)
    none = Past(past.numbers_BMF, past.common_BMS, torch.zeros(1, 1))
    assert not torch.equal(with_one, decoder(torch.zeros(1, 4), torch.zeros(1, 1, 4), none))


def test_a_training_step_counts_pending_events_of_its_own_batch(tmp_path: Path) -> None:
    stream = habitual_stream(240)
    stream.save(tmp_path / "habits")
    config = small_config(tmp_path / "habits")(model__decoder="history")
    with assembled(config, torch.device("cpu"), World()) as parts:
        step = parts.train_pipeline
        batch = batch_of(step.tables, torch.arange(40, 140))
        negatives = parts.train_negatives.sample(batch.src_B, batch.dst_B, batch.events_B, 2, 1)
        (part,) = step.plan([batch], [negatives], epoch=1).parts
    reads, slow = part.gathered.reads, SlowLog(Case(stream, None, []))
    assert reads is not None
    assert torch.equal(reads.dst_BM, torch.cat([batch.dst_B[:, None], negatives], dim=1))
    for row, event in enumerate(batch.events_B.tolist()):
        src, t = int(stream.src[event]), int(stream.t[event])
        for place, dst in enumerate(reads.dst_BM[row].tolist()):
            expected = slow.numbers(src, dst, t, bipartite=True)
            found = reads.numbers_BMF[row, place].tolist()
            assert found == pytest.approx(list(expected.values()), rel=1e-6, abs=1e-6)
