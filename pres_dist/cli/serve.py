"""`pres-dist serve RUN`."""

from __future__ import annotations

import argparse
import ipaddress
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pres_dist.cli.terminable import hang_up_as_sigterm, terminable
from pres_dist.cli.use_options import add_max_ahead, at_least_one, use_parser
from pres_dist.config.options import OptionParser, normalized
from pres_dist.errors import ConfigError
from pres_dist.files import user_path

if TYPE_CHECKING:
    from pres_dist.inference.serve.access import Access
    from pres_dist.inference.serve.service import ScoringService


def main(argv: list[str]) -> int:
    """Serve a trained run until SIGTERM, SIGINT or SIGHUP."""
    arguments = _parser().parse_args(normalized(argv))
    port = _port(arguments.port)
    waiting = at_least_one("--max-waiting", arguments.max_waiting)
    connections = at_least_one("--max-connections", arguments.max_connections)
    grace = at_least_one("--grace", arguments.grace)

    from pres_dist.report.run_folder import read_config

    read_config(arguments.run)
    try:
        import uvicorn

        from pres_dist.inference.serve.app import make_app
    except ImportError:
        raise ConfigError(
            "serve needs the packages starlette and uvicorn: pip install 'pres-dist[serve]'"
        ) from None
    from pres_dist.inference.serve.connections import (
        Server,
        backlog_of,
        connection_class,
        most_connections,
    )
    from pres_dist.inference.serve.worker import Worker

    access, token_place = _access(arguments)
    worker = Worker(lambda: _open(arguments), waiting)
    connections = most_connections(connections)
    with terminable(), _listening(arguments.host, port) as listener:
        config = uvicorn.Config(
            make_app(worker, access),
            http=connection_class(connections),
            loop="asyncio",
            ws="none",
            backlog=backlog_of(connections),
            timeout_graceful_shutdown=grace,
            log_level="warning",
            access_log=False,
            # Otherwise any client could choose the address that is taken for its own.
            proxy_headers=False,
            server_header=False,
        )
        server = Server(config)
        address = _address(listener)

        def opened(done: Future[None]) -> None:
            if done.exception() is not None:
                server.should_exit = True
            else:
                print(f"serving {arguments.run} at {address}\n{token_place}", flush=True)

        worker.opened.add_done_callback(opened)
        hang_up_as_sigterm()
        server.run(sockets=[listener])
    if worker.failure is not None:
        raise worker.failure
    return 0


def _access(arguments: argparse.Namespace) -> tuple[Access, str]:
    """Return the access rules, and a line that describes what requests need.

    Raises:
        ConfigError: a required token is missing or cannot be read.
    """
    from pres_dist.inference.serve.access import Access, address_of, host_name
    from pres_dist.inference.serve.token import chosen_token

    bound = address_of(arguments.host)
    names = {arguments.host.lower(), *map(host_name, arguments.allow_host)}
    for name in arguments.allow_host:
        if not host_name(name) or host_name(name) != name.lower():
            raise ConfigError(f"--allow-host must be a name or an address, got {name!r}")
    access = Access(hosts=frozenset(names), any_address=bound is not None and bound.is_unspecified)
    if not arguments.no_token:
        token, place = chosen_token(arguments.token_file)
        return replace(access, token=token), f"requests need the bearer token in {place}"
    if arguments.token_file is not None:
        raise ConfigError("--no-token and --token-file exclude each other")
    if not _is_loopback(arguments.host):
        raise ConfigError(
            f"--no-token needs a loopback address: --host {arguments.host} is reached from other "
            "machines"
        )
    return access, "requests need no token: every user of this machine may send them"


def _open(arguments: argparse.Namespace) -> ScoringService:
    from pres_dist.cli.data_progress import show_progress
    from pres_dist.inference.serve.service import ScoringService

    with show_progress("opening") as report:
        return ScoringService(
            arguments.run, arguments.order, report, arguments.max_ahead, arguments.stream
        )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a listening socket; raise ConfigError if it cannot listen."""
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
        help="what recommendations are ordered by; the blend is learned once (blend, but for a "
        "model whose decoder reads the event log)",
    )
    parser.add_argument(
        "--max-waiting",
        metavar="N",
        default="256",
        help="requests that may wait; more are answered 429 (256)",
    )
    add_max_ahead(parser)
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=user_path,
        help="file with the bearer token that requests must show; else PRES_DIST_TOKEN of the "
        "environment, or ~/.config/pres_dist/token, which is made when there is none",
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="answer every user of this machine; for loopback addresses only",
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="another name by which requests may call the service (repeatable)",
    )
    parser.add_argument(
        "--max-connections",
        metavar="N",
        default="256",
        help="connections that may be open, fewer where there are few file descriptors (256)",
    )
    parser.add_argument(
        "--grace",
        metavar="SECONDS",
        default="5",
        help="time that requests have to end after SIGTERM (5)",
    )
    return parser


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
