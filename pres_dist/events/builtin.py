"""Loading of streams by path or by the name of a built-in stream."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable
from pathlib import Path

from pres_dist.config.run import RunConfig
from pres_dist.errors import DataError
from pres_dist.events.capacity import check_capacity
from pres_dist.events.storage import StreamExistsError, stored_at
from pres_dist.events.stream import EventStream
from pres_dist.files import cache_directory, user_path


def _build_nycflights13(directory: Path) -> None:
    from pres_dist.events.nycflights import build_nycflights13  # reads tables by pyarrow

    build_nycflights13(directory)


BUILT_IN: dict[str, Callable[[Path], None]] = {"nycflights13": _build_nycflights13}
CACHE_VERSION = 1
"""Part of the cached name; raise it when a built-in stream changes."""


def load_stream(name_or_path: str | Path, max_events: int | None = None) -> EventStream:
    """Load a stored stream, or a built-in one, which its first use builds into the cache.

    Every byte is checked before it is used (`EventStream.verify`). The cache is
    ``$PRES_DIST_CACHE``, by default ``~/.cache/pres_dist``. ``max_events`` limits the
    stream to its first events. Raises ``DataError``.
    """
    name, place = str(name_or_path), user_path(name_or_path)
    if name in BUILT_IN:
        place = cache_directory() / f"{name}-v{CACHE_VERSION}"
        if not place.is_dir():
            # Another process may build it at the same time and finish first.
            with contextlib.suppress(StreamExistsError):
                BUILT_IN[name](place)
    elif not stored_at(place).is_dir():
        if Path(name).is_file():
            raise DataError(
                f"{name}: is a file; import it first: pres-dist data import {name} --out DIRECTORY"
            )
        close = difflib.get_close_matches(name, BUILT_IN, n=1)
        raise DataError(
            "stream must be the directory of an imported stream or a built-in name "
            f"({', '.join(sorted(BUILT_IN))}), got {name!r}, and there is no folder "
            f"{Path(name).absolute()}{f'; did you mean {close[0]}?' if close else ''}"
        )
    stream = EventStream.verify(place)
    check_capacity(stream.num_nodes, f"stream {stream.name}")
    return stream if max_events is None else stream.head(max_events)


def check_stream_there(run_dir: Path, config: RunConfig) -> None:
    """Raise DataError unless the stream of a run is built in, or its folder exists."""
    place = config.data.stream
    if place not in BUILT_IN and not Path(place).is_dir():
        raise DataError(
            f"{run_dir}: the stream that the run was trained on (data.stream) must be at "
            f"{Path(place).absolute()}, where no folder is; --data.stream DIR (in Python "
            "stream=DIR) tells where it is now"
        )
