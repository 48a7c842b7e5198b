"""`pres-dist serve RUN`."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import at_least_one, use_parser
from pres_dist.config.options import OptionParser, normalised
from pres_dist.errors import ConfigError

if TYPE_CHECKING:
    from pres_dist.serve.service import ScoringService

TOKEN = "PRES_DIST_TOKEN"


def main(argv: list[str]) -> int:
    """Serve a trained run until SIGTERM or SIGINT."""
    arguments = _parser().parse_args(normalised(argv))
    port = _port(arguments.port)
    waiting = at_least_one("--max-waiting", arguments.max_waiting)
    token = _token(arguments.host, arguments.token_file)

    from pres_dist.report.run_folder import read_config

    read_config(arguments.run)
    try:
        import uvicorn

        from pres_dist.serve.app import make_app
    except ImportError:
        raise ConfigError(
            "serve needs the packages starlette and uvicorn: pip install 'pres-dist[serve]'"
        ) from None
    from pres_dist.serve.worker import Worker

    worker = Worker(lambda: _open(arguments), waiting)
    with terminable(), _listening(arguments.host, port) as listener:
        config = uvicorn.Config(make_app(worker, token), log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        address = _address(listener)

        def opened(done: Future[None]) -> None:
            if done.exception() is not None:
                server.should_exit = True
            else:
                print(f"serving {arguments.run} at {address}", flush=True)

        worker.opened.add_done_callback(opened)
        server.run(sockets=[listener])
    if worker.failure is not None:
        raise worker.failure
    return 0


def _open(arguments: argparse.Namespace) -> ScoringService:
    from pres_dist.cli.data_progress import show_progress
    from pres_dist.serve.service import ScoringService

    with show_progress("opening") as report:
        return ScoringService(arguments.run, arguments.order, report)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; ConfigError where it may not."""
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"--host {host} --port {port}: cannot listen here: {reason}") from None
    with listener:
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _parser() -> OptionParser:
    parser = use_parser(
        "serve",
        "[--port N]",
        "Score and recommend over HTTP, and take in events as they come. Events are in a journal "
        "on disk before they are acknowledged; a service that was killed starts where it was.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument(
        "--port", metavar="N", default="8642", help="port; 0 takes a free one (8642)"
    )
    parser.add_argument(
        "--order",
        choices=("blend", "model"),
        default="blend",
        help="what recommendations are ordered by; the blend is learnt once (blend)",
    )
    parser.add_argument(
        "--max-waiting",
        metavar="N",
        default="256",
        help="requests that may wait; more are answered 429 (256)",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help=f"file with the bearer token that requests must show; else {TOKEN} of the "
        "environment. Needed unless --host is a loopback address",
    )
    return parser


def _token(host: str, file: Path | None) -> str | None:
    """The token that requests must show; ConfigError where one is needed and none is given."""
    token = os.environ.get(TOKEN, "")
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: cannot be read: {error}") from None
    token = token.strip()
    if file is not None and not token:
        raise ConfigError(f"{file}: must hold a token, is empty")
    if not token and not _is_loopback(host):
        raise ConfigError(
            f"--host {host} is reached from other machines, so a token is needed: --token-file "
            f"FILE, or {TOKEN} in the environment"
        )
    return token or None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"--port must be an integer from 0 to 65535, got {text!r}")
    return port
