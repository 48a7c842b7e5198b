"""Simulated NCCL: collectives over tensors of the simulated device alone, carried out by gloo.

What NCCL refuses raises: tensors of the host, two workers on one GPU, one worker on two, two
threads on one communicator. `collective_order.py` notes the order of collectives. Importing this
module makes it torch's backend for the device.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from tests.gpu.collective_order import enqueuing
from tests.gpu.simulated import NAME, SimTensor, tensors_in

BACKEND = "simccl"


class _Done(dist.Work):
    """A collective that is over when its call returns."""

    def wait(self, timeout: timedelta | None = None) -> bool:
        return True

    def is_completed(self) -> bool:
        return True


class SimulatedNCCL(dist.ProcessGroup):
    """A group of workers with a simulated GPU each.

    Args:
        store, rank, size, timeout: as torch gives them.
    """

    def __init__(self, store: dist.Store, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)
        gloo = dist.PrefixStore(BACKEND, store)
        self._gloo = dist.ProcessGroupGloo(gloo, rank, size, timeout=timeout)
        self._devices = dist.PrefixStore("devices", store)
        self._device: torch.device | None = None

    def getBackendName(self) -> str:
        return BACKEND

    @property
    def _device_types(self) -> list[torch.device]:
        return [torch.device(NAME)]

    @property
    def supports_splitting(self) -> bool:
        return False

    def _get_backend(self, device: torch.device) -> SimulatedNCCL:
        return self

    def allreduce(self, tensors: list[Tensor], options: Any = None) -> _Done:
        return self._run(self._gloo.allreduce, tensors, options)

    def broadcast(self, tensors: list[Tensor], options: Any = None) -> _Done:
        return self._run(self._gloo.broadcast, tensors, options)

    def allgather(self, outs: list[list[Tensor]], ins: list[Tensor], options: Any = None) -> _Done:
        return self._run(self._gloo.allgather, outs, ins, options)

    def gather(self, outs: list[list[Tensor]], ins: list[Tensor], options: Any = None) -> _Done:
        return self._run(self._gloo.gather, outs, ins, options)

    def all_gather_single(self, out: Tensor, own: Tensor, options: Any = None) -> _Done:
        outs = list(out.view(self.size(), *own.shape).unbind(0))
        return self._run(self._gloo.allgather, [outs], [own])

    _allgather_base = all_gather_single

    def all_to_all_single(
        self,
        out: Tensor,
        own: Tensor,
        out_splits: Sequence[int] | None = None,
        own_splits: Sequence[int] | None = None,
        options: Any = None,
    ) -> _Done:
        splits = [list(each or []) for each in (out_splits, own_splits)]
        return self._run(self._gloo.alltoall_base, out, own, *splits)

    alltoall_base = all_to_all_single

    def send(self, tensors: list[Tensor], rank: int, tag: int = 0) -> _Done:
        return self._run(self._gloo.send, tensors, rank, tag)

    def recv(self, tensors: list[Tensor], rank: int, tag: int = 0) -> _Done:
        return self._run(self._gloo.recv, tensors, rank, tag)

    def _run(self, collective: Callable[..., dist.Work], *arguments: Any) -> _Done:
        given = [self._hosts(each) for each in arguments if each is not None]
        what = f"{collective.__name__} {next(tensors_in(arguments)).dtype}"
        name = distributed_c10d._get_process_group_name(self)
        with enqueuing(name, dist.get_process_group_ranks(self), what):
            collective(*given).wait()
        return _Done()

    def _hosts(self, value: Any) -> Any:
        """Arguments as gloo takes them; RuntimeError or ValueError for what NCCL refuses."""
        if isinstance(value, (list, tuple)):
            return [self._hosts(each) for each in value]
        if not isinstance(value, Tensor):
            return value
        if not isinstance(value, SimTensor):
            raise RuntimeError(f"No backend type associated with device type {value.device.type}")
        if not value.is_contiguous():
            raise ValueError("Tensors must be contiguous")
        self._bind(value.device)
        return value.host

    def _bind(self, device: torch.device) -> None:
        """Note the device of this worker, which must be no other's, when it is first used."""
        if self._device is None:
            self._device = device
            self._devices.set(str(self.rank()), f"{socket.gethostname()} {device}")
            taken = [self._devices.get(str(rank)) for rank in range(self.size())]
            if len(set(taken)) < len(taken):
                raise RuntimeError(f"ncclInvalidUsage: Duplicate GPU detected: {taken}")
        if device != self._device:
            raise RuntimeError(f"the communicator is on {self._device}, got a tensor on {device}")


def _register() -> None:
    dist.Backend.register_backend(BACKEND, SimulatedNCCL, devices=[NAME])
    of_objects = distributed_c10d._get_object_coll_device

    # "sim" without a number is the current device, as with CUDA; C++ takes it for the first.
    def with_number(group: dist.ProcessGroup | None = None) -> str:
        found = of_objects(group)
        return (
            f"{NAME}:{torch.get_device_module(NAME).current_device()}" if found == NAME else found
        )

    distributed_c10d._get_object_coll_device = with_number


_register()
