"""Recurrent cells whose input starts with the node's own memory.

A message starts with the memory that is also the cell's state, so that two products
merge into one: W [own | rest] + U own = (W_own + U) own + W_rest rest. The part that does
not depend on the memory is computed for all messages at once, even for messages that are
applied sequentially. The parameters are those of torch's cells.

Shapes: X messages or nodes, D memory size, F numbers of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Cell = nn.GRUCell | nn.RNNCell


def from_rest(cell: Cell, rest_XF: Tensor) -> Tensor:
    """Project the part of a cell's input that follows the own memory."""
    given = F.linear(rest_XF, cell.weight_ih[:, -rest_XF.shape[1] :], cell.bias_ih)
    if isinstance(cell, nn.RNNCell) or given.device.type == "cpu":
        return given
    # CUDA's kernel takes the gates of input and state side by side.
    return torch.cat([given, cell.bias_hh.expand(len(given), -1)], dim=1)


@dataclass(frozen=True)
class OwnWeights:
    """Weights of a cell for the own memory, over both inputs: merged once for all messages."""

    weights: Tensor
    bias: Tensor | None


def own_weights(cell: Cell) -> OwnWeights:
    """Merge the weights that a cell applies to its state and to the same values in its input."""
    dim = cell.hidden_size
    of_input, of_state, bias = cell.weight_ih[:, :dim], cell.weight_hh, cell.bias_hh
    if isinstance(cell, nn.RNNCell):
        return OwnWeights(of_input + of_state, bias)
    if bias.device.type != "cpu":  # the bias is in what `from_rest` returns
        return OwnWeights(torch.cat([of_input, of_state]), None)
    # Reset and update gate, then the candidate's two parts: the reset gate scales only one.
    gates, rest = of_state.split([2 * dim, dim])
    weights = torch.cat([of_input[: 2 * dim] + gates, rest, of_input[2 * dim :]])
    return OwnWeights(weights, torch.cat([bias, bias.new_zeros(dim)]))


def next_memory(cell: Cell, own_XD: Tensor, given: Tensor, own: OwnWeights) -> Tensor:
    """Return the [X, D] state of the cell after the input [own | rest].

    Args:
        cell: a GRU (Cho et al., 2014, as torch computes it) or an Elman cell.
        own_XD: its state, and the first part of its input.
        given: result of `from_rest` for the rest.
        own: result of `own_weights`.
    """
    if own.bias is None:
        gates = torch.addmm(given, own_XD, own.weights.t())
        state_XD = own_XD.to(gates.dtype)  # which autocast lowers
        fused: tuple[Tensor, Tensor] = torch.ops.aten._thnn_fused_gru_cell(
            *gates.chunk(2, dim=1), state_XD
        )
        return fused[0]
    dim, projected = own_XD.shape[1], F.linear(own_XD, own.weights, own.bias)
    if isinstance(cell, nn.RNNCell):
        return torch.tanh(given + projected)
    own_gates, own_kept, own_candidate = projected.split([2 * dim, dim, dim], dim=1)
    given_gates, given_candidate = given.split([2 * dim, dim], dim=1)
    reset, update = torch.sigmoid(own_gates + given_gates).chunk(2, dim=1)
    candidate = torch.tanh(own_candidate + given_candidate + reset * own_kept)
    return torch.lerp(candidate, own_XD.to(candidate.dtype), update)
