"""Checks of events before they are written down: what is in the journal can be taken in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pres_dist.errors import DataError, PresDistError
from pres_dist.events.stream import EventStream
from pres_dist.serve.names import NodeNames, RawId
from pres_dist.serve.requests import Event
from pres_dist.use.times import shown, times_of


class ConflictError(PresDistError):
    """A request that counts on another state of the service than it is in."""


@dataclass(frozen=True)
class Checked:
    """Events that may be taken in.

    Attributes:
        src, dst: ids as the stream has them.
        t: times in its unit.
        features: float32 values of each event.
        labels: of each; None where it has none.
    """

    src: Sequence[RawId]
    dst: Sequence[RawId]
    t: Sequence[int]
    features: Sequence[Sequence[float]]
    labels: Sequence[int | None]

    def rows(self) -> Iterator[list[Any]]:
        """As the journal holds them."""
        columns = (self.src, self.dst, self.t, self.features, self.labels)
        return (list(row) for row in zip(*columns, strict=True))


class EventChecks:
    """Checks events against the stream that they continue.

    Args:
        stream: its times, features and labels.
        names: its ids, and those that came since.
    """

    def __init__(self, stream: EventStream, names: NodeNames) -> None:
        self._stream, self._names = stream, names

    def check(self, events: Sequence[Event], first_allowed: int) -> Checked:
        """Events as they will be written down.

        Args:
            events: as they came.
            first_allowed: the earliest time that the first may have.

        Raises:
            DataError: with the place of the first that is not valid.
        """
        times = self._times(events, first_allowed)
        sides: dict[RawId, str] = {}
        for place, event in enumerate(events):
            self._check_ends(event, f"events[{place}]", sides)
            self._check_label(event, f"events[{place}]")
        return Checked(
            [self._names.normal(event.src, "src") for event in events],
            [self._names.normal(event.dst, "dst") for event in events],
            times,
            [self._features(event, f"events[{place}]") for place, event in enumerate(events)],
            [event.label for event in events],
        )

    def _times(self, events: Sequence[Event], first_allowed: int) -> list[int]:
        given = [event.t for event in events]
        if all(isinstance(t, int) for t in given):
            t_n = np.array(given, np.int64)
        else:
            texts = [isinstance(t, str) for t in given]
            if not all(texts):
                place = texts.index(False)
                raise DataError(f"events[{place}].t must be a text where others are, got a number")
            t_n = times_of(self._stream, pa.array(given), "t", lambda row: f"events[{row}]")
        before = np.concatenate([[first_allowed], t_n[:-1]])
        if (t_n < before).any():
            place = int(np.argmax(t_n < before))
            raise DataError(
                f"events[{place}].t must be at least {shown(self._stream, int(before[place]))}, "
                f"where the events before have brought memory, got "
                f"{shown(self._stream, int(t_n[place]))}"
            )
        times: list[int] = t_n.tolist()
        return times

    def _check_ends(self, event: Event, where: str, sides: dict[RawId, str]) -> None:
        known = self._names.check(event.src, "source", f"{where}.src")
        known &= self._names.check(event.dst, "destination", f"{where}.dst")
        if not known and self._stream.node_features is not None:
            raise DataError(
                f"{where}: nodes of {self._stream.name} have features, so src and dst must be known"
            )
        if not self._names.one_of_two:
            return
        for raw, side in ((event.src, "source"), (event.dst, "destination")):
            normal = self._names.normal(raw, where)
            if sides.setdefault(normal, side) != side:
                raise DataError(f"{where}: {raw!r} is both a source and a destination")

    def _check_label(self, event: Event, where: str) -> None:
        if event.label is not None and self._stream.labels is None:
            raise DataError(f"{where}.label: {self._stream.name} has no labels, got {event.label}")

    def _features(self, event: Event, where: str) -> list[float]:
        wanted = self._stream.edge_dim
        if len(event.features) != wanted:
            raise DataError(
                f"{where}.features must be the {wanted} numbers that events of "
                f"{self._stream.name} have, got {len(event.features)}"
            )
        with np.errstate(over="ignore"):
            values = np.array(event.features, np.float32)
        if not np.isfinite(values).all():
            place = int(np.argmax(~np.isfinite(values)))
            raise DataError(f"{where}.features[{place}] must be finite as a float32")
        found: list[float] = values.tolist()
        return found
