"""The simulated GPU refuses what CUDA refuses, and sees what makes a host wait."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pres_dist.step.stages import StageClock
from tests.gpu.counting import counted
from tests.gpu.cuda_kernels import fixed_order


@pytest.fixture
def one(sim: torch.device) -> Tensor:
    return torch.arange(4, device=sim)


MIXED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "add": lambda one, other: one + other,
    "cat": lambda one, other: torch.cat([one, other]),
    "index_select": lambda one, other: one.index_select(0, other),
    "searchsorted": lambda one, other: torch.searchsorted(one, other),
    "index_copy": lambda one, other: one.index_copy_(0, one, other),
    "stack of numbers": lambda one, other: torch.stack([one.sum(), other.sum()]),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("other", ["cpu", "sim:1"])
def test_devices_do_not_mix(name: str, other: str, one: Tensor) -> None:
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        MIXED[name](one, torch.arange(4, device=other))


def test_numpy_is_refused(one: Tensor) -> None:
    for ask in (one.numpy, lambda: np.asarray(one)):
        with pytest.raises(TypeError, match="can't convert sim:0 device type tensor to numpy"):
            ask()


def test_operations_without_a_cuda_kernel_are_refused(one: Tensor) -> None:
    with pytest.raises(NotImplementedError, match="Could not run 'histogram'"):
        torch.histogram(one.float(), 2)
    square = one.view(2, 2)
    with pytest.raises(NotImplementedError, match=r'"mm_cuda" not implemented for torch\.int64'):
        torch.mm(square, square)
    assert torch.mm(square.float(), square.float()).tolist() == [[2, 3], [6, 11]]


def test_sums_in_no_fixed_order_are_refused_where_asked(one: Tensor) -> None:
    with fixed_order():
        assert one.cumsum(0).tolist() == [0, 1, 3, 6]
        with pytest.raises(RuntimeError, match="cumsum_cuda does not have a deterministic impl"):
            one.float().cumsum(0)
    one.float().cumsum(0)


def test_operations_are_counted_by_stage(one: Tensor) -> None:
    clock = StageClock()
    with counted(clock) as found:
        with clock("loss"):
            (one.view(2, 2).T + 1).sort()
        torch.empty(2, device=one.device).zero_()
    assert found.operations() == {"loss": 2, "other": 1}
    assert found.kernels() > 3


def test_numbers_of_the_host_are_taken_element_by_element(one: Tensor) -> None:
    found = torch.where(one > 1, one * 2 + torch.tensor(1), 0)
    assert found.device == one.device
    assert found.tolist() == [0, 0, 5, 7]


ASKS: dict[str, tuple[str, Callable[[Tensor], object]]] = {
    "item": ("value", lambda one: one.sum().item()),
    "bool": ("value", lambda one: bool(one.any())),
    "equal": ("value", lambda one: torch.equal(one, one)),
    "mask": ("size", lambda one: one[one > 1]),
    "nonzero": ("size", lambda one: one.nonzero()),
    "unique": ("size", lambda one: torch.unique(one)),
    "repeat_interleave": ("size", lambda one: one.repeat_interleave(one)),
    "tolist": ("copy", lambda one: one.tolist()),
    "cpu": ("copy", lambda one: one.cpu()),
    "to the device": ("copy", lambda one: torch.arange(3).to(one)),
    "a number": ("copy", lambda one: torch.tensor(3, device=one.device)),
    "as_tensor": ("copy", lambda one: torch.as_tensor(3.0, device=one.device)),
    "copy_": ("copy", lambda one: one.copy_(torch.arange(4))),
    "index of the host": ("copy", lambda one: one[torch.tensor([1, 2])]),
}


@pytest.mark.parametrize("name", ASKS)
def test_a_wait_is_noted(name: str, one: Tensor) -> None:
    kind, ask = ASKS[name]
    with counted() as found:
        ask(one)
    assert [wait.kind for wait in found.waits.elements()] == [kind]


def test_what_needs_no_wait_is_none(one: Tensor) -> None:
    with counted() as found:
        picked = one.index_select(0, one.flip(0)) + one.new_full((), 3)
        picked += torch.arange(4, device=one.device)
        torch.where(picked > 4, picked, 0).sort()
        one.repeat_interleave(2)
    assert not found.waits


def test_gradients_are_those_of_the_cpu(sim: torch.device) -> None:
    torch.manual_seed(0)
    cell, x, state = torch.nn.GRUCell(3, 4), torch.randn(5, 3), torch.randn(5, 4)
    cell(x, state).square().sum().backward()
    expected = [parameter.grad for parameter in cell.parameters()]
    moved = torch.nn.GRUCell(3, 4)
    moved.load_state_dict(cell.state_dict())
    moved = moved.to(sim)
    moved(x.to(sim), state.to(sim)).square().sum().backward()
    for parameter, gradient in zip(moved.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.cpu(), gradient)
