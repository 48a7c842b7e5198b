"""JSON files that hold a hash of themselves, read through a typed model."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from pres_dist.config.base import Config
from pres_dist.errors import CheckpointError
from pres_dist.files import UNSEALED, read_regular, seal_of, sealed, write_atomically

SHA256 = r"^[0-9a-f]{64}$"


class Sealed(Config):
    """Content of a file that includes its own hash."""

    sha256: str = Field(UNSEALED, pattern=SHA256)
    """SHA-256 of the file, computed with zeros in this field."""


Content = TypeVar("Content", bound=Sealed)


def write_sealed(file: Path, content: Sealed) -> None:
    """Write a file that includes its own hash, atomically."""
    text = content.model_copy(update={"sha256": UNSEALED}).model_dump_json(indent=1)
    write_atomically(file, sealed(text + "\n"))


def read_sealed(file: Path, kind: type[Content]) -> Content:
    """Read a file written by `write_sealed`, and verify its hash.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, or is damaged.
    """
    try:
        content = read_regular(file)
        found = kind.model_validate_json(content)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["loc"] == ("version",):
            raise CheckpointError(
                f"{file}: was written by another version of pres_dist; its version must be "
                f"{first['ctx']['expected']}, got {first['input']!r}"
            ) from None
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise CheckpointError(f"{file}: damaged: {where}: {first['msg']}") from None
    digest = seal_of(content, found.sha256)
    if digest != found.sha256:
        raise CheckpointError(f"{file}: damaged: its sha256 must be {found.sha256}, got {digest}")
    return found
