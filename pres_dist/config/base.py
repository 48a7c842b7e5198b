"""Base class of every configuration class."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Larger numbers do not fit into a tensor, or into the 64 bits of a generator's state.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=1, le=1_000_000)]
"""Length of an axis of a tensor."""


class Config(BaseModel):
    """Immutable, keyword-only model that rejects unknown keys.

    The docstring under a field is its help text on the command line and in
    ``--print-config``. Configuration modules import neither torch nor numpy, so
    that ``--help`` is fast.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )
