"""The service on Ray Serve: a replica that is killed is started again, and knows all."""

from __future__ import annotations

import importlib.util
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pres_dist.inference.serve.ray_app import RayOptions, application
from tests.support.serving import later_events

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("fastapi", "starlette", "ray")),
        reason="needs ray[serve]",
    ),
]
PORT = 18642


@pytest.fixture
def ray_serve() -> Iterator[Any]:
    import ray
    from ray import serve

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    yield serve
    serve.shutdown()
    ray.shutdown()


def request(path: str, body: object = None, **headers: str) -> urllib.request.Request:
    content = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", "Authorization": "Bearer s3cret", **headers}
    return urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", content, given)


def ask(path: str, body: object = None) -> Any:
    """The answer, once the service is ready."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(request(path, body), timeout=240) as got:
                return json.loads(got.read())
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{path}: no answer")


def test_a_replica_that_dies_comes_back_with_all_events(ray_serve: Any, served_run: Path) -> None:
    import ray

    (served_run / "token").write_text("s3cret")
    options = RayOptions(run=served_run, token_file=served_run / "token")
    ray_serve.run(application(options))
    first = ask("/v1/status")["last_time"] + 1
    events = {"events": later_events(first, 1)}
    for status, headers in (
        (401, {"Authorization": "Bearer guess"}),
        (421, {"Host": "evil.example"}),
        (403, {"Origin": "https://evil.example"}),
        (415, {"Content-Type": "text/plain"}),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request("/v1/events", events, **headers), timeout=240)
        assert refused.value.code == status
    assert ask("/v1/status")["num_events"] == 0
    assert ask("/v1/events", {"events": later_events(first, 70)})["num_events"] == 70
    question = {"pairs": [[src, 40 + src % 15] for src in range(40)]}
    expected = ask("/v1/score", question)
    (replica,) = [actor for actor in ray.util.list_named_actors(True) if "REPLICA" in actor["name"]]
    ray.kill(ray.get_actor(**replica), no_restart=True)
    assert ask("/v1/score", question) == expected
    assert ask("/v1/status")["num_events"] == 70
