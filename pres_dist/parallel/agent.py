"""torchrun as launch/ starts it: the same arguments, and a line where torchrun leaves a traceback.

python -m pres_dist.parallel.agent --standalone --nproc-per-node=2 -m pres_dist train CONFIG
"""

from __future__ import annotations

import sys

from torch.distributed import run
from torch.distributed.elastic.agent.server import WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure


def main(argv: list[str]) -> int:
    """Run the workers to their end.

    Returns:
        0; the exit code of the worker that failed first in the last attempt (2 for what
        the user can put right), 1 where a signal ended it; 128 + N after signal N.
    """
    LocalElasticAgent._stop_workers = _stop_workers  # type: ignore[method-assign]
    try:
        run.run(run.parse_args(argv))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(f"worker {rank} {_end_of(failure)}", file=sys.stderr)
        return max(failure.exitcode, 1)
    except SignalException as stop:
        return 128 + stop.sigval
    return 0


def _stop_workers(agent: LocalElasticAgent, _group: WorkerGroup) -> None:
    """Before a restart wait as long as --shutdown-timeout says: torch does so only at the end."""
    agent._shutdown(timeout=getattr(agent, "_shutdown_timeout", 30))


def _end_of(failure: ProcessFailure) -> str:
    if failure.exitcode < 0:
        return f"was ended by {failure.signal_name()}, and no restart is left"
    return f"ended with exit code {failure.exitcode}, and no restart is left"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
