"""pres-dist whose rank 0 stops at the end of its first attempt.

    python -m tests.launch.stopping train ...

STOP_AT says where:

    report      it has written results.json, and not yet the report
    exit        all is written, and the other workers end

It makes the file that STOPPED names, and stops by SIGSTOP.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pres_dist.cli.main import main
from pres_dist.training import run

_write_report = run.write_report


def _stop_at(place: str) -> None:
    stopped = Path(os.environ["STOPPED"])
    if os.environ["RANK"] == "0" and place == os.environ["STOP_AT"] and not stopped.exists():
        stopped.touch()
        os.kill(os.getpid(), signal.SIGSTOP)


def _stop_and_write_report(folder: Path) -> Path | None:
    _stop_at("report")
    return _write_report(folder)


if __name__ == "__main__":
    run.write_report = _stop_and_write_report  # type: ignore[assignment]
    code = main()
    _stop_at("exit")
    sys.stdout.flush()
    os._exit(code)
