"""torchrun as launch/ starts it: the same arguments, and a line where torchrun leaves a traceback.

python -m pres_dist.parallel.agent --standalone --nproc-per-node=2 -m pres_dist train CONFIG
"""

from __future__ import annotations

import os
import sys

from torch.distributed import run
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import PContext, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure


def main(argv: list[str]) -> int:
    """Run the workers to their end.

    Returns:
        0; the exit code of the worker that failed first in the last attempt (2 for what
        the user can put right), 1 where a signal ended it; 128 + N after signal N.
    """
    arguments = run.parse_args(argv)
    default = os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "30")
    _wait_before_kill(int(getattr(arguments, "shutdown_timeout", None) or default))
    try:
        run.run(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(f"worker {rank} {_end_of(failure)}", file=sys.stderr)
        return max(failure.exitcode, 1)
    except SignalException as stop:
        return 128 + stop.sigval
    return 0


def _wait_before_kill(seconds: int) -> None:
    """Let workers have so long to end after SIGTERM, also before a restart.

    Torch heeds --shutdown-timeout at its own end only, and waits for 30 s for a worker that
    has stopped before it starts all again.
    """
    for method in (PContext.close, LocalElasticAgent._shutdown):
        *others, _ = method.__defaults__ or (None,)
        method.__defaults__ = (*others, seconds)


def _end_of(failure: ProcessFailure) -> str:
    if failure.exitcode < 0:
        return f"was ended by {failure.signal_name()}, and no restart is left"
    return f"ended with exit code {failure.exitcode}, and no restart is left"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
