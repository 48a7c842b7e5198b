"""Reading of times: exact conversion to int64 in the stream's unit, or an error.

Import, extend, score files, `--at`, JSON and Python all read times here, by the `TimeRules`
of the stream. A column holds numbers or dates; either all of its dates have a time zone or
none has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from numbers import Number
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pres_dist.errors import DataError
from pres_dist.events.chunk import Locate
from pres_dist.events.convert import (
    as_decimal,
    as_numpy,
    first_bad,
    first_rounded,
    is_text,
    present,
    shown_value,
    to_integers,
)
from pres_dist.wording import setting

if TYPE_CHECKING:
    from pres_dist.events.stream import EventStream

UNITS = ("s", "ms", "us", "ns")

# RE2 patterns that rewrite dates from databases and programs to a form that Arrow reads.
_DATE = r"^(\d{4})[-/]?(\d{2})[-/]?(\d{2})"
_SPELLINGS = (
    (r"^(\d{4})/(\d{2})/(\d{2})", r"\1-\2-\3"),
    (r"^(\d{4})(\d{2})(\d{2})[Tt ](\d{2})(\d{2})", r"\1-\2-\3T\4:\5"),
    (r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2})(\d{2})", r"\1:\2"),
    (r"^(\d{4}-\d{2}-\d{2})t", r"\1T"),
    (r"(:\d{2}),(\d+)", r"\1.\2"),
    # Go writes both the offset and the name of the zone.
    (r"\s*([+-]\d{2}:?\d{2}) (UTC|GMT)$", r"\1"),
    (r"\s*(UTC|GMT|[Zz])$", "Z"),
    (r"(\d{2})\s+([+-]\d{2}(:?\d{2})?)$", r"\1\2"),
    # Drop trailing zeros of a fraction, for which Arrow would demand a finer unit.
    (r"\.(\d*[1-9])0+([Z+-]|$)", r".\1\2"),
    (r"\.0*([Z+-]|$)", r"\1"),
)


@dataclass(frozen=True)
class TimeRules:
    """Rules for reading the times of a stream.

    Attributes:
        stream: name of the stream; None while it is being imported.
        unit: unit that dates are converted to; None if the unit is unknown.
        factor: number to multiply numeric times by; None for 1.
        zoned: True if dates must have a time zone, False if they must not; None allows both.
        origin: epoch time of the stream's 0, in its unit.
    """

    stream: str | None
    unit: str | None
    factor: Decimal | None = None
    zoned: bool | None = None
    origin: int = 0

    @classmethod
    def of(cls, stream: EventStream) -> TimeRules:
        """Return the rules that a stream was imported by."""
        known = stream.metadata
        unit = known.get("time_unit")
        factor = Decimal(str(known.get("time_scale", "1")))
        origin, first = 0, known.get("first_event")
        if unit is not None and first is not None:
            at = np.datetime64(str(first).removesuffix("Z")).astype(f"datetime64[{unit}]")
            origin = int(at.astype(np.int64)) - int(stream.t[0])
        return cls(
            stream.name,
            unit,
            None if factor == 1 else round(factor, 12).normalize(),
            known.get("times_have_zone"),
            origin,
        )

    @property
    def allowed(self) -> str:
        """Description of the allowed times, for errors."""
        return "a whole number" if self.unit is None else "a whole number or an ISO 8601 time"


@dataclass(frozen=True)
class Times:
    """Times in the stream's unit: [n] int64."""

    t: np.ndarray
    dated: bool = False
    """True if they were read from dates, False if from numbers."""
    zoned: bool | None = None
    """True if the dates had a time zone; None for numbers."""


def read_times(column: pa.Array, what: str, locate: Locate, rules: TimeRules) -> Times:
    """Read a column of numbers, timestamps, dates or texts of either, with at least one value.

    Raises:
        DataError: a value is not a valid time by the rules; the error shows its place.
    """
    column = present(column, what, locate)
    kind = column.type
    is_number = pt.is_integer(kind) or pt.is_decimal(kind) or pt.is_floating(kind)
    if rounded := first_rounded(column):
        row, bits = rounded
        raise DataError(
            f"{locate(row)}: {what} must be below 2**{bits} as a floating-point number, which is "
            f"rounded from there on; give integers or texts, got {shown_value(column, row)}"
        )
    if not (is_text(kind) or is_number or pt.is_timestamp(kind) or pt.is_date(kind)):
        got = shown_value(column, 0) if pt.is_boolean(kind) else f"a column of {kind}"
        raise DataError(f"{locate(0)}: {what} must be {rules.allowed}, got {got}")
    if is_date(column):
        return _read_dates(column, what, locate, rules)
    hint = ""
    if rules.stream is None and rules.factor is None:
        hint = f" ({setting('time_scale', 1000)} turns seconds into milliseconds)"
    integers = to_integers(
        column, what, locate, allowed=rules.allowed, factor=rules.factor, hint=hint
    )
    return Times(integers)


def is_date(column: pa.Array) -> bool:
    """Return True if the column holds dates, not numbers, judging by its first value."""
    if pt.is_timestamp(column.type) or pt.is_date(column.type):
        return True
    if not is_text(column.type):
        return False
    first = (column[0].as_py() or "").strip()
    return as_decimal(first) is None and first[:4].isdigit()


def column_of(values: Sequence[Any], what: str, locate: Locate, allowed: str) -> pa.Array:
    """Return Python values as a column for `read_times`: numbers or texts.

    Dates become ISO 8601 texts, because Arrow would drop some time zones, and nanoseconds.
    """
    texts = [isinstance(value, (str, date, np.datetime64)) for value in values]
    no_number = (bool, np.bool_, complex, np.complexfloating)
    for row, value in enumerate(values):
        # NaN counts as a number that is not whole.
        missing = value is None or type(value).__name__ in ("NaTType", "NAType")
        if missing or (isinstance(value, np.datetime64) and np.isnat(value)):
            raise DataError(f"{locate(row)}: {what} is missing")
        if not texts[row] and (isinstance(value, no_number) or not isinstance(value, Number)):
            raise DataError(f"{locate(row)}: {what} must be {allowed}, got {value!r}")
        if texts[row] != texts[0]:
            kinds = ("a date or text", "a number") if texts[0] else ("a number", "a date or text")
            raise DataError(
                f"{locate(row)}: {what} must be {kinds[0]} as the first is, got {kinds[1]}: "
                f"{value!r}"
            )
    try:
        if texts[0]:
            return pa.array([_text(value) for value in values], pa.large_string())
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # integers beyond int64, Decimals among others
        return pa.array([str(value) for value in values], pa.large_string())
    except UnicodeEncodeError:
        raise DataError(
            f"{locate(0)}: {what} must be {allowed}, got text that is not Unicode"
        ) from None


def _read_dates(column: pa.Array, what: str, locate: Locate, rules: TimeRules) -> Times:
    unit = rules.unit
    if unit is None:
        raise DataError(
            f"{locate(0)}: {what} must be a whole number: the times of {rules.stream} are numbers "
            f"without a known unit, got {shown_value(column, 0)}"
        )
    if pt.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    if is_text(column.type):
        plain, zoned = _spelled(column), _has_zone(column[0].as_py())
        zone = "UTC" if zoned else None
    else:
        plain, zone = column, column.type.tz
        zoned = zone is not None
    if rules.zoned not in (None, zoned):
        _refuse_zone(column, 0, what, locate, rules)

    def convert(part: pa.Array) -> pa.Array:
        return part.cast(pa.timestamp(unit, zone)).cast(pa.int64())

    # The subtraction is checked, because numpy would wrap around beyond int64.
    try:
        epoch = as_numpy(convert(plain))
        return Times(pc.subtract_checked(pa.array(epoch), rules.origin).to_numpy(), True, zoned)
    except pa.ArrowInvalid:
        _refuse_date(column, plain, first_bad(plain, convert), what, locate, rules, zoned)


def _refuse_date(
    column: pa.Array,
    plain: pa.Array,
    row: int,
    what: str,
    locate: Locate,
    rules: TimeRules,
    zoned: bool,
) -> NoReturn:
    """Raise DataError for a date that cannot be read: its form, zone, precision or range."""
    if is_text(column.type) and _has_zone(column[row].as_py()) != zoned:
        _refuse_zone(column, row, what, locate, rules)
    where, got = locate(row), shown_value(column, row)
    fitting = [unit for unit in UNITS if _reads(plain.slice(row, 1), unit)]
    if not fitting:
        raise DataError(
            f"{where}: {what} must be {rules.allowed} (2024-01-31T10:00:00Z), got {got}"
        )
    if UNITS.index(fitting[0]) > UNITS.index(rules.unit or "ms"):
        hint = ""
        if rules.stream is None:
            hint = f" ({setting('time_unit', fitting[0])} keeps it)"
        raise DataError(f"{where}: {what} must be a whole number of {rules.unit}{hint}, got {got}")
    raise DataError(f"{where}: {what} must be in the range of int64 as {rules.unit}, got {got}")


def _refuse_zone(
    column: pa.Array, row: int, what: str, locate: Locate, rules: TimeRules
) -> NoReturn:
    others = "the times before it" if row or rules.stream is None else f"those of {rules.stream}"
    if is_text(column.type):
        zoned = _has_zone(column[row].as_py())
    else:
        zoned = pt.is_timestamp(column.type) and column.type.tz is not None
    must = "no time zone" if zoned else "a time zone (as in 2024-01-31T10:00:00Z)"
    have = "none" if zoned else "one"
    raise DataError(
        f"{locate(row)}: {what} must have {must}, because {others} have {have}, "
        f"got {shown_value(column, row)}"
    )


def _spelled(texts: pa.Array) -> pa.Array:
    """Return the texts in a form that Arrow reads; usual ISO 8601 texts are unchanged."""
    usual = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{0,2}[1-9])?)?(Z|[+-]\d{2}:?\d{2})?)?$"
    if pc.all(pc.match_substring_regex(texts, usual)).as_py():
        return texts
    for pattern, replacement in _SPELLINGS:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def _has_zone(text: str) -> bool:
    """Return True if an ISO 8601 text ends in a time zone."""
    found = pc.match_substring_regex(
        pa.array([text]), _DATE + r"[Tt ].*(UTC|GMT|[Zz]|[+-]\d{2}(:?\d{2})?)$"
    )
    return bool(found[0].as_py())


def _reads(value: pa.Array, unit: str) -> bool:
    """Return True if a date is a whole number of the unit and fits into int64."""
    zoned = _has_zone(value[0].as_py()) if is_text(value.type) else value.type.tz is not None
    try:
        value.cast(pa.timestamp(unit, "UTC" if zoned else None))
    except pa.ArrowInvalid:
        return False
    return True


def _text(value: Any) -> str:
    """Return a date as ISO 8601 text, in UTC if it has a zone: offsets may include seconds."""
    if isinstance(value, datetime):
        aware = value.tzinfo is not None
        return (value.astimezone(timezone.utc) if aware else value).isoformat()
    if isinstance(value, np.datetime64):
        unit = np.datetime_data(value.dtype)[0]
        return str(value.astype("datetime64[D]") if unit in "YMW" else value)
    return value.isoformat() if isinstance(value, date) else str(value)
