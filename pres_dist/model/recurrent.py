"""Recurrent cells whose input starts with the node's own memory.

A message starts with the memory that is also the cell's state, so that two products
merge into one: W [own | rest] + U own = (W_own + U) own + W_rest rest. The part that does
not depend on the memory is computed for all messages at once, even for messages that are
applied sequentially. The parameters are those of torch's cells.

Shapes: X messages or nodes, D memory size, F numbers of the rest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Cell = nn.GRUCell | nn.RNNCell


def from_rest(cell: Cell, rest_XF: Tensor) -> Tensor:
    """Project the part of a cell's input that follows the own memory."""
    return F.linear(rest_XF, cell.weight_ih[:, -rest_XF.shape[1] :], cell.bias_ih)


def next_memory(cell: Cell, own_XD: Tensor, given: Tensor) -> Tensor:
    """Return the [X, D] state of the cell after the input [own | rest].

    Args:
        cell: a GRU (Cho et al., 2014, as torch computes it) or an Elman cell.
        own_XD: its state, and the first part of its input.
        given: result of `from_rest` for the rest.
    """
    dim = own_XD.shape[1]
    own_weights = cell.weight_ih[:, :dim]
    if isinstance(cell, nn.RNNCell):
        return torch.tanh(given + F.linear(own_XD, own_weights + cell.weight_hh, cell.bias_hh))
    if own_XD.device.type != "cpu":
        return _fused(cell, own_XD, torch.addmm(given, own_XD, own_weights.t()))
    # Reset and update gate, then the candidate's two parts: the reset gate scales only one.
    gates, rest = cell.weight_hh.split([2 * dim, dim])
    weights = torch.cat([own_weights[: 2 * dim] + gates, rest, own_weights[2 * dim :]])
    bias = torch.cat([cell.bias_hh, cell.bias_hh.new_zeros(dim)])
    own_gates, own_kept, own_candidate = F.linear(own_XD, weights, bias).split(
        [2 * dim, dim, dim], dim=1
    )
    given_gates, given_candidate = given.split([2 * dim, dim], dim=1)
    reset, update = torch.sigmoid(own_gates + given_gates).chunk(2, dim=1)
    candidate = torch.tanh(own_candidate + given_candidate + reset * own_kept)
    return torch.lerp(candidate, own_XD.to(candidate.dtype), update)


def _fused(cell: nn.GRUCell, own_XD: Tensor, input_gates: Tensor) -> Tensor:
    """Return the state of a GRU by CUDA's kernel for all gates, instead of one kernel for each."""
    hidden_gates = F.linear(own_XD, cell.weight_hh, cell.bias_hh)
    own_XD = own_XD.to(input_gates.dtype)  # which autocast lowers
    new_XD: Tensor = torch.ops.aten._thnn_fused_gru_cell(input_gates, hidden_gates, own_XD)[0]
    return new_XD
