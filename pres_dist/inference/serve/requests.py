"""Requests to a scoring service, and the one message for the first mistake in them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import (
    Field,
    PlainValidator,
    StrictBool,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pres_dist.config.base import Config
from pres_dist.errors import DataError

MOST_EVENTS = 10_000
"""Events or pairs of a request."""
_INT64 = 1 << 63
_EXACT = 1 << 53
"""From here on a floating-point number may stand for several integers."""
_SURROGATES = re.compile("[\ud800-\udfff]")

_short = Repr()
_short.maxlevel, _short.maxstring, _short.maxother, _short.maxlong = 2, 60, 60, 40
_short.maxlist = _short.maxtuple = _short.maxdict = 4


def told(value: object) -> str:
    """A value as errors show it: on one line, and short."""
    return _short.repr(value)


def _whole(value: object) -> int | None:
    """The integer that a number stands for, be it written as 12.0; None if it is none."""
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
        # JSON can say "\ud800", which no file and no other program can hold.
        if not value.isascii() and _SURROGATES.search(value):
            raise PydanticCustomError("surrogate", "must be Unicode text without lone surrogates")
        return value

    return check


def _features(value: object) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("features", "must be a list of numbers")
    for kind in set(map(type, value)):
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
    """One error for a field that is not known, however many there are."""

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
    """An event that has happened."""

    src: Id
    """Id of the source, as it was imported; one that is new becomes a node."""
    dst: Id
    """Id of the destination."""
    t: Time
    """Time in the stream's unit, or ISO 8601 where the stream knows its unit."""
    features: Features = ()
    """As many as the stream has."""
    label: Label | None = None
    """Kept for `pres-dist extend`; no score reads it."""


class _Request(_Fields):
    """A request whose constructor raises DataError."""

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise DataError(_explained(error)) from None


class IngestRequest(_Request):
    """Events, oldest first, none before those that were sent earlier."""

    events: tuple[Event, ...] = Field(min_length=1, max_length=MOST_EVENTS, fail_fast=True)
    """What happened."""
    after: Count | None = None
    """Events that the service must have taken in before, else it takes none: a request that is
    sent again after an answer was lost cannot count twice."""


class ScoreRequest(_Request):
    """Pairs whose links are asked for."""

    pairs: tuple[tuple[Id, Id], ...] = Field(min_length=1, max_length=MOST_EVENTS, fail_fast=True)
    """Ids of source and destination each."""
    t: Time | None = None
    """Events strictly before it are seen; all where nothing is said."""


class RecommendRequest(_Request):
    """A source whose destinations are asked for."""

    src: Id
    """Its id."""
    top: Top = 20
    """Destinations at most."""
    t: Time | None = None
    """Events strictly before it are seen; all where nothing is said."""
    exclude_seen: StrictBool = False
    """Leave out whom the source has met before."""
    candidates: tuple[Id, ...] | None = Field(
        None, min_length=1, max_length=MOST_EVENTS, fail_fast=True
    )
    """Rank these alone; all destinations with an event where nothing is said."""


Request = TypeVar("Request", IngestRequest, ScoreRequest, RecommendRequest)


def parsed(kind: type[Request], body: object) -> Request:
    """A request out of what came as JSON; DataError with the first mistake."""
    if not isinstance(body, dict):
        raise DataError(f"request must be an object, got {told(body)}")
    return kind(**body)


_LISTS = {
    "tuple_type": "must be a list",
    "too_short": "must have at least one item",
    "too_long": "must have at most {max_length:,} items",
}


def event_of(row: Sequence[Any], where: str) -> Event:
    """Return an event of a journal; DataError that names `where` for one that is not valid."""
    fields = dict(zip(Event.model_fields, row, strict=True))
    try:
        return Event(**fields)
    except ValidationError as error:
        raise DataError(f"{where}.{_explained(error)}") from None


def _explained(error: ValidationError) -> str:
    """Place, what is allowed and what came, on one line."""
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
    """`events[3].t` of a pydantic location, less the names of alternatives."""
    parts = [part for part in loc if isinstance(part, int) or part.isidentifier()]
    named = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts]
    return "".join(named).lstrip(".") or "request"
