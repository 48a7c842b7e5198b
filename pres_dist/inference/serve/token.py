"""Bearer token of a user's services, generated once and stored in a private file."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from pres_dist.errors import ConfigError

VARIABLE = "PRES_DIST_TOKEN"
_BYTES = 32


def chosen_token(file: Path | None) -> tuple[str, str]:
    """Return the token that requests must carry, and its origin.

    Args:
        file: file with the token. None takes the token from the environment, or else from the
            user's own file, which is created when first needed.

    Raises:
        ConfigError: the file cannot be read or written, is not private, or holds no token.
    """
    if file is not None:
        return _read(file), str(file)
    given = os.environ.get(VARIABLE, "").strip()
    if given:
        return given, VARIABLE
    file = users_file()
    if not file.exists():
        _draw(file)
    _check_private(file)
    return _read(file), str(file)


def users_file() -> Path:
    """Return the path of the file with the user's token."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "pres_dist" / "token"


def _draw(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=file.parent) as drawn:  # has mode 0600
            drawn.write(secrets.token_urlsafe(_BYTES) + "\n")
            drawn.flush()
            os.fsync(drawn.fileno())
            with suppress(FileExistsError):  # another process created the file first: use that one
                os.link(drawn.name, file)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written: {error.strerror}; give a token by --token-file FILE or "
            f"{VARIABLE} in the environment"
        ) from None


def _check_private(file: Path) -> None:
    status = file.stat()
    if status.st_mode & 0o077 or status.st_uid != os.getuid():
        raise ConfigError(
            f"{file}: must be yours and readable by you alone (chmod 600), got mode "
            f"{status.st_mode & 0o777:o} of user {status.st_uid}"
        )


def _read(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{file}: must hold a token, printable ASCII without spaces, got "
            f"{'nothing' if not token else 'other characters'}"
        )
    return token
