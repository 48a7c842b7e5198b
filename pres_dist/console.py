"""Error output for users: each error is printed once, although every torchrun worker raises it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from pres_dist.remote import without_secrets

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def tell(message: str) -> None:
    """Print an error on stderr; under torchrun only from the first worker that raises it.

    That worker need not be worker 0: torchrun ends all workers once one has failed, and an
    error may occur on one machine only. One worker of each machine prints.
    The message also goes into torchrun's final summary. Passwords in URLs are left out,
    because output is often kept in a log.
    """
    message = without_secrets(message)
    if _is_first_to_tell(message):
        print(f"error: {message}", file=sys.stderr, flush=True)
    if ERROR_FILE in os.environ:
        _write_error_file(Path(os.environ[ERROR_FILE]), message)


def _is_first_to_tell(message: str) -> bool:
    """Return True if no worker of this machine has printed this in this launch, and record it."""
    if ERROR_FILE not in os.environ:
        return True
    # Torchrun's folders: LAUNCH/attempt_N/LOCAL_RANK/error.json
    launch = Path(os.environ[ERROR_FILE]).absolute().parents[2]
    digest = hashlib.sha256(message.encode()).hexdigest()[:16]
    try:
        (launch / f"told-{digest}").touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # better printed twice than never
        return True
    return True


def _write_error_file(path: Path, message: str) -> None:
    """Write the message to the error file of a failed worker, in torchrun's format."""
    details = {"py_callstack": message, "timestamp": str(int(time.time()))}
    with suppress(OSError):  # the summary is a convenience: the message has been printed
        path.write_text(json.dumps({"message": {"message": message, "extraInfo": details}}))
