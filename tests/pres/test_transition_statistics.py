"""The filter of PRES against lists of transitions in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.pres.clock import ClockKind, TransitionClock
from pres_dist.pres.statistics import TransitionStatistics

N, D, UNIT = 9, 4, 8.0
CLOCKS = pytest.mark.parametrize("clock", ["time", "log", "event"])
COMPONENTS = pytest.mark.parametrize("components", [1, 2])


@dataclass(frozen=True)
class Transition:
    """One step of the memory of several distinct nodes."""

    nodes: torch.Tensor
    component: int
    before: torch.Tensor
    after: torch.Tensor
    elapsed: torch.Tensor
    events: torch.Tensor


def random_transitions(components: int, seed: int = 0, num: int = 25) -> list[Transition]:
    """Every other node is left out now and then; the last node always."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for step in range(num):
        nodes = torch.randperm(N - 1, generator=generator)[: 1 + step % (N - 1)]
        before, after = torch.randn(2, len(nodes), D, generator=generator)
        elapsed = torch.randint(0, 40, (len(nodes),), generator=generator)
        elapsed[step % 3 :: 3] = 0
        events = torch.randint(1, 5, (len(nodes),), generator=generator)
        result.append(Transition(nodes, step % components, before, after, elapsed, events))
    return result


def make(clock: ClockKind, components: int, dim: int = D) -> TransitionStatistics:
    return TransitionStatistics(N, dim, components, TransitionClock(clock, UNIT))


def observe(statistics: TransitionStatistics, transitions: list[Transition]) -> None:
    for step in transitions:
        statistics.observe(
            step.nodes, step.component, step.before, step.after, step.elapsed, step.events
        )


def length(clock: ClockKind, elapsed: int, events: int) -> float:
    if clock == "event":
        return float(events) if elapsed > 0 else 0.0
    return math.log(1 + elapsed / UNIT) if clock == "log" else elapsed / UNIT


def rates_of(transitions: list[Transition], clock: ClockKind, components: int):
    """[N][C] lists of d = (s(t2) - s(t1)) / (t2 - t1)."""
    rates: list[list[list[np.ndarray]]] = [[[] for _ in range(components)] for _ in range(N)]
    for step in transitions:
        for row, node in enumerate(step.nodes.tolist()):
            duration = length(clock, int(step.elapsed[row]), int(step.events[row]))
            if duration > 0:
                change = step.after[row].double().numpy() - step.before[row].double().numpy()
                rates[node][step.component].append(change / duration)
    return rates


def assert_near(actual: torch.Tensor, expected: object, scale: float = 1.0) -> None:
    expected = torch.as_tensor(np.asarray(expected, dtype=np.float64))
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5 * scale)


@CLOCKS
def test_clock(clock):
    elapsed = torch.tensor([[0, 1, 8], [20, 1_000_000, 1_700_000_000_000]])
    events = torch.tensor([[7, 1, 2], [9, 4, 1]])
    lengths = TransitionClock(clock, UNIT)(elapsed, events)
    assert lengths.dtype == torch.float32
    expected = [
        [length(clock, e, n) for e, n in zip(*rows, strict=True)]
        for rows in zip(elapsed.tolist(), events.tolist(), strict=True)
    ]
    torch.testing.assert_close(lengths.double(), torch.tensor(expected).double(), rtol=1e-6, atol=0)


@CLOCKS
@COMPONENTS
@pytest.mark.parametrize("seed", range(3))
def test_equals_lists_of_transitions(clock, components, seed):
    transitions = random_transitions(components, seed)
    statistics = make(clock, components)
    observe(statistics, transitions)
    rates = rates_of(transitions, clock, components)
    counts = [[len(rates[n][c]) for c in range(components)] for n in range(N)]
    assert statistics.count_NC.tolist() == counts
    order = torch.randperm(N)
    rows = statistics.rows(order)
    for row, node in enumerate(order.tolist()):
        total = sum(counts[node])
        assert int(rows.num_observed_U[row]) == total
        every = [rate for component in rates[node] for rate in component]
        assert_near(rows.rate_UD[row], np.mean(every, axis=0) if every else np.zeros(D), 10)
        for c in range(components):
            own = np.array(rates[node][c]).reshape(-1, D)
            assert_near(statistics.sum_NCD[node, c], own.sum(0), 10)
    assert counts[N - 1] == [0] * components


@CLOCKS
@COMPONENTS
def test_zero_length_transitions_leave_every_bit(clock, components):
    statistics = make(clock, components)
    observe(statistics, random_transitions(components))
    before = {name: table.clone() for name, table in statistics.state_dict().items()}
    nodes = torch.arange(N)
    memory = torch.randn(N, D) * 1e30
    for component in range(components):
        statistics.observe(
            nodes, component, memory, -memory, torch.zeros(N).long(), torch.ones(N).long()
        )
    for name, table in statistics.state_dict().items():
        assert torch.equal(table, before[name]), name


def test_only_the_given_component_counts():
    statistics = make("event", 2)
    nodes = torch.tensor([4, 1])
    statistics.observe(
        nodes, 1, torch.zeros(2, D), torch.ones(2, D), torch.tensor([3, 0]), torch.ones(2).long()
    )
    assert statistics.count_NC.nonzero().tolist() == [[4, 1]]
    assert statistics.sum_NCD.sum(2).nonzero().tolist() == [[4, 1]]


whole_step = st.tuples(
    st.lists(st.integers(0, N - 1), unique=True, max_size=N),
    st.integers(0, 1),
    st.integers(-5, 5),
    st.integers(0, 3),
)


@given(st.lists(whole_step, max_size=12), st.integers(0, 12))
def test_sums_of_two_parts_of_a_stream_add_up(steps, cut):
    """To the last bit: with steps of whole numbers, one event each, nothing rounds."""
    transitions = [
        Transition(
            torch.tensor(nodes, dtype=torch.int64),
            component,
            torch.zeros(len(nodes), D),
            torch.full((len(nodes), D), float(change)) * torch.arange(1.0, D + 1),
            torch.full((len(nodes),), elapsed),
            torch.ones(len(nodes), dtype=torch.int64),
        )
        for nodes, component, change, elapsed in steps
    ]
    whole, first, second = make("event", 2), make("event", 2), make("event", 2)
    observe(whole, transitions)
    observe(first, transitions[:cut])
    observe(second, transitions[cut:])
    merged = make("event", 2)
    for name, table in merged.state_dict().items():
        table.copy_(first.state_dict()[name] + second.state_dict()[name])
        assert torch.equal(table, whole.state_dict()[name]), name
    rows, expected = (s.rows(torch.arange(N)) for s in (merged, whole))
    assert torch.equal(rows.rate_UD, expected.rate_UD)


@CLOCKS
def test_parts_of_a_stream_add_up_for_any_clock(clock):
    transitions = random_transitions(2, num=40)
    whole, first, second = make(clock, 2), make(clock, 2), make(clock, 2)
    observe(whole, transitions)
    observe(first, transitions[:17])
    observe(second, transitions[17:])
    for name, table in whole.state_dict().items():
        merged = first.state_dict()[name] + second.state_dict()[name]
        torch.testing.assert_close(merged, table, rtol=1e-5, atol=1e-3)
    assert torch.equal(first.count_NC + second.count_NC, whole.count_NC)


def test_reset():
    statistics = make("log", 2)
    observe(statistics, random_transitions(2))
    assert all(table.any() for table in statistics.state_dict().values())
    statistics.reset()
    assert all(not table.any() for table in statistics.state_dict().values())
