"""A counter-based random generator: a draw is a pure function of its key.

With a stateful generator, draws would depend on how a batch is sliced, so one worker
and several could not compute the same result. Here the draw for an event depends only
on (seed, purpose, epoch, event id, slot). The function is
the finalizer of SplitMix64 (Steele, Lea, Flood: OOPSLA 2014) on int64 tensors,
whose products wrap around modulo 2^64 on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

Key = int | Tensor
"""Part of a generator's key: a number, or an int64 scalar tensor."""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _signed(x: int) -> int:
    """Return the int64 with the same 64 bits."""
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift right logically; torch's own shift is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    return x ^ _shift_right(x, 31)


def _mixed(x: Key) -> Key:
    """Apply the finalizer to a number, or to a tensor with the same result."""
    if isinstance(x, Tensor):
        return _mix(x)
    x &= _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return _signed(x ^ (x >> 31))


class CounterRNG:
    """Random generator keyed by integers fixed at construction and by tensors of counters.

    Args:
        key: e.g. (seed, purpose, epoch); different keys give independent draws. A part may be an
            int64 scalar tensor, with the same draws as the number: a recorded step is replayed
            with other epochs.
    """

    def __init__(self, *key: Key) -> None:
        state: Key = 0
        for part in key:
            state = _mixed(_mixed(part) + state + _signed(_GOLDEN))
        self._key = state

    @staticmethod
    def joint(rngs: Sequence[CounterRNG], first: Tensor, *counters: Tensor) -> CounterRNG:
        """Return one generator for several, with counters added to their keys.

        Its draws are those of the first, of the second and so on, stacked along a new axis.
        """
        stepped = (first + 1) * _signed(_GOLDEN)
        joint = copy(rngs[0])
        joint._key = _mix(torch.stack([stepped + rng._key for rng in rngs]))
        joint._key = joint.bits(*counters)
        return joint

    def __getitem__(self, number: int) -> CounterRNG:
        """Return one of the generators that `joint` joined, with its counters."""
        assert isinstance(self._key, Tensor)
        one = copy(self)
        one._key = self._key[number]
        return one

    def bits(self, *counters: Tensor) -> Tensor:
        """Return 64 random bits for each element of the broadcast int64 counters."""
        state = self._key
        for counter in counters:
            # Without the 1, a counter of 0 would not step the generator.
            state = _mix(state + (counter + 1) * _signed(_GOLDEN))
        assert isinstance(state, Tensor)
        return state

    def uniform(self, *counters: Tensor) -> Tensor:
        """Return uniform float64 in [0, 1), one for each element of the counters."""
        # A double has 53 bits; more would round some draws up to 1.
        return _shift_right(self.bits(*counters), 11).double() * 2.0**-53

    def integers(self, high: Tensor | int, *counters: Tensor) -> Tensor:
        """Return uniform int64 in [0, high); 0 if high is 0. high must be below 2^53."""
        return integers(self.uniform(*counters), high)


def integers(uniform: Tensor, high: Tensor | int) -> Tensor:
    """Turn draws from [0, 1) into int64 in [0, high); 0 if high is 0. high must be below 2^53."""
    return (uniform * high).long()
