"""Encoding of time differences as vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pres_dist.model.rows import Rows
from pres_dist.model.shapes import shapes_are_fixed


class TimeEncoding(nn.Module):
    """phi(dt) = cos(dt * w + b), dt in units of `time_unit`; b = 0 when fixed.

    Frequencies start as a geometric sequence, w_i = a^(-i / a) with a = sqrt(dim) (Cong et al.,
    GraphMixer, ICLR 2023, equation 1): from one radian a unit down to 10^-dim/10.
    `learnable` trains them and the phases (Xu et al., TGAT, ICLR 2020); fixed ones
    need no backward pass.

    Args:
        dim: size of an encoding.
        time_unit: length of one unit of time, in the stream's own units.
        learnable: whether w and b are parameters.
    """

    frequencies: Tensor
    time_unit: Tensor

    def __init__(self, dim: int, time_unit: float, learnable: bool) -> None:
        super().__init__()
        self.dim = dim
        self.learnable = learnable
        base = dim**0.5
        frequencies = base ** (-torch.arange(dim, dtype=torch.float64) / base)
        self.register_buffer("time_unit", torch.tensor(time_unit))
        if learnable:
            self.frequencies = nn.Parameter(frequencies.float())
            self.phases = nn.Parameter(torch.zeros(dim))
        else:
            self.register_buffer("frequencies", frequencies.float())

    def rows(self, dt_QK: Tensor) -> Rows:
        """Encode [Q, K] time differences, computing each distinct one once.

        On a GPU all are encoded: counting the distinct ones would synchronize.
        """
        on_gpu = dt_QK.device.type != "cpu"
        if on_gpu or shapes_are_fixed() or torch.compiler.is_exporting():
            return Rows.of(self(dt_QK))
        dt_X, place_QK = torch.unique(dt_QK, return_inverse=True)
        return Rows(self(dt_X), place_QK)

    def now(self) -> Tensor:
        """Return phi(0) as a row: [1, dim]."""
        if self.learnable:
            return torch.cos(self.phases)[None]
        return torch.ones_like(self.frequencies)[None]

    def forward(self, dt: Tensor) -> Tensor:
        """Return [..., dim] encodings of the int64 time differences [...].

        The difference is taken in int64 and becomes float only here.
        """
        units = dt / self.time_unit
        if self.learnable:
            return torch.cos(units[..., None] * self.frequencies + self.phases)
        # In place, and reduced to one turn first: the cosine of a large angle is slow.
        turns = units[..., None] * (self.frequencies / (2 * math.pi))
        return turns.frac_().mul_(2 * math.pi).cos_()
