"""Exceptions of pres_dist for problems that the user can fix.

Every message says what was wrong, what is allowed, what was given and where. The
command line prints the message and exits with code 2, without a traceback.
"""

from __future__ import annotations

from pres_dist.wording import printable


class PresDistError(Exception):
    """Base class of all errors that a user can cause and fix."""

    def __str__(self) -> str:
        """Return the message without control characters, which may come from a file."""
        return printable(super().__str__())


class ConfigError(PresDistError):
    """A configuration that cannot be used; lists every problem at once."""


class MissingPackageError(ConfigError):
    """Error for a feature whose packages are not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs {package}, which is not installed: pip install 'pres-dist[{extra}]'"
        )


class DataError(PresDistError):
    """Events that cannot be used: a file, a line or a stored stream is invalid."""


class CheckpointError(PresDistError):
    """A checkpoint that is missing, is damaged or has another configuration."""


class NonFiniteError(PresDistError):
    """A loss that became NaN or infinite; raised before the optimizer step."""


class StoreError(PresDistError):
    """Node memory in other processes that could not be read or written."""


class WorkerLostError(PresDistError):
    """A worker died, hung or was disconnected. Re-run the same command to resume."""


class TerminatedError(PresDistError):
    """SIGTERM ended a run between two steps; it can resume from its newest checkpoint."""


class ArgumentError(ConfigError, DataError, TypeError):
    """A call of the Python API with a missing, unknown or invalid argument.

    An argument may be a setting or hold events, so it is both a ConfigError and a DataError.
    """


class PresDistWarning(UserWarning):
    """A problem of a newly built stream that the user should know about and may fix."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
