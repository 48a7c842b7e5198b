"""`pres-dist serve RUN`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pres_dist.cli.options import AheadOptions, Argument, RunOptions, UserPath, parse
from pres_dist.errors import ConfigError, MissingPackageError
from pres_dist.parallel.signals import hang_up_as_sigterm

if TYPE_CHECKING:
    from pres_dist.inference.serve.access import Access
    from pres_dist.inference.serve.service import ScoringService


class ServeOptions(AheadOptions, RunOptions):
    """Score and recommend over HTTP, and ingest new events.

    An event is in a journal on disk before it is acknowledged. A service that was killed continues
    from the journal.
    """

    host: Annotated[str, Argument("ADDRESS")] = "127.0.0.1"
    """Address to listen at."""
    port: int = Field(8642, ge=0, le=65535)
    """Port to listen at; 0 takes a free one."""
    max_waiting: int = Field(256, ge=1)
    """Number of requests that may wait; further ones are answered 429."""
    token_file: Annotated[UserPath | None, Argument("FILE")] = None
    """File with the bearer token that requests need. When unset, it is PRES_DIST_TOKEN of the
    environment, or in ~/.config/pres_dist/token, which is created if necessary."""
    no_token: bool = False
    """Answer every user of this machine; for loopback addresses only."""
    allow_host: Annotated[list[str], Argument("NAME", many=True)] = Field(default=[])
    """Another host name of the service that requests may use; may be repeated."""
    max_connections: int = Field(256, ge=1)
    """Number of open connections; less if there are few file descriptors."""
    grace: int = Field(5, ge=1)
    """Seconds after SIGTERM in which requests may end."""


def main(argv: list[str]) -> int:
    """Serve a trained run until SIGTERM, SIGINT or SIGHUP."""
    options = parse("serve", ServeOptions, argv)

    from pres_dist.report.run_folder import read_config

    read_config(options.run)
    try:
        import uvicorn

        from pres_dist.inference.serve.app import make_app
    except ImportError:
        raise MissingPackageError("serve", "starlette and uvicorn", "serve") from None
    from pres_dist.cli.show_progress import show_progress
    from pres_dist.inference.serve.connections import (
        Server,
        backlog_of,
        connection_class,
        most_connections,
    )
    from pres_dist.inference.serve.service import ScoringService
    from pres_dist.inference.serve.worker import Worker

    access, token_place = _access(options)

    def open_service() -> ScoringService:
        with show_progress("opening") as show:

            def report(events: int, done: int, total: int) -> None:
                worker.check_wanted()
                show(events, done, total)

            return ScoringService(options.run, report, options.max_ahead, options.stream)

    worker = Worker(open_service, options.max_waiting)
    connections = most_connections(options.max_connections)
    with _listening(options.host, options.port) as listener:
        config = uvicorn.Config(
            make_app(worker, access),
            http=connection_class(connections),
            loop="asyncio",
            ws="none",
            backlog=backlog_of(connections),
            timeout_graceful_shutdown=options.grace,
            log_level="warning",
            access_log=False,
            # Otherwise any client could choose the address that is taken for its own.
            proxy_headers=False,
            server_header=False,
        )
        server = Server(config)
        host, port = listener.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

        def opened(done: Future[None]) -> None:
            if done.exception() is not None:
                server.should_exit = True
            else:
                print(f"serving {options.run} at {address}\n{token_place}", flush=True)

        worker.opened.add_done_callback(opened)
        hang_up_as_sigterm()
        server.run(sockets=[listener])
    if worker.failure is not None:
        raise worker.failure
    return 0


def _access(options: ServeOptions) -> tuple[Access, str]:
    """Return the access rules, and a line that describes what requests need.

    Raises:
        ConfigError: a required token is missing or cannot be read.
    """
    from pres_dist.inference.serve.access import Access, address_of, chosen_token, host_name

    bound = address_of(options.host)
    names = {options.host.lower(), *map(host_name, options.allow_host)}
    for name in options.allow_host:
        if not host_name(name) or host_name(name) != name.lower():
            raise ConfigError(f"--allow-host must be a name or an address, got {name!r}")
    access = Access(hosts=frozenset(names), any_address=bound is not None and bound.is_unspecified)
    if not options.no_token:
        token, place = chosen_token(options.token_file)
        return replace(access, token=token), f"requests need the bearer token in {place}"
    if options.token_file is not None:
        raise ConfigError("command line: --no-token and --token-file exclude each other")
    if not (bound.is_loopback if bound else options.host == "localhost"):
        raise ConfigError(
            f"--no-token needs a loopback address: --host {options.host} is reached from other "
            "machines"
        )
    return access, "requests need no token: every user of this machine may send them"


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
