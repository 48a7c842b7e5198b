"""Record a function of tensors once and replay it, without running its Python code again.

On a GPU the recording is a CUDA graph: one launch for all kernels. On a CPU it is a trace by
`make_fx`, which is no faster but replays the same operations, so that tests need no GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

Outputs = tuple[Tensor, ...]
Replay = Callable[[], Outputs]

_WARM_UPS = 3
"""Runs before the recording of a CUDA graph, in which libraries allocate their workspaces."""


def record(function: Callable[..., Outputs], *inputs: Tensor) -> Replay:
    """Return a replay of the function on the same inputs, with the values that they then have.

    Tensors that the function reads or writes must keep their memory. Its operations must have
    fixed shapes, and it must not read values. Recording runs it a few times.

    Args:
        function: function of tensors to tensors.
        inputs: its arguments, all on one device.
    """
    if inputs[0].device.type == "cuda":
        return _cuda_graph(function, inputs)
    traced = trace(function, *inputs)

    def replay() -> Outputs:
        with torch.no_grad():  # the backward pass is part of the trace
            outputs: Outputs = traced(*inputs)
        return outputs

    return replay


def trace(function: Callable[..., Outputs], *inputs: Tensor) -> GraphModule:
    """Return the operations of the function, forward and backward, with the same arguments."""
    function(*inputs)  # creates the tensors that it keeps, such as an optimizer's state
    return make_fx(function)(*inputs)


def _cuda_graph(function: Callable[..., Outputs], inputs: Outputs) -> Replay:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            function(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Threads that write checkpoints may use the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = function(*inputs)

    def replay() -> Outputs:
        graph.replay()
        return outputs

    return replay
