"""Base class of every configuration class."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

SPELLINGS = {"num_neighbours": "num_neighbors", "standardise": "standardize"}
"""Former spellings of settings, which are still read."""


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

    @model_validator(mode="before")
    @classmethod
    def _former_spellings(cls, values: Any) -> Any:
        """Rename settings in their former spelling; the last of two spellings counts."""
        if not (
            isinstance(values, dict) and (SPELLINGS.keys() & values.keys() or "gate" in values)
        ):
            return values
        renamed = {SPELLINGS.get(key, key): value for key, value in values.items()}
        if renamed.get("gate") == "learnt":
            renamed["gate"] = "learned"
        return renamed
