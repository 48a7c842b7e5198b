"""torchrun for the scripts in launch/: same arguments, but one error line and no traceback.

python -m pres_dist.parallel.agent --standalone --nproc-per-node=2 -m pres_dist train CONFIG
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import PContext, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from pres_dist.parallel.parent import AGENT, end_with_launcher


def main(argv: list[str]) -> int:
    """Run the workers until all have ended.

    Returns:
        0 on success; the exit code of the worker that failed first in the last attempt (2 for
        an error that the user can fix), 1 if a signal ended it; 128 + N after signal N.
    """
    arguments = run.parse_args(argv)
    default = os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "30")
    patience_s = int(getattr(arguments, "shutdown_timeout", None) or default)
    _wait_before_kill(patience_s)
    _end_stragglers(patience_s)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup: torch would handle it
        arguments.signals_to_handle = "SIGTERM,SIGINT,SIGQUIT"
    os.environ[AGENT] = str(os.getpid())
    launcher = os.getppid() if end_with_launcher() else None
    try:
        run.run(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        how = f"ended with exit code {failure.exitcode}"
        if failure.exitcode < 0:
            how = f"was ended by {failure.signal_name()}"
        print(f"worker {rank} {how}, and no restart is left", file=sys.stderr)
        return max(failure.exitcode, 1)
    except SignalException as stop:
        return 128 + stop.sigval
    finally:
        if launcher not in (None, os.getppid()) and arguments.log_dir:
            # The script that would remove this folder has been killed.
            shutil.rmtree(arguments.log_dir, ignore_errors=True)
    return 0


def _wait_before_kill(seconds: int) -> None:
    """Set the seconds that workers have to end after SIGTERM, also before a restart."""
    # Torch applies --shutdown-timeout only when torchrun itself ends. Before a restart it waits
    # for the default of these methods, 30 s, and no option or public argument changes that.
    for method in (PContext.close, LocalElasticAgent._shutdown):
        *others, _ = method.__defaults__ or (None,)
        method.__defaults__ = (*others, seconds)


def _end_stragglers(seconds: int) -> None:
    """Kill workers that have not ended within `seconds` of the first success on this machine.

    Workers end together. If one stops after its last collective, no other worker times out on
    it, and torch waits for it without a limit.
    """
    monitor = LocalElasticAgent._monitor_workers
    since: dict[int, float] = {}

    def monitor_workers(agent: LocalElasticAgent, group: WorkerGroup) -> RunResult:
        handlers: dict[int, Any] = getattr(agent._pcontext, "subprocess_handlers", {})
        workers = [handler.proc for handler in handlers.values()]
        if any(worker.poll() == 0 for worker in workers):
            # The first worker's process id identifies an attempt.
            started = since.setdefault(workers[0].pid, time.monotonic())
            late = [worker for worker in workers if worker.poll() is None]
            if time.monotonic() - started > seconds:
                for worker in late:
                    worker.kill()
        result: RunResult = monitor(agent, group)
        return result

    LocalElasticAgent._monitor_workers = monitor_workers  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
