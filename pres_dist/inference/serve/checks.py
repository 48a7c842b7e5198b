"""Validation of events, before they are journaled and again before they are appended.

An event that passes can be read back, scored, and appended to the run. `ScoringService` runs
these checks before it journals an event, and `pres-dist extend --served` runs them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pres_dist.errors import DataError, PresDistError
from pres_dist.events.raw_ids import RawId
from pres_dist.events.stream import EventStream
from pres_dist.inference.journal import Row
from pres_dist.inference.serve.names import NodeNames
from pres_dist.inference.serve.request_models import Event, event_of, told
from pres_dist.inference.times import MaxAhead, check_ahead, latest_allowed, shown, times_of_values

NO_LABEL = -1
"""Value in a stream for an event without a label."""


class ConflictError(PresDistError):
    """The request expects a different number of ingested events."""


class EventChecks:
    """Validator of events against the stream that they continue.

    Args:
        stream: the stream, which defines times, features and labels.
        names: ids of the stream and of nodes that were added since.
        labels: allowed labels; None allows any.
        max_ahead: how far after the last event the events of a request may be.
    """

    def __init__(
        self,
        stream: EventStream,
        names: NodeNames,
        labels: np.ndarray | None = None,
        max_ahead: MaxAhead = "auto",
    ) -> None:
        self._stream, self._names = stream, names
        self._max_ahead = max_ahead
        latest_allowed(stream, int(stream.t[-1]), max_ahead)  # raises for one that is not valid
        self._labels = None if labels is None else set(labels.tolist())

    def accept(self, events: Sequence[Event], first_allowed: int) -> list[Row]:
        """Return the events of a request as rows of the journal.

        Ids are in the stream's normal form, times in its unit, features as float32.

        Args:
            events: the events of the request.
            first_allowed: earliest time that the first event may have.

        Raises:
            DataError: an event is not valid. The message has the location of the first one.
        """
        where = [f"events[{place}]" for place in range(len(events))]
        given = [event.t for event in events]
        t_n = times_of_values(self._stream, given, "t", where.__getitem__)
        check_ahead(self._stream, t_n, first_allowed, "t", where.__getitem__, self._max_ahead)
        return self._checked(events, t_n, first_allowed, where)

    def recheck(self, rows: Mapping[int, Row], first_allowed: int) -> None:
        """Check events of a journal, given by number, as `accept` does.

        Raises:
            DataError: an event is not valid. The message has the number of the first one, and the
                command that drops it.
        """
        where = [f"event {number}" for number in rows]
        try:
            events = [event_of(row, place) for row, place in zip(rows.values(), where, strict=True)]
            t_n = np.array([event.t for event in events], np.int64)
            check_ahead(self._stream, t_n, first_allowed, "t", where.__getitem__, None)
            self._checked(events, t_n, first_allowed, where)
        except DataError as error:
            raise DataError(
                f"journal: {error} (`pres-dist journal RUN --drop NUMBER` leaves an event out)"
            ) from None

    def _checked(
        self, events: Sequence[Event], t_n: np.ndarray, first_allowed: int, where: Sequence[str]
    ) -> list[Row]:
        before = np.concatenate([[first_allowed], t_n[:-1]])
        if (t_n < before).any():
            place = int(np.argmax(t_n < before))
            raise DataError(
                f"{where[place]}.t must be at least {shown(self._stream, int(before[place]))}, "
                f"where the events before have brought memory, got "
                f"{shown(self._stream, int(t_n[place]))}"
            )
        sides: dict[RawId, str] = {}
        for event, here in zip(events, where, strict=True):
            self._check_ends(event, here, sides)
            self._check_label(event, here)
        normal = self._names.normal
        return [
            [
                normal(event.src, "src"),
                normal(event.dst, "dst"),
                t,
                self._features(event, place),
                event.label,
            ]
            for event, t, place in zip(events, t_n.tolist(), where, strict=True)
        ]

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
                raise DataError(f"{where}: {told(raw)} is both a source and a destination")

    def _check_label(self, event: Event, where: str) -> None:
        if event.label is not None and self._stream.labels is None:
            raise DataError(f"{where}.label: {self._stream.name} has no labels, got {event.label}")
        label = NO_LABEL if event.label is None else event.label
        if self._labels is not None and label not in self._labels:
            raise DataError(
                f"{where}.label must be among those that the run has learned, got {event.label}"
            )

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
