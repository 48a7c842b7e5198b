"""Output of the command line: errors and warnings on stderr, results on stdout.

The library itself logs, to loggers below `pres_dist`. `prepare_output` shows their warnings.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pres_dist.remote import without_secrets
from pres_dist.wording import printable

if TYPE_CHECKING:
    from rich.console import Console

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def prepare_output() -> None:
    r"""Write UTF-8 to files and pipes, and warnings of the library to stderr.

    A terminal keeps its encoding, with \u escapes.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(encoding=None if out.isatty() else "utf-8", errors="backslashreplace")
    logger = logging.getLogger("pres_dist")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler(logging.WARNING))


class _StderrHandler(logging.Handler):
    """Handler that prints lines such as `warning: run/.lock: ...`."""

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(without_secrets(f"{record.levelname.lower()}: {self.format(record)}"))
        # The current sys.stderr: while rich shows a bar, its proxy prints lines above the bar.
        print(text, file=sys.stderr, flush=True)


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


def print_error(message: str) -> None:
    """Print an error on stderr; under torchrun only from the first worker that raises it.

    That worker need not be worker 0: torchrun ends all workers once one has failed, and an
    error may occur on one machine only. One worker of each machine prints.
    The message also goes into torchrun's final summary. Passwords in URLs are left out,
    because output is often kept in a log.
    """
    message = without_secrets(message)
    error_file = os.environ.get(ERROR_FILE)
    if error_file is None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        return
    # Torchrun's folders: LAUNCH/attempt_N/LOCAL_RANK/error.json
    launch = Path(error_file).absolute().parents[2]
    digest = hashlib.sha256(message.encode()).hexdigest()[:16]
    first = True
    try:
        (launch / f"told-{digest}").touch(exist_ok=False)
    except FileExistsError:
        first = False
    except OSError:
        pass  # better printed twice than never
    if first:
        print(f"error: {message}", file=sys.stderr, flush=True)
    details = {"py_callstack": message, "timestamp": str(int(time.time()))}
    with suppress(OSError):  # the summary is a convenience: the message has been printed
        Path(error_file).write_text(
            json.dumps({"message": {"message": message, "extraInfo": details}})
        )
