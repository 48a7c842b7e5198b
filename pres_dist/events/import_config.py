"""Options of `pres-dist data import`; this module imports nothing heavy."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from pres_dist.config.base import Config
from pres_dist.errors import ConfigError
from pres_dist.files import local_path
from pres_dist.wording import option_name

Format = Literal["auto", "csv", "parquet", "jodie", "tgl", "dyglib", "tgb"]
TimeUnit = Literal["s", "ms", "us", "ns"]
COLUMN_OPTIONS = (
    *("src", "dst", "time", "label", "features", "feature_file", "bipartite", "delimiter"),
)
"""Options that only sources with freely named columns accept."""


_DELIMITERS = {"tab": "\t", "\\t": "\t", "space": " "}


def delimiter_of(name: str) -> str:
    """Return the character that separates columns; raise ConfigError if it is not allowed."""
    character = _DELIMITERS.get(name, name)
    if len(character) != 1 or not character.isascii() or character in '"\r\n\0':
        raise ConfigError(
            f"{option_name('delimiter')} must be one ASCII character, tab or space, got {name!r}"
        )
    return character


class ImportConfig(Config):
    """Import events from a file into a stream that pres-dist can train on."""

    source: Path
    """A .csv, .tsv or .parquet file (.csv.gz too), a TGL or DyGLib folder, or a name (tgb)."""
    out: Path
    """Directory to create."""
    format: Format = "auto"
    """Format of the source; auto detects it from name and content."""
    root: Path | None = None
    """Folder with TGB's data sets (format tgb); py-tgb's own folder when unset."""
    delimiter: str | None = None
    """Column separator of a CSV file: a character, tab or space; comma or tab when unset."""
    src: str = "src"
    """Column of source ids."""
    dst: str = "dst"
    """Column of destination ids."""
    time: str = "t"
    """Column of times."""
    label: str | None = None
    """Column of integer labels; `label` when unset, if it exists; '' for none."""
    features: str | None = None
    """Columns of edge features, as a,b,"c, d"; f0, f1, ... when unset; '' for none."""
    feature_file: Path | None = None
    """Edge features as a .npy file [events, features], instead of columns."""
    node_features: Path | None = None
    """Node features as a .npy file [nodes, features]."""
    name: str | None = None
    """Name of the stream; the directory's name when unset."""
    bipartite: bool = False
    """Source and destination ids are two separate sets, both counted from 0 or named."""
    ids: Literal["auto", "keep", "map"] = "auto"
    """keep integer ids as they are, or map any ids to 0, 1, ...; auto keeps node numbers."""
    time_scale: str = "1"
    """Multiply times by this, exactly; the results must be whole numbers."""
    time_unit: TimeUnit | None = None
    """Unit to convert timestamps to, ms when unset; for plain numbers it is only recorded."""
    sort: bool = False
    """Sort by time (stable); without it, events out of order are an error."""
    force: bool = False
    """Replace an existing stream."""

    @field_validator("time_scale", mode="before")
    @classmethod
    def _time_scale_is_text(cls, value: object) -> object:
        number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
        return str(value) if number else value

    @field_validator("source", "out", "feature_file", "node_features", mode="before")
    @classmethod
    def _paths_are_local(cls, value: object) -> object:
        return local_path(value) if isinstance(value, str) else value

    @field_validator("delimiter")
    @classmethod
    def _delimiter_is_one_character(cls, value: str | None) -> str | None:
        return None if value is None else delimiter_of(value)

    @field_validator("time_scale")
    @classmethod
    def _time_scale_is_exact(cls, value: str) -> str:
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal(0)
        if not number.is_finite():
            number = Decimal(0)
        # Beyond these bounds the exact product would not fit into 76 decimal digits.
        if not (Decimal("1e-12") <= number <= Decimal("1e12") and number == round(number, 12)):
            raise ValueError("must be a number from 1e-12 to 1e12 with at most 12 decimals")
        return value

    @property
    def time_factor(self) -> Decimal | None:
        """Factor to multiply times by; None for 1."""
        factor = Decimal(self.time_scale)
        return None if factor == 1 else round(factor, 12).normalize()

    def is_default(self, option: str) -> bool:
        """Return True if the option has its default value."""
        return bool(getattr(self, option) == type(self).model_fields[option].default)
