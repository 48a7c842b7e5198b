"""The `pres-dist` command: runs the subcommand and prints errors as one line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from pres_dist.console import prepare_output, print_error
from pres_dist.errors import (
    ConfigError,
    NonFiniteError,
    PresDistError,
    TerminatedError,
    WorkerLostError,
)
from pres_dist.exit_codes import BROKEN_PIPE, DIVERGED, INTERRUPTED, WORKER_LOST
from pres_dist.parallel.parent import end_with_agent
from pres_dist.parallel.signals import TERMINATED, terminable
from pres_dist.parallel.supervise import supervised
from pres_dist.version import __version__

COMMANDS = {
    "train": "train a model on an event stream",
    "ray": "train on the workers of a Ray cluster, a new local one or an existing one",
    "resume": "continue a run from its latest checkpoint",
    "evaluate": "evaluate a trained run again, e.g. with other negatives",
    "embed": "write node embeddings as of a given time",
    "score": "write link probabilities for pairs, each at its own time",
    "recommend": "rank the most likely destinations of a source",
    "report": "write an HTML page for inspecting nodes",
    "extend": "append events to a run and update its memory (with --train, its weights too)",
    "export": "export weights as safetensors and modules as torch.export programs",
    "serve": "score and recommend over HTTP while ingesting new events",
    "journal": "list, verify or drop the events that `serve` has ingested",
    "baselines": "score EdgeBank and popularity on a stream, without a model",
    "plan": "estimate memory, traffic and time for N workers, and recommend a layout",
    "bench": "benchmark settings, scaling, single steps and rankings",
    "data": "import, describe, synthesize or verify event streams",
}
HELP = """usage: pres-dist COMMAND ...

Train memory-based dynamic graph neural networks (TGN, JODIE, APAN, DyRep) with PRES on streams
of timestamped events.

commands:
{commands}

  pres-dist COMMAND --help  show the options of a command
  pres-dist --version       show the version

example:
  pres-dist train configs/quickstart.yaml --training.epochs 1"""
_CODES = {NonFiniteError: DIVERGED, WorkerLostError: WORKER_LOST}
_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
)


def entry() -> None:
    """Run the console script."""
    end_with_agent()
    # A command with these arguments may be the driver of a Ray cluster.
    names = {argument.split("=")[0].replace("_", "-") for argument in sys.argv[1:]}
    code = supervised(main) if sys.argv[1:2] == ["ray"] or "--address" in names else main()
    if code == WORKER_LOST:
        # Threads of gloo wait for the lost worker, and a normal exit would wait for the threads.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 if another worker was lost, 2 for an error that the user can fix, 3 if
        training diverged, 130 if interrupted, 141 if the reader of the output closed the pipe,
        143 if SIGTERM ended the command.
    """
    prepare_output()
    try:
        with terminable():
            code = _dispatch(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
        return code
    except (SystemExit, TerminatedError):  # of `terminable`, or already reported
        return TERMINATED
    except PresDistError as error:
        print_error(str(error))
        return _CODES.get(type(error), 2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except (OSError, MemoryError, RuntimeError) as error:
        text = _shortage(error)
        if text is None:
            raise
        if isinstance(error, OSError) and error.errno in _DISK and not error.filename:
            _silence_stdout()  # otherwise the interpreter repeats the error at exit
        print_error(text)
        return 2


def _shortage(error: Exception) -> str | None:
    """Return a message if the machine lacks disk, threads or memory; None for other errors."""
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}the disk must be writable and have room, got {error.strerror!r}"
    text = str(error).splitlines()[0] if str(error) else ""
    if "can't start new thread" in text or isinstance(error, BlockingIOError):
        return (
            "this machine must let the command start threads and processes, and has refused one: "
            "see `ulimit -u`, `ulimit -v` and the limits of the container"
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return (
            "this machine must have more memory for the command, and has refused it some: see "
            "`ulimit -v` and the limit on memory of the container; `pres-dist plan` estimates what "
            "a run needs"
        )
    return None


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        commands = "\n".join(f"  {name:<10}{summary}" for name, summary in COMMANDS.items())
        print(HELP.format(commands=commands))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"pres-dist {__version__}")
        return 0
    command = _command(argv[0])
    try:
        return command(argv[1:])
    except SystemExit as stop:  # argparse leaves this way after --help
        return stop.code if isinstance(stop.code, int) else 0


def _command(name: str) -> Callable[[list[str]], int]:
    """Import the module of a subcommand and return its main function."""
    if name not in COMMANDS:
        from pres_dist.config.suggest import suggest

        raise ConfigError(f"unknown command {name!r}; {suggest(name, list(COMMANDS))}")
    command: Callable[[list[str]], int] = import_module(f"pres_dist.cli.{name}").main
    return command


def _silence_stdout() -> None:
    """Keep the interpreter from reporting the broken pipe again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
