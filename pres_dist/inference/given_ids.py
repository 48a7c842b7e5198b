"""Checks of ids that are passed as Python values, before they are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pres_dist import arguments
from pres_dist.events.chunk import Locate
from pres_dist.events.raw_ids import parse_id

Id = str | int


def is_id(value: object) -> bool:
    """Return True if the value is one id, not several."""
    return isinstance(value, (str, int, float, np.number)) or not hasattr(value, "__iter__")


def ids_given(name: str, ids: object) -> list[Id]:
    """Return the ids of a list or array; raise for anything else, such as a single string."""
    values = arguments.items(name, ids, "ids")
    return [parse_id(value, f"{name}[{place}]") for place, value in enumerate(values)]


def id_column(values: Sequence[Any], what: str, locate: Locate) -> pa.Array:
    """Return an Arrow column of ids, as strings."""
    ids = [str(parse_id(value, f"{locate(row)}: {what}")) for row, value in enumerate(values)]
    return pa.array(ids, pa.large_string())
