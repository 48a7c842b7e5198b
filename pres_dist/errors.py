"""What pres_dist raises when something a user can put right is wrong.

Every message says what was wrong, what is allowed, what came and where. The
command line prints the message and exits with code 2, without a traceback.
"""

from __future__ import annotations

from pres_dist.wording import printable


class PresDistError(Exception):
    """Base of every error that a user can cause and put right."""

    def __str__(self) -> str:
        """Return the message without control characters, which files may have put into it."""
        return printable(super().__str__())


class ConfigError(PresDistError):
    """A configuration that cannot be used; lists every problem at once."""


class DataError(PresDistError):
    """Events that cannot be used: a file, a line or a stored stream is wrong."""


class CheckpointError(PresDistError):
    """A checkpoint that is missing, damaged or of another configuration."""


class NonFiniteError(PresDistError):
    """The loss became NaN or infinite; raised before the optimizer step."""


class StoreError(PresDistError):
    """Node memory that is held by other processes cannot be read or written."""


class WorkerLostError(PresDistError):
    """A worker died, stopped or was cut off; the same command again takes it up, or goes on."""


class TerminatedError(PresDistError):
    """SIGTERM ended a run between two steps; it can go on from its newest checkpoint."""


class ArgumentError(ConfigError, DataError, TypeError):
    """A call of the Python API with a missing, unknown or unfit argument.

    An argument may be a setting or hold events, so both kinds of error catch it.
    """


class PresDistWarning(UserWarning):
    """Something that the user should know about a stream that was made, and may put right."""
