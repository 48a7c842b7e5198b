"""The service as a Ray Serve application.

    serve run pres_dist.inference.serve.ray_app:application run=/runs/wikipedia-…

There is one replica, because the memory has one writer. If it dies, Ray restarts it on the same
or another machine that can access the run folder, and it replays its journal. Until the old
replica releases the lock of the run, a new one fails, and Ray retries it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.errors import ConfigError
from pres_dist.inference.serve.access import Access, chosen_token

if TYPE_CHECKING:
    from pres_dist.inference.serve.worker import Worker

_OTHERS = 16
"""Concurrent requests allowed in addition to waiting ones, for health and metrics."""


class RayOptions(Config):
    """Arguments of `serve run`."""

    run: Path
    """Folder of the run, as the replica sees it."""
    max_waiting: int = Field(256, ge=1)
    """Maximum number of waiting requests; more are rejected with 429."""
    max_ahead: str = "auto"
    """Largest gap between the last event and the next; as `--max-ahead` of `pres-dist serve`."""
    token_file: Path | None = None
    """File with the bearer token that requests must carry, read on the machine that calls `serve
    run`. Defaults to the environment variable PRES_DIST_TOKEN, or ~/.config/pres_dist/token."""
    no_token: bool = False
    """Accept requests without a token, from any client that can reach Ray's proxy."""
    allow_host: tuple[str, ...] | str = ()
    """Host names allowed in requests, in addition to loopback; separated by commas."""


def application(options: RayOptions | dict[str, Any]) -> Any:
    """Return the `ray.serve.Application` that `serve run` deploys.

    Args:
        options: options, or a dict of them as from the command line.

    Raises:
        ValidationError: an option is unknown or not valid.
        ConfigError: Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigError(f"needs Ray Serve, pip install 'pres-dist[ray-serve]': {error}") from None

    chosen = RayOptions.model_validate(options)
    access = _access(chosen)
    workers: list[Worker] = []  # the replica gets a copy, shared by `build` and `Replica`

    def build() -> Any:
        from pres_dist.inference.serve.app import make_app
        from pres_dist.inference.serve.service import ScoringService
        from pres_dist.inference.serve.worker import Worker

        def make() -> ScoringService:
            return ScoringService(chosen.run, max_ahead=chosen.max_ahead)

        workers.append(Worker(make, chosen.max_waiting))
        return make_app(workers[-1], access)

    class Replica:
        """Deployment whose health check fails after an error, so that Ray replaces the replica."""

        def check_health(self) -> None:
            for worker in workers:
                if worker.failure is not None:
                    raise worker.failure

    ingress = serve.ingress(build)(Replica)
    deployment = serve.deployment(
        name="pres_dist", num_replicas=1, max_ongoing_requests=chosen.max_waiting + _OTHERS
    )(ingress)
    return deployment.bind()


def _access(options: RayOptions) -> Access:
    if options.no_token and options.token_file is not None:
        raise ConfigError("no_token and token_file exclude each other")
    token = None if options.no_token else chosen_token(options.token_file)[0]
    names = options.allow_host
    listed = names.split(",") if isinstance(names, str) else names
    return Access(token, frozenset(name.strip().lower() for name in listed if name.strip()))
