"""Times as a user writes them: numbers of the stream, or dates where it knows its unit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pres_dist.errors import DataError
from pres_dist.events.chunk import Locate
from pres_dist.events.convert import to_integers
from pres_dist.events.stream import EventStream
from pres_dist.events.times import is_timestamp, to_times


def times_of(stream: EventStream, column: pa.Array, what: str, locate: Locate) -> np.ndarray:
    """[n] int64 times in the stream's own unit of a column of numbers, dates or texts.

    ISO 8601 texts and timestamps count from 1970 in the unit of the stream, or from the
    first event where its metadata tell when that was.

    Args:
        stream: whose times they are.
        column: [n] values.
        what: what to call it in errors.
        locate: from a row to the place to show.

    Raises:
        DataError: a value that is no time, or a date where the stream knows no unit.
    """
    if not len(column):
        return np.empty(0, np.int64)
    if not is_timestamp(column):
        return to_integers(column, what, locate, allowed=_allowed(stream))
    unit = stream.metadata.get("time_unit")
    if unit is None:
        raise DataError(
            f"{locate(0)}: {what} must be an integer: the times of {stream.name} are numbers "
            f"without a known unit, got {column[0].as_py()!r}"
        )
    return to_times(column, what, locate, unit) - origin(stream, unit)


def time_of(stream: EventStream, value: object, what: str) -> int:
    """One time, given as a number, a text or a datetime; DataError as in `times_of`."""
    try:
        column = pa.array([value])
    except (pa.ArrowException, OverflowError, TypeError):
        raise DataError(f"{what}: time must be {_allowed(stream)}, got {value!r}") from None
    return int(times_of(stream, column, "time", lambda row: what)[0])


def shown(stream: EventStream, t: int) -> str:
    """A time as the stream has it, and as a date where it knows its unit."""
    unit = stream.metadata.get("time_unit")
    if unit is None:
        return str(t)
    return f"{t} ({np.datetime64(t + origin(stream, unit), unit)})"


def dates(stream: EventStream, t: np.ndarray) -> list[str] | None:
    """ISO 8601 texts of times [n]; None where the stream does not know its unit."""
    unit = stream.metadata.get("time_unit")
    if unit is None:
        return None
    texts: list[str] = (t + origin(stream, unit)).astype(f"datetime64[{unit}]").astype(str).tolist()
    return texts


def _allowed(stream: EventStream) -> str:
    unit = stream.metadata.get("time_unit")
    return "an integer" if unit is None else f"an integer (in {unit}) or an ISO 8601 time"


def origin(stream: EventStream, unit: str) -> int:
    """Epoch time of the stream's 0, in its unit."""
    first = stream.metadata.get("first_event")
    if first is None:
        return 0
    at = np.datetime64(str(first).removesuffix("Z")).astype(f"datetime64[{unit}]")
    return int(at.astype(np.int64)) - int(stream.t[0])
