"""Standard output: UTF-8 in any locale, and no control bytes of user data on a terminal."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rich.console import Console


def prepare_stdout() -> None:
    """Write UTF-8 to files and pipes; a terminal keeps its encoding, with \\u escapes."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(
            encoding=None if out.isatty() else "utf-8",
            errors="backslashreplace",
        )


def result_console() -> Console:
    """Return a console for tables of results; a closed pipe raises BrokenPipeError.

    If standard output is not a terminal, tables are as wide as they need to be.
    """
    from rich.console import Console

    class ResultConsole(Console):
        def on_broken_pipe(self) -> NoReturn:
            # rich would exit with code 1; the command line has its own exit code for this.
            raise BrokenPipeError

    width = None if sys.stdout.isatty() else 10_000
    return ResultConsole(highlight=False, width=width)
