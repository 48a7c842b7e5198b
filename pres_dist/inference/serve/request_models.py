"""Requests to a scoring service, and one-line messages for the first error in a request."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import Field, PlainValidator, StrictBool, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from pres_dist.config.base import Config
from pres_dist.errors import DataError

MOST_EVENTS = 10_000
"""Most events, pairs or candidates in a request."""
_INT64 = 1 << 63
_EXACT = 1 << 53
"""From here on, not every integer has a float64 of its own."""
_SURROGATES = re.compile("[\ud800-\udfff]")

_short = Repr()
_short.maxlevel, _short.maxstring, _short.maxother, _short.maxlong = 2, 60, 60, 40
_short.maxlist = _short.maxtuple = _short.maxdict = 4


def told(value: object) -> str:
    """Return a short one-line representation of a value for error messages."""
    return _short.repr(value)


def _whole(value: object) -> int | None:
    """Return the integer value of a number, which may be written as 12.0; None if not whole."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < _EXACT else None
    return None


def _number(allowed: str, low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        number = _whole(value)
        if number is None or not low <= number < high:
            raise PydanticCustomError("number", "must be {allowed}", {"allowed": allowed})
        return number

    return check


def _number_or_text(allowed: str) -> Callable[[object], int | str]:
    number = _number(allowed, -_INT64, _INT64)

    def check(value: object) -> int | str:
        if not isinstance(value, str):
            return number(value)
        # JSON can contain "\ud800", a lone surrogate, which UTF-8 cannot encode.
        if not value.isascii() and _SURROGATES.search(value):
            raise PydanticCustomError("surrogate", "must be Unicode text without lone surrogates")
        return value

    return check


def _features(value: object) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("features", "must be a list of numbers")
    for kind in dict.fromkeys(map(type, value)):  # in the order of the values
        if kind is bool or not issubclass(kind, Real):
            place = next(place for place, one in enumerate(value) if type(one) is kind)
            raise _no_number(place, value[place])
    try:
        numbers = tuple(map(float, value))
    except OverflowError:
        place = next(place for place, one in enumerate(value) if abs(one) > 2**1023)
        raise _no_number(place, value[place]) from None
    if not math.isfinite(sum(numbers)):
        for place, one in enumerate(numbers):
            if not math.isfinite(one):
                raise _no_number(place, one)
    return numbers


def _no_number(place: int, value: object) -> PydanticCustomError:
    message = "[{place}] must be a finite number, got {got}"
    return PydanticCustomError("feature", message, {"place": place, "got": told(value)})


Id = Annotated[int | str, PlainValidator(_number_or_text("a text or a whole number in int64"))]
Time = Annotated[
    int | str, PlainValidator(_number_or_text("a whole number in int64 or an ISO 8601 time"))
]
Label = Annotated[int, PlainValidator(_number("a whole number in int64", -_INT64, _INT64))]
Count = Annotated[int, PlainValidator(_number("a whole number >= 0", 0, _INT64))]
Top = Annotated[int, PlainValidator(_number("a whole number from 1 to 1,000", 1, 1001))]
Features = Annotated[tuple[float, ...], PlainValidator(_features)]


class _Fields(Config):
    """Base class that reports a single error for unknown fields, however many there are."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            if isinstance(data, cls):
                return data
            raise PydanticCustomError("object", "must be an object")
        for name in data:
            if name not in cls.model_fields:
                raise PydanticCustomError(
                    "field",
                    "must have no other fields than {allowed}, got {got}",
                    {"allowed": ", ".join(cls.model_fields), "got": told(name)},
                )
        return data


class Event(_Fields):
    """Event to ingest."""

    src: Id
    """Id of the source, as imported; a new id adds a node."""
    dst: Id
    """Id of the destination."""
    t: Time
    """Time in the stream's unit, or ISO 8601 text if the unit is known."""
    features: Features = ()
    """Edge features, as many as the stream has."""
    label: Label | None = None
    """Label, stored for `pres-dist extend`; scores do not depend on it."""


class _Request(_Fields):
    """Request whose constructor raises DataError if it is not valid."""

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise DataError(_explained(error)) from None


class IngestRequest(_Request):
    """Events to ingest, oldest first, none earlier than events ingested before."""

    events: tuple[Event, ...] = Field(min_length=1, max_length=MOST_EVENTS, fail_fast=True)
    """The events."""
    after: Count | None = None
    """Number of events that the service must have ingested before; otherwise it ingests none. So a
    request that is sent again after its response was lost is not ingested twice."""


class ScoreRequest(_Request):
    """Pairs to score."""

    pairs: tuple[tuple[Id, Id], ...] = Field(min_length=1, max_length=MOST_EVENTS, fail_fast=True)
    """Ids of source and destination of each pair."""
    t: Time | None = None
    """Time of the query: events strictly before it are seen. By default all events are seen."""


class RecommendRequest(_Request):
    """Source to recommend destinations to."""

    src: Id
    """Id of the source."""
    top: Top = 20
    """Maximum number of destinations."""
    t: Time | None = None
    """Time of the query: events strictly before it are seen. By default all events are seen."""
    exclude_seen: StrictBool = False
    """Exclude destinations that the source has met before."""
    candidates: tuple[Id, ...] | None = Field(
        None, min_length=1, max_length=MOST_EVENTS, fail_fast=True
    )
    """Ids of the destinations to rank; by default all destinations with an event."""


Request = TypeVar("Request", IngestRequest, ScoreRequest, RecommendRequest)


def parsed(kind: type[Request], body: object) -> Request:
    """Validate a JSON body as a request; raise DataError for the first error in it."""
    if not isinstance(body, dict):
        raise DataError(f"request must be an object, got {told(body)}")
    return kind(**body)


_LISTS = {
    "tuple_type": "must be a list",
    "too_short": "must have at least one item",
    "too_long": "must have at most {max_length:,} items",
}


def event_of(row: Sequence[Any], where: str) -> Event:
    """Return an event of a journal; raise DataError with `where` if it is not valid."""
    fields = dict(zip(Event.model_fields, row, strict=True))
    try:
        return Event(**fields)
    except ValidationError as error:
        raise DataError(f"{where}.{_explained(error)}") from None


def _explained(error: ValidationError) -> str:
    """Return a one-line message: location, allowed values and the value given."""
    first = error.errors(include_url=False)[0]
    place, kind = _place(first["loc"]), first["type"]
    if kind == "missing":
        return f"{place} is missing"
    if kind == "feature":
        return f"{place}{first['msg']}"
    if kind == "field":
        return f"{place} {first['msg']}"
    message = first["msg"]
    if kind in _LISTS:
        message = _LISTS[kind].format_map(first.get("ctx", {}))
    elif not message.startswith("must "):
        message = f"must be valid: {message[:1].lower()}{message[1:]}"
    return f"{place} {message}, got {told(first['input'])}"


def _place(loc: tuple[Any, ...]) -> str:
    """Format a pydantic location as `events[3].t`, without the names of union members."""
    parts = [part for part in loc if isinstance(part, int) or part.isidentifier()]
    named = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts]
    return "".join(named).lstrip(".") or "request"
