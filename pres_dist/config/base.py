"""Base class of every configuration class."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


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
