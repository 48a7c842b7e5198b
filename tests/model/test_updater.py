"""Messages, aggregators and recurrent cells against a loop over nodes in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pres_dist.config.memory import MemoryConfig
from pres_dist.config.model import ModelConfig
from pres_dist.memory.state import NEVER, NO_EVENT, NodeState, elapsed_since
from pres_dist.model.message import MessageFunction
from pres_dist.model.recurrent import from_rest, next_memory, own_weights
from pres_dist.model.tgn import TGN, StreamShape
from pres_dist.model.time_encoding import TimeEncoding
from pres_dist.model.updater import MailContext, MeasuredMemory, MemoryUpdater
from tests.model.slow_tgn import SlowMail, SlowModel
from tests.model.small_world import MEMORY_DIM, SMALL, TIME_UNIT, weights_of
from tests.support.by_rates import by_rates

U, EDGE_DIM = 24, 3
NO_PRES = by_rates(prediction=False)


def build(config: ModelConfig, edge_dim: int = EDGE_DIM) -> TGN:
    torch.manual_seed(1)
    shape = StreamShape(edge_dim, 0, TIME_UNIT)
    return TGN(config, MemoryConfig(dim=MEMORY_DIM), NO_PRES, shape)


def random_mail(
    num_slots: int, edge_dim: int = EDGE_DIM, start: int = 0, seed: int = 0
) -> tuple[NodeState, MailContext]:
    """Mailboxes with every number of full slots; a third of the nodes was never updated."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    full_U = torch.arange(U) % (num_slots + 1)
    full_UR = torch.arange(num_slots) < full_U[:, None]
    t_UR = start + 20 + torch.randint(0, 9, (U, num_slots), generator=generator).cumsum(1)
    last_U = start + torch.randint(0, 20, (U,), generator=generator)
    state = NodeState(
        draw(U, MEMORY_DIM),
        torch.where(torch.arange(U) // 3 % 3 == 0, NEVER, last_U),
        draw(U, num_slots, MEMORY_DIM),
        torch.where(full_UR, t_UR, NO_EVENT),
        full_U,
    )
    return state, MailContext(t_UR, draw(U, num_slots, edge_dim) if edge_dim else None)


def slowly(model: TGN, config: ModelConfig, state: NodeState, context: MailContext):
    """[U, D] memory and last updates by the reference."""
    slow = SlowModel(weights_of(model), config, TIME_UNIT)
    memories, updates = [], []
    for node in range(U):
        mails = []
        for slot in range(int((state.mail_event_UR[node] != NO_EVENT).sum())):
            features = context.edge_features_URd
            edge = np.zeros(0) if features is None else features[node, slot].double().numpy()
            other = state.mail_memory_URD[node, slot].double().numpy()
            mails.append(SlowMail(other, edge, int(context.t_UR[node, slot])))
        last = int(state.last_update_U[node])
        memory, last_update = slow.measure(
            state.memory_UD[node].double().numpy(), None if last == NEVER else last, mails
        )
        memories.append(memory)
        updates.append(NEVER if last_update is None else last_update)
    return torch.tensor(np.array(memories)), updates


def empty(state: NodeState) -> torch.Tensor:
    return (state.mail_event_UR == NO_EVENT).all(1)


AGGREGATORS = pytest.mark.parametrize("aggregator", ["last", "mean", "sequential"])
SLOTS = pytest.mark.parametrize("num_slots", [1, 3])


@AGGREGATORS
@SLOTS
@pytest.mark.parametrize("updater", ["gru", "rnn"])
@pytest.mark.parametrize(
    ("message", "edge_dim", "time_encoding"),
    [("identity", EDGE_DIM, "fixed"), ("mlp", EDGE_DIM, "learnable"), ("identity", 0, "fixed")],
)
def test_equals_loop_over_nodes(aggregator, num_slots, updater, message, edge_dim, time_encoding):
    config = ModelConfig(
        **SMALL,
        aggregator=aggregator,
        updater=updater,
        message=message,
        time_encoding=time_encoding,
    )
    model = build(config, edge_dim)
    state, context = random_mail(num_slots, edge_dim)
    measured = model.updater(state, context)
    memory, last_update = slowly(model, config, state, context)
    torch.testing.assert_close(measured.memory_UD.double(), memory, rtol=0, atol=1e-5)
    assert measured.last_update_U.tolist() == last_update


@AGGREGATORS
@SLOTS
def test_empty_mailboxes_change_nothing(aggregator, num_slots):
    model = build(ModelConfig(**SMALL, aggregator=aggregator))
    state, context = random_mail(num_slots)
    state.memory_UD.requires_grad_()
    measured = model.updater(state, context)
    nothing = empty(state)
    assert 0 < int(nothing.sum()) < U
    assert torch.equal(measured.memory_UD[nothing], state.memory_UD[nothing])
    assert torch.equal(measured.last_update_U[nothing], state.last_update_U[nothing])
    assert (measured.memory_UD[~nothing] != state.memory_UD[~nothing]).any(1).all()
    measured.memory_UD[nothing].sum().backward()
    for parameter in model.updater.parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


@AGGREGATORS
def test_empty_slots_are_not_read(aggregator):
    model = build(ModelConfig(**SMALL, aggregator=aggregator))
    state, context = random_mail(3)
    before = model.updater(state, context)
    nothing = state.mail_event_UR == NO_EVENT
    state.mail_memory_URD[nothing] = 1e6
    context.t_UR[nothing] = 1 << 60
    assert context.edge_features_URd is not None
    context.edge_features_URd[nothing] = -1e6
    after = model.updater(state, context)
    assert torch.equal(before.memory_UD, after.memory_UD)
    assert torch.equal(before.last_update_U, after.last_update_U)


@pytest.mark.parametrize("aggregator", ["mean", "sequential"])
def test_one_slot_is_the_last_message(aggregator):
    results: list[MeasuredMemory] = []
    for kind in (aggregator, "last"):
        model = build(ModelConfig(**SMALL, aggregator=kind))
        results.append(model.updater(*random_mail(1)))
    torch.testing.assert_close(results[0].memory_UD, results[1].memory_UD)
    assert torch.equal(results[0].last_update_U, results[1].last_update_U)


def test_one_full_slot_of_three_is_the_last_message():
    state, context = random_mail(3)
    one = (state.mail_event_UR != NO_EVENT).sum(1) == 1
    results = [
        build(ModelConfig(**SMALL, aggregator=kind)).updater(state, context)
        for kind in ("sequential", "mean", "last")
    ]
    for other in results[:2]:
        torch.testing.assert_close(other.memory_UD[one], results[2].memory_UD[one])
        assert torch.equal(other.last_update_U[one], results[2].last_update_U[one])
        assert not torch.allclose(other.memory_UD[~one], results[2].memory_UD[~one])


@AGGREGATORS
def test_sequential_alone_depends_on_the_order(aggregator):
    model = build(ModelConfig(**SMALL, aggregator=aggregator))
    state, context = random_mail(3)
    context.t_UR[:] = context.t_UR[:, -1:]
    full = (state.mail_event_UR != NO_EVENT).all(1)
    before = model.updater(state, context).memory_UD[full]
    swap = [1, 0, 2]
    assert context.edge_features_URd is not None
    swapped = MailContext(context.t_UR, context.edge_features_URd[:, swap])
    other = NodeState(**{**vars(state), "mail_memory_URD": state.mail_memory_URD[:, swap]})
    after = model.updater(other, swapped).memory_UD[full]
    assert torch.allclose(before, after, atol=1e-6) == (aggregator != "sequential")


def test_never_updated_means_no_time_has_passed():
    t = torch.tensor([0, 5, 1_700_000_000_000, (1 << 63) - 1])
    assert elapsed_since(torch.full((4,), NEVER), t).tolist() == [0, 0, 0, 0]
    assert elapsed_since(torch.tensor([0, 3, 1_699_999_999_999, 1]), t).tolist() == [
        0,
        2,
        1,
        (1 << 63) - 2,
    ]


@AGGREGATORS
@SLOTS
def test_milliseconds_between_epoch_times_are_kept_apart(aggregator, num_slots):
    model = build(ModelConfig(**SMALL, aggregator=aggregator))
    results = [
        model.updater(*random_mail(num_slots, start=start)) for start in (0, 1_700_000_000_000)
    ]
    assert torch.equal(results[0].memory_UD, results[1].memory_UD)
    written = results[0].last_update_U != NEVER
    assert torch.equal(
        results[0].last_update_U[written] + 1_700_000_000_000, results[1].last_update_U[written]
    )


def test_identity_message_is_the_raw_message():
    time = TimeEncoding(5, TIME_UNIT, learnable=False)
    function = MessageFunction(ModelConfig(**SMALL), MEMORY_DIM, EDGE_DIM, time)
    own, other, edge = torch.randn(7, 6), torch.randn(7, 6), torch.randn(7, EDGE_DIM)
    elapsed = torch.arange(7)
    message = function(own, function.rest(other, edge, elapsed))
    assert torch.equal(message, torch.cat([own, other, edge, time(elapsed)], dim=1))
    assert function.out_dim == message.shape[1] == 2 * MEMORY_DIM + EDGE_DIM + 5


def test_messages_of_whole_mailboxes():
    """[U, R, ...] gives the messages of each slot."""
    time = TimeEncoding(5, TIME_UNIT, learnable=False)
    function = MessageFunction(ModelConfig(**SMALL, message="mlp"), MEMORY_DIM, EDGE_DIM, time)
    own, other = torch.randn(4, 3, MEMORY_DIM), torch.randn(4, 3, MEMORY_DIM)
    edge, elapsed = torch.randn(4, 3, EDGE_DIM), torch.randint(0, 50, (4, 3))
    messages = function(own, function.rest(other, edge, elapsed))
    assert messages.shape == (4, 3, SMALL["message_dim"])
    for slot in range(3):
        rest = function.rest(other[:, slot], edge[:, slot], elapsed[:, slot])
        alone = function(own[:, slot], rest)
        torch.testing.assert_close(messages[:, slot], alone)


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.RNNCell])
def test_split_cells_are_those_of_torch(kind):
    torch.manual_seed(0)
    cell = kind(MEMORY_DIM + 9, MEMORY_DIM).double()
    own = torch.randn(7, MEMORY_DIM, dtype=torch.float64, requires_grad=True)
    rest = torch.randn(7, 9, dtype=torch.float64, requires_grad=True)
    weigh = torch.randn(7, MEMORY_DIM, dtype=torch.float64)
    inputs = [own, rest, *cell.parameters()]
    expected = cell(torch.cat([own, rest], dim=1), own)
    actual = next_memory(cell, own, from_rest(cell, rest), own_weights(cell))
    torch.testing.assert_close(actual, expected)
    for mine, theirs in zip(
        torch.autograd.grad((actual * weigh).sum(), inputs),
        torch.autograd.grad((expected * weigh).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_gradient_reaches_the_cell_and_the_message_function():
    model = build(ModelConfig(**SMALL, message="mlp", time_encoding="learnable"))
    assert isinstance(model.updater, MemoryUpdater)
    model.updater(*random_mail(3)).memory_UD.square().sum().backward()
    for name, parameter in model.updater.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
