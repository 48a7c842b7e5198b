"""The service over HTTP, as a process: answers, refusals, and SIGKILL."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pres_dist.cli.main import main
from tests.support.serving import copied, later_events
from tests.support.trained_runs import trained

pytest.importorskip("starlette", reason="needs the extra `serve`")
pytest.importorskip("uvicorn", reason="needs the extra `serve`")

Answer = tuple[int, object]
TOKEN = "s3cret"


class Api:
    """A client of one service."""

    def __init__(self, address: str, token: str | None = TOKEN) -> None:
        self.address, self.token = address, token
        self.headers = {"Content-Type": "application/json"}

    def __call__(self, path: str, body: object = None, raw: bytes | None = None) -> Answer:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, self.headers)
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=240) as response:
                return response.status, read(response.read())
        except urllib.error.HTTPError as error:
            return error.code, read(error.read())


def read(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


@contextmanager
def served(
    run_dir: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Iterator[tuple[subprocess.Popen[str], Api]]:
    """A process that serves a run, once it is ready; killed in the end.

    Args:
        run_dir: folder of the run.
        options: of the command.
        environment: variables that differ.
        before: called in the process before it begins.
    """
    command = [sys.executable, "-m", "pres_dist", "serve", str(run_dir), "--port", "0"]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PRES_DIST_TOKEN": TOKEN, **(environment or {})},
        preexec_fn=before,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serving .* at (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line + process.communicate(timeout=240)[1]
        yield process, Api(found[1])
    finally:
        process.kill()
        process.communicate(timeout=240)


@pytest.fixture(scope="module")
def run_dir(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(trained(runs), tmp_path_factory.mktemp("http") / "run")


@pytest.mark.attack(
    "SIGKILL of the service after acknowledged events",
    before="held",
    after="the restarted service answers in the same bits",
)
def test_killed_and_started_again_it_answers_in_the_same_bits(run_dir: Path) -> None:
    with served(run_dir) as (process, api):
        status = api("/v1/status")[1]
        assert isinstance(status, dict)
        assert status["num_known_events"] == 800
        events = later_events(status["last_time"] + 1, 90)
        assert api("/v1/events", {"events": events[:60]})[0] == 200
        questions = [
            ("/v1/score", {"pairs": [[src, 40 + src % 15] for src in range(40)]}),
            ("/v1/recommend", {"src": 7, "top": 5}),
        ]
        before = [api(*question) for question in questions]
        assert api("/v1/events", {"events": events[60:], "after": 60}) == (
            200,
            {"num_events": 90, "t": events[-1]["t"]},
        )
        expected = [api(*question) for question in questions]
        assert expected != before
        assert all(status == 200 for status, _ in expected)
        process.send_signal(signal.SIGKILL)
        process.wait(240)
    with served(run_dir) as (process, api):
        assert [api(*question) for question in questions] == expected
        code, body = api("/v1/events", {"events": events[60:], "after": 60})
        assert (code, body) == (
            409,
            {"error": "after must be the number of events taken in so far, 90, got 60"},
        )
        check_refusals(api)
        check_counts(api)
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 143


def check_refusals(api: Api) -> None:
    for path, body, status, message in (
        ("/v1/score", {"pairs": [[0, 99]]}, 422, "pairs[0][1] must be one of the 15 destinations"),
        ("/v1/score", {"pears": []}, 422, "request must have no other fields than pairs, t, got"),
        ("/v1/score", {"pairs": [[0]]}, 422, "pairs[0][1] is missing"),
        ("/v1/recommend", {"src": 1.5}, 422, "src must be a text or a whole num"),
        ("/v1/events", {"events": []}, 422, "events must have at least one item, got []"),
        ("/v1/nothing", {}, 404, "Not Found"),
        ("/v1/score/", {"pairs": [[0, 41]]}, 404, "Not Found"),
        ("/v1/score", None, 405, "Method Not Allowed"),
    ):
        code, answer = api(path, body)
        assert isinstance(answer, dict)
        assert (code, list(answer)) == (status, ["error"])
        assert answer["error"].startswith(message)
        assert "\n" not in answer["error"]
    assert api("/v1/score", raw=b"{")[0] == 400
    assert api("/v1/score", raw=b" " * ((4 << 20) + 1))[0] == 413
    for token in (None, "guess"):
        stranger = Api(api.address, token)
        assert stranger("/v1/status")[0] == 401
        assert stranger("/metrics")[0] == 401
        assert stranger("/healthz") == (200, "ok\n")
        assert stranger("/readyz") == (200, "ready\n")


def check_counts(api: Api) -> None:
    text = api("/metrics")[1]
    assert isinstance(text, str)
    assert 'pres_dist_requests_total{route="/v1/events",status="409"} 1' in text
    assert 'pres_dist_request_seconds_bucket{route="/v1/recommend",le="+Inf"} 2' in text
    assert "pres_dist_ready 1" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0", "--no-token"], "--host 0.0.0.0 is reached from other machines"),
        (["--no-token", "--token-file", "x"], "--no-token and --token-file exclude each other"),
        (["--token-file", "/nowhere/token"], "/nowhere/token: cannot be read"),
        (["--allow-host", "a/b"], "--allow-host must be a name or an address, got 'a/b'"),
        (["--grace", "0"], "--grace must be an integer >= 1, got '0'"),
        (["--max-ahead", "soon", "--port", "0"], "max_ahead must be auto, none, a number"),
        (["--port", "70000"], "--port must be an integer >= 0 and <= 65535, got '70000'"),
        (["--max-waiting", "0"], "--max-waiting must be an integer >= 1, got '0'"),
        (["--token-file", "/dev/null"], "/dev/null: must hold a token"),
        (["--host", "203.0.113.7"], "cannot listen here"),
    ],
)
def test_mistakes_on_the_command_line(
    run_dir: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRES_DIST_TOKEN", TOKEN)
    assert main(["serve", str(run_dir), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_cannot_be_opened_ends_in_one_line(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRES_DIST_TOKEN", TOKEN)
    broken = copied(trained(runs), tmp_path / "run")
    (broken / "checkpoints" / "BEST").unlink()
    assert main(["serve", str(broken), "--port", "0"]) == 2
    assert "there is no best checkpoint here" in capsys.readouterr().err


def test_what_was_served_can_be_appended(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pres_dist.inference.serve import fold

    run_dir = copied(trained(runs), tmp_path / "run")
    with served(run_dir) as (_, api):
        status = api("/v1/status")[1]
        assert isinstance(status, dict)
        events = later_events(status["last_time"] + 1, 90)
        assert api("/v1/events", {"events": events})[0] == 200
    with monkeypatch.context() as patched:  # a crash before the journal could be put aside
        patched.setattr(fold, "_put_aside", lambda *_: None)
        assert main(["extend", str(run_dir), "--served"]) == 0
    assert "90 events appended, 0 new nodes, 890 events now" in capsys.readouterr().out
    assert main(["extend", str(run_dir), "--served"]) == 2
    assert "no service has taken in events" in capsys.readouterr().err
    assert (run_dir / "extended" / "served-after-800.jsonl").exists()
    with served(run_dir) as (_, api):
        status = api("/v1/status")[1]
        assert isinstance(status, dict)
        assert (status["num_events"], status["num_known_events"]) == (0, 890)
    assert main(["extend", str(run_dir)]) == 2
