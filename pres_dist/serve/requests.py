"""What may be asked of a scoring service, and how a mistake in it is told."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import Field, StrictInt, StrictStr, ValidationError

from pres_dist.config.base import Config
from pres_dist.errors import DataError

MOST_EVENTS = 10_000
"""Events or pairs of a request."""
_INT64 = 1 << 63

Id = StrictStr | Annotated[StrictInt, Field(ge=0, lt=_INT64)]
Time = StrictStr | Annotated[StrictInt, Field(ge=-_INT64, lt=_INT64)]


class Event(Config):
    """An event that has happened."""

    src: Id
    """Id of the source, as it was imported; one that is new becomes a node."""
    dst: Id
    """Id of the destination."""
    t: Time
    """Time in the stream's unit, or ISO 8601 where the stream knows its unit."""
    features: tuple[float, ...] = ()
    """As many as the stream has."""
    label: StrictInt | None = None
    """Kept for `pres-dist extend`; no score reads it."""


class IngestRequest(Config):
    """Events, oldest first, none before those that were sent earlier."""

    events: tuple[Event, ...] = Field(min_length=1, max_length=MOST_EVENTS)
    """What happened."""
    after: Annotated[StrictInt, Field(ge=0)] | None = None
    """Events that the service must have taken in before, else it takes none: a request that is
    sent again after an answer was lost cannot count twice."""


class ScoreRequest(Config):
    """Pairs whose links are asked for."""

    pairs: tuple[tuple[Id, Id], ...] = Field(min_length=1, max_length=MOST_EVENTS)
    """Ids of source and destination each."""
    t: Time | None = None
    """Events strictly before it are seen; all where nothing is said."""


class RecommendRequest(Config):
    """A source whose destinations are asked for."""

    src: Id
    """Its id."""
    top: StrictInt = Field(20, ge=1, le=1000)
    """Destinations at most."""
    t: Time | None = None
    """Events strictly before it are seen; all where nothing is said."""
    exclude_seen: bool = False
    """Leave out whom the source has met before."""
    candidates: tuple[Id, ...] | None = Field(None, min_length=1, max_length=MOST_EVENTS)
    """Rank these alone; all destinations with an event where nothing is said."""


Request = TypeVar("Request", IngestRequest, ScoreRequest, RecommendRequest)


def parsed(kind: type[Request], body: object) -> Request:
    """A request out of what came as JSON; DataError with the first mistake."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise DataError(_explained(error)) from None


def _explained(error: ValidationError) -> str:
    """Place, what is allowed and what came, on one line."""
    first = error.errors(include_url=False)[0]
    message = f"{_place(first['loc'])}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    if first["type"] != "missing":
        got = repr(first["input"])
        message += f", got {got if len(got) <= 60 else got[:57] + '...'}"
    more = error.error_count() - 1
    return message + (f" (and {more} more)" if more else "")


def _place(loc: tuple[Any, ...]) -> str:
    """`events[3].t` of a pydantic location, less the names of alternatives."""
    parts = [part for part in loc if isinstance(part, int) or part.isidentifier()]
    named = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts]
    return "".join(part for part in named if part not in (".str", ".int")).lstrip(".") or "request"
