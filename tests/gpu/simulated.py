"""A simulated GPU: the device `sim` computes on the CPU, by the rules of CUDA.

A tensor of `sim` wraps a tensor of the CPU that nothing else reaches. What CUDA refuses raises:
operands of different devices, NumPy, operations without a CUDA kernel. Operations are counted
(`counting.py`), and so is what makes the host wait for a GPU: values, results whose size depends
on values, and copies between host and device.

Importing this module registers the device with torch, for the life of the process. There are four
devices, `sim:0` to `sim:3`. Torch knows one of them only where C++ asks for the current device:
`.to("sim")` is always `sim:0`, and backward on `sim:1` needs
`torch.autograd.set_multithreading_enabled(False)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils import _foreach_utils, backend_registration

from tests.gpu.counting import caller, note
from tests.gpu.cuda_kernels import check_runs_on_cuda

NAME = "sim"
NUM_DEVICES = 4

_VALUES = {"_local_scalar_dense", "equal", "is_nonzero"}
_SIZES = {
    *("nonzero", "masked_select", "bincount", "histc", "repeat_interleave"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_NO_KERNEL = {
    *("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "resize_"),
    *("_unsafe_view", "detach", "alias", "lift", "lift_fresh", "_local_scalar_dense", "set_"),
}
"""Operations that launch nothing, besides views."""

_current = [0]


class SimTensor(Tensor):
    """A tensor of a simulated device.

    Attributes:
        host: the numbers; read and written by the operations of the device alone.
    """

    host: Tensor
    __slots__ = ["host"]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor, index: int) -> SimTensor:
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            layout=host.layout,
            device=torch.device(NAME, index),
        )
        wrapper.host = host
        return wrapper

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )

    __array__ = numpy

    def tolist(self) -> Any:
        note("copy", "tolist")
        return self.host.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As a tensor of the CPU: what is loaded with `map_location="cpu"`."""
        note("copy", "pickle")
        return self.host.clone().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> SimTensor:
        if id(self) not in memo:
            copied = SimTensor(self.host.clone(), self.device.index)
            memo[id(self)] = copied.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __repr__(self, **_: Any) -> str:
        return f"SimTensor({self.host!r}, device='{self.device}')"


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Check, note and compute one operation of torch."""
    name = func.overloadpacket.__name__
    if func.namespace == "c10d":  # a group of torch's own: gloo
        raise RuntimeError(f"No backend type associated with device type {NAME} ({caller()[0]})")
    if name == "_to_copy":
        return _to_copy(*args, **kwargs)
    if name == "copy_":
        return _copy(*args, **kwargs)
    tensors = list(tensors_in([*args, *kwargs.values()]))
    own = [each for each in tensors if isinstance(each, SimTensor)]
    _check_devices(func, name, tensors, own)
    _note_waits(name, args, kwargs)
    if not func.is_view and name not in _NO_KERNEL:
        check_runs_on_cuda(func, own[0].dtype if own else None)
        note("launch", name)
    device = kwargs.get("device", own[0].device if own else None)
    if name in _FUSED:
        return _FUSED[name](*args, **kwargs)
    result = func(*_hosts(args), **{key: _hosts(value) for key, value in kwargs.items()})
    if name == "resize_":  # of collectives of objects
        args[0].data = _on(args[0].device, args[0].host)
    written = {id(each.host): each for each in own}
    return _wrapped(result, written, torch.device(device))


def _check_devices(
    func: Any, name: str, tensors: Sequence[Tensor], own: Sequence[SimTensor]
) -> None:
    """Raise for operands that CUDA refuses; indices may come from the host, at the cost of a copy.

    So may single numbers, where an operation takes element by element.
    """
    devices = {str(each.device) for each in own}
    strangers = [each for each in tensors if not isinstance(each, SimTensor)]
    if name in _INDEXING:
        for _ in strangers:
            note("copy", name)
    elif strangers and not (
        torch.Tag.pointwise in func.tags and all(each.dim() == 0 for each in strangers)
    ):
        devices |= {str(each.device) for each in strangers}
    if len(devices) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(sorted(devices))}! ({func}, {caller()[0]})"
        )


def _note_waits(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    if name in _VALUES:
        note("value", name)
    if name in _SIZES and kwargs.get("output_size") is None:
        note("size", name)
    if name in _INDEXING and any(each.dtype == torch.bool for each in tensors_in(args[1])):
        note("size", name)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """All tensors among arguments."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors_in(value)


def _hosts(value: Any) -> Any:
    """Arguments as the CPU takes them."""
    if isinstance(value, SimTensor):
        return value.host
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if isinstance(value, (list, tuple)):
        return type(value)(_hosts(each) for each in value)
    return value


def _wrapped(result: Any, written: dict[int, SimTensor], device: torch.device) -> Any:
    """Results as tensors of the device; what was written in place is its old tensor."""
    if isinstance(result, (list, tuple)):
        return type(result)(_wrapped(each, written, device) for each in result)
    if not isinstance(result, Tensor):
        return result
    return written[id(result)] if id(result) in written else _on(device, result)


def _on(device: torch.device, host: Tensor) -> SimTensor:
    return SimTensor(host, _current[0] if device.index is None else device.index)


# ----------------------------------------------------------------------------- copies


def _to_copy(source: Tensor, non_blocking: bool = False, **kwargs: Any) -> Tensor:
    """`Tensor.to`, of a tensor or to a device of the simulation."""
    device = kwargs.pop("device", None) or source.device
    kwargs.pop("pin_memory", None)
    copied = torch.ops.aten._to_copy.default(_hosts(source), **kwargs)
    if device.type == NAME and not isinstance(source, SimTensor):
        note("copy", "to")
    if device.type != NAME:
        note("copy", "cpu")
        return copied
    note("launch", "_to_copy")
    return _on(device, copied)


def _copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    if isinstance(target, SimTensor) != isinstance(source, SimTensor):
        note("copy", "copy_")
    note("launch", "copy_")
    _hosts(target).copy_(_hosts(source))
    return target


# ------------------------------------------------------------- kernels that only GPUs have


def _gru_cell(
    input_gates: SimTensor,
    hidden_gates: SimTensor,
    hidden: SimTensor,
    input_bias: SimTensor | None = None,
    hidden_bias: SimTensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Forward pass of a GRU cell after its products of matrices; and what backward needs."""
    entered, kept, state = input_gates.host, hidden_gates.host, hidden.host
    if input_bias is not None and hidden_bias is not None:
        entered, kept = entered + input_bias.host, kept + hidden_bias.host
    (reset_in, update_in, new_in), (reset, update, new) = entered.chunk(3, 1), kept.chunk(3, 1)
    reset, update = torch.sigmoid(reset_in + reset), torch.sigmoid(update_in + update)
    candidate = torch.tanh(new_in + reset * new)
    result = candidate + update * (state - candidate)
    workspace = torch.cat([reset, update, candidate, state, new], dim=1)
    return _on(hidden.device, result), _on(hidden.device, workspace)


def _gru_cell_backward(
    gradient: SimTensor, workspace: SimTensor, has_bias: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of input gates, hidden gates, hidden state and both biases."""
    grad = gradient.host
    reset, update, candidate, state, new = workspace.host.chunk(5, 1)
    candidate_in = grad * (1 - update) * (1 - candidate.square())
    update_in = grad * (state - candidate) * update * (1 - update)
    reset_in = candidate_in * new * reset * (1 - reset)
    entered = torch.cat([reset_in, update_in, candidate_in], dim=1)
    kept = torch.cat([reset_in, update_in, candidate_in * reset], dim=1)
    biases = [entered.sum(0), kept.sum(0)] if has_bias else []
    found = [entered, kept, grad * update, *biases]
    return tuple([*(_on(gradient.device, each) for each in found), None, None][:5])


_FUSED: dict[str, Callable[..., Any]] = {
    "_thnn_fused_gru_cell": _gru_cell,
    "_thnn_fused_gru_cell_backward": _gru_cell_backward,
}


# ------------------------------------------------------------------------- registration


class _Stream:
    """The only stream: what was started is done."""

    device_type = NAME

    def __init__(self, device: torch.device | None = None) -> None: ...

    def record_event(self) -> object:
        return object()

    def synchronize(self) -> None:
        note("value", "synchronize")

    def wait_stream(self, other: _Stream) -> None: ...

    def wait_event(self, event: object) -> None: ...


class _Module(backend_registration._DummyBackendModule):
    """`torch.sim`, as `torch.cuda`."""

    Stream = _Stream

    def device_count(self) -> int:
        return NUM_DEVICES

    def current_device(self) -> int:
        return _current[0]

    def set_device(self, device: torch.device | int) -> None:
        index = device if isinstance(device, int) else torch.device(device).index
        _current[0] = index or 0

    def current_stream(self, device: torch.device | int | None = None) -> _Stream:
        return _Stream()

    def stream(self, stream: _Stream) -> nullcontext[None]:
        return nullcontext()

    def synchronize(self, device: torch.device | int | None = None) -> None:
        note("value", "synchronize")

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def _factory(make: Callable[..., Tensor]) -> Callable[..., SimTensor]:
    """A function that makes tensors of the CPU, for the device."""

    def made(*sizes: Any, device: torch.device, **kwargs: Any) -> SimTensor:
        kwargs.pop("pin_memory", None)
        kwargs.pop("layout", None)
        if kwargs.get("memory_format", 0) is None:
            kwargs.pop("memory_format")
        if make is torch.arange:
            note("launch", "arange")
        return _on(device, make(*sizes, **kwargs))

    return made


_library = torch.library.Library("aten", "IMPL")


def _register() -> None:
    _foreach_utils._foreach_supported_types.append(SimTensor)  # as tensors of CUDA
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    for operation, make in {
        "empty.memory_format": torch.empty,
        "empty_strided": torch.empty_strided,
        "arange": torch.arange,
        "arange.start": torch.arange,
        "arange.start_step": torch.arange,
    }.items():
        _library.impl(operation, _factory(make), "PrivateUse1")
    # Where torch itself makes a tensor of numbers of Python, past `__torch_dispatch__`.
    _library.impl(
        "_copy_from",
        lambda source, target, non_blocking=False: _copy(target, source, non_blocking),
        "PrivateUse1",
    )


_register()
