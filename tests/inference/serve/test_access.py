"""Access to the service: none for other sites in the user's browser or without the token."""

from __future__ import annotations

import functools
import http.server
import json
import os
import queue
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pres_dist.cli.main import main
from pres_dist.errors import ConfigError
from pres_dist.inference.serve.access import Access, chosen_token, users_file
from pres_dist.inference.serve.service import ScoringService
from tests.inference.serve.test_http import Api, served
from tests.support.browser import CHROMIUM, FLAGS, TIMEOUT_S
from tests.support.serving import InProcess, copied, later_events
from tests.support.trained_runs import trained

pytest.importorskip("starlette", reason="needs the extra `serve`")
pytest.importorskip("uvicorn", reason="needs the extra `serve`")


@pytest.fixture(scope="module")
def service(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScoringService]:
    run_dir = copied(trained(runs), tmp_path_factory.mktemp("access") / "run")
    with ScoringService(run_dir) as service:
        yield service


@pytest.fixture(scope="module")
def api(service: ScoringService) -> Iterator[InProcess]:
    access = Access(hosts=frozenset({"scores.example"}))
    with InProcess(lambda: service, access) as api:
        yield api


FOREIGN = [
    pytest.param(
        421,
        {"host": "evil.example:8642"},
        marks=pytest.mark.attack(
            "DNS rebinding: a foreign name in Host",
            before="200, with recommendations",
            after="421, for any name that is not loopback's or of `--allow-host`",
        ),
    ),
    (421, {"host": "127.0.0.1.evil.example"}),
    (421, {"host": "localhost.evil.example:8642"}),
    (421, {"host": "scores.example.evil"}),
    (421, {"host": "203.0.113.7:8642"}),
    (421, {"host": "[2001:db8::1]:8642"}),
    (421, {"host": "["}),
    (421, {"host": ""}),
    (421, {"host": None}),
    pytest.param(
        403,
        {"origin": "https://evil.example"},
        marks=pytest.mark.attack(
            "request of a page of another site (Origin)",
            before="200, event taken in",
            after="403, nothing taken in; no CORS header in any answer",
        ),
    ),
    (403, {"origin": "null"}),
    (403, {"origin": "http://127.0.0.1:8000"}),
    (403, {"origin": "http://localhost:8642"}),
    (403, {"sec_fetch_site": "cross-site"}),
    (403, {"sec_fetch_site": "same-site"}),
    pytest.param(
        415,
        {"content_type": "text/plain"},
        marks=pytest.mark.attack(
            "simple request: text/plain, or a form",
            before="200, event taken in",
            after="415, nothing taken in",
        ),
    ),
    (415, {"content_type": "application/x-www-form-urlencoded"}),
    (415, {"content_type": "multipart/form-data; boundary=x"}),
    (415, {"content_type": "application/json; charset=utf-16"}),
    (415, {"content_type": "text/plain; application/json"}),
    (415, {"content_type": None}),
]


@pytest.mark.parametrize(("status", "headers"), FOREIGN)
def test_requests_of_other_sites_are_refused(
    service: ScoringService, api: InProcess, status: int, headers: dict[str, str | None]
) -> None:
    body = {"events": later_events(service.memory.latest, 1)}
    code, answer = api("/v1/events", body, **headers)
    assert (code, service.num_events) == (status, 0)
    assert list(answer) == ["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost"},
        {"host": "LOCALHOST:80"},
        {"host": "127.5.6.7:1"},
        {"host": "[::1]:8642"},
        {"host": "Scores.Example:443"},
        {"host": "scores.example", "origin": "https://scores.example"},
        {"sec_fetch_site": "same-origin"},
        {"content_type": "Application/JSON; charset=UTF-8"},
    ],
)
def test_the_services_own_names_are_answered(api: InProcess, headers: dict[str, str]) -> None:
    assert api("/v1/score", {"pairs": [[0, 41]]}, **headers)[0] == 200
    assert api("/healthz", **headers) == (200, "ok\n")


def test_a_service_of_all_addresses_is_called_by_any_address_and_by_its_names(
    service: ScoringService,
) -> None:
    access = Access("s3cret", frozenset({"scores.example"}), any_address=True)
    for host, expected in (("203.0.113.7:1", True), ("[2001:db8::1]", True), ("x.example", False)):
        with InProcess(lambda: _Quiet(service), access) as api:  # type: ignore[arg-type,return-value]
            assert (api("/healthz", host=host)[0] == 200) is expected


class _Quiet:
    """A service that is not closed by the application around it."""

    def __init__(self, service: ScoringService) -> None:
        self.journal = service.journal

    def close(self) -> None:
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.attack(
    "a page of another origin in a real browser: fetch in all modes, forms, images",
    before="events were taken in",
    after="nothing is taken in, and the page can read nothing",
)
def test_a_page_of_another_origin_can_neither_write_nor_read(runs: Path, tmp_path: Path) -> None:
    run_dir = copied(trained(runs), tmp_path / "run")
    (tmp_path / "site").mkdir()
    page_reports: queue.Queue[dict[str, str]] = queue.Queue()
    with (
        served(run_dir, "--no-token") as (_, api),
        site(tmp_path / "site", page_reports) as address,
    ):
        api.token = None
        first = api("/v1/status")[1]["last_time"] + 1  # type: ignore[call-overload,index]
        page = PAGE % (json.dumps(api.address), json.dumps({"events": later_events(first, 1)}))
        (tmp_path / "site" / "index.html").write_text(page)
        assert CHROMIUM is not None
        # Virtual time runs out before a busy service answers: the page reports when done.
        flags = [flag for flag in FLAGS if not flag.startswith("--virtual-time-budget")]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={tmp_path / 'profile'}"]
        browser = subprocess.Popen(
            [CHROMIUM, *flags, address], stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            found = page_reports.get(timeout=TIMEOUT_S)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
        # Whatever was sent without asking is opaque to the page; all else fails.
        assert set(found) == {"cors", "no-cors", "form", "read", "image"}
        assert "200" not in str(found)
        assert api("/v1/status")[1]["num_events"] == 0  # type: ignore[call-overload,index]
        metrics = api("/metrics")[1]
        assert 'route="/v1/events"' not in str(metrics)


PAGE = """<!doctype html><iframe name="frame"></iframe><script>
const address = %s, events = JSON.stringify(%s);
const tried = async (call) => {
  try { const got = await call(); return `${got.type} ${got.status}`; } catch (e) { return `${e}`; }
};
const post = (mode, type) => fetch(address + "/v1/events",
  {method: "POST", mode: mode, headers: {"Content-Type": type}, body: events});
addEventListener("load", async () => {
  const found = {};
  found["cors"] = await tried(() => post("cors", "application/json"));
  found["no-cors"] = await tried(() => post("no-cors", "text/plain"));
  found["read"] = await tried(() => fetch(address + "/v1/status"));
  found["image"] = await tried(() => new Promise((done, failed) => {
    const image = new Image(); image.onload = done; image.onerror = () => failed("error");
    image.src = address + "/v1/status"; }));
  const form = document.createElement("form");
  form.action = address + "/v1/events"; form.method = "POST"; form.enctype = "text/plain";
  form.target = "frame"; form.innerHTML = "<input name='x'>";
  form.firstChild.name = events.slice(0, -1) + ', "after'; form.firstChild.value = '": 0}';
  document.body.append(form);
  await new Promise((done) => { frames["frame"].frameElement.onload = done; form.submit(); });
  found["form"] = "sent";
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
});
</script>"""


class site:
    """A page of another origin, on a port of loopback, and a queue of what it reports."""

    def __init__(self, folder: Path, reports: queue.Queue[dict[str, str]]) -> None:
        handler = functools.partial(_Handler, reports, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://localhost:{self._server.server_port}/index.html"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, reports: queue.Queue[dict[str, str]], *given: Any, **named: Any) -> None:
        self._reports = reports  # before the base class, which answers the request
        super().__init__(*given, **named)

    def do_POST(self) -> None:
        self._reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_the_users_token_is_drawn_once_and_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PRES_DIST_TOKEN", raising=False)
    token, place = chosen_token(None)
    assert place == str(users_file())
    assert stat.S_IMODE(users_file().stat().st_mode) == 0o600
    assert os.listdir(users_file().parent) == ["token"]
    assert len(token) >= 40
    assert chosen_token(None) == (token, place)
    monkeypatch.setenv("PRES_DIST_TOKEN", "mine")
    assert chosen_token(None) == ("mine", "PRES_DIST_TOKEN")
    (tmp_path / "other").write_text("theirs\n")
    assert chosen_token(tmp_path / "other") == ("theirs", str(tmp_path / "other"))
    monkeypatch.delenv("PRES_DIST_TOKEN")
    users_file().chmod(0o640)
    with pytest.raises(ConfigError, match=r"readable by you alone \(chmod 600\), got mode 640"):
        chosen_token(None)
    for content in ("", "two words", "a\nb", "\u00e9"):
        (tmp_path / "other").write_text(content)
        with pytest.raises(ConfigError, match="must hold a token, printable ASCII"):
            chosen_token(tmp_path / "other")


@pytest.mark.attack(
    "another user of the machine sends requests",
    before="200 unless a token was asked for",
    after="401: a token is drawn and asked for unless `--no-token` is given",
)
def test_a_token_is_asked_for_by_default(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = copied(trained(runs), tmp_path / "run")
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PRES_DIST_TOKEN": ""}
    with served(run_dir, environment=environment) as (process, api):
        assert process.stdout is not None
        line = process.stdout.readline()
        file = tmp_path / "config" / "pres_dist" / "token"
        assert line == f"requests need the bearer token in {file}\n"
        api.token = None
        for path in ("/v1/status", "/metrics", "/v1/nothing"):
            assert api(path)[0] == 401
        assert api("/readyz")[0] == 200
        stranger = Api(api.address, "guess")
        assert stranger("/v1/score", {"pairs": [[0, 41]]})[0] == 401
        api.token = file.read_text().strip()
        assert api("/v1/score", {"pairs": [[0, 41]]})[0] == 200
    assert main(["serve", str(run_dir), "--host", "0.0.0.0", "--no-token"]) == 2
    assert "--no-token needs a loopback address" in capsys.readouterr().err
