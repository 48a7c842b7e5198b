"""The service as a Ray Serve application.

    serve run pres_dist.inference.serve.ray_app:application run=/runs/wikipedia-…

One replica: the memory has one writer. Ray starts it again where it dies, on the same or
another machine that sees the run folder, and it takes its journal in. While a new replica
waits for an old one to let go of the run, it fails and is tried again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.errors import ConfigError
from pres_dist.inference.serve.access import Access
from pres_dist.inference.serve.token import chosen_token

if TYPE_CHECKING:
    from pres_dist.inference.serve.worker import Worker

_OTHERS = 16
"""Requests beside those that may wait: for health and metrics."""


class RayOptions(Config):
    """Arguments of `serve run`."""

    run: Path
    """Folder of the run, as the replica sees it."""
    order: Literal["blend", "model"] | None = None
    """What recommendations are ordered by; unset, what suits the run."""
    max_waiting: int = Field(256, ge=1)
    """Requests that may wait; more are answered 429."""
    max_ahead: str = "auto"
    """How far after the last event the next may be; as `--max-ahead` of `pres-dist serve`."""
    token_file: Path | None = None
    """File with the bearer token that requests must show, read where `serve run` is called; else
    PRES_DIST_TOKEN of the environment, or ~/.config/pres_dist/token."""
    no_token: bool = False
    """Answer whoever reaches Ray's proxy."""
    allow_host: tuple[str, ...] | str = ()
    """Names by which requests may call the service, beside loopback; separated by commas."""


def application(options: RayOptions | dict[str, Any]) -> Any:
    """What `serve run` deploys, a `ray.serve.Application`.

    Args:
        options: as they are, or by name as the command line has them.

    Raises:
        ValidationError: an option that is not known or not valid.
        ConfigError: Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigError(f"needs Ray Serve, pip install 'ray[serve]': {error}") from None

    chosen = RayOptions.model_validate(options)
    access = _access(chosen)
    workers: list[Worker] = []  # of the replica, which gets a copy that both below share

    def build() -> Any:
        from pres_dist.inference.serve.app import make_app
        from pres_dist.inference.serve.service import ScoringService
        from pres_dist.inference.serve.worker import Worker

        def make() -> ScoringService:
            return ScoringService(chosen.run, chosen.order, max_ahead=chosen.max_ahead)

        workers.append(Worker(make, chosen.max_waiting))
        return make_app(workers[-1], access)

    class Replica:
        """Runs the application, and lets Ray start another in its place once it has failed."""

        def check_health(self) -> None:
            for worker in workers:
                if worker.failure is not None:
                    raise worker.failure

    ingress = serve.ingress(build)(Replica)
    deployment = serve.deployment(
        name="pres_dist",
        num_replicas=1,
        max_ongoing_requests=chosen.max_waiting + _OTHERS,
    )(ingress)
    return deployment.bind()


def _access(options: RayOptions) -> Access:
    if options.no_token and options.token_file is not None:
        raise ConfigError("no_token and token_file exclude each other")
    token = None if options.no_token else chosen_token(options.token_file)[0]
    names = options.allow_host
    listed = names.split(",") if isinstance(names, str) else names
    return Access(token, frozenset(name.strip().lower() for name in listed if name.strip()))
