"""explore.html: what it holds, what it leaves out, and how a browser shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from pres_dist.cli.main import main
from pres_dist.inference.explore.gather import Limits, explore
from pres_dist.inference.explore.page import page_content
from pres_dist.inference.live import LiveRun
from pres_dist.inference.run import Run
from tests.inference.explore.hostile_ids import HOSTILE
from tests.support.browser import CHROMIUM, look
from tests.support.parsed_page import Page
from tests.support.trained_runs import trained

SCRIPTS = 5
"""The figures, plotly, what draws them, the nodes, and what shows these."""
LIGHT, DARK = "rgb(247, 247, 245)", "rgb(20, 23, 26)"
LOOK = """
  const part = (id) => page.document.getElementById(id);
  const type = (text) => {
    part("search").value = text;
    part("search").dispatchEvent(new page.Event("input"));
    return [...part("found").querySelectorAll("button")].map(one => one.textContent);
  };
"""


def held(page: Path) -> dict[str, Any]:
    """The data of a page."""
    found = re.search(r'id="nodes">(.+?)</script>', page.read_text(), re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def written(run_dir: Path, *options: str) -> Path:
    assert main(["report", str(run_dir), *options]) == 0
    return run_dir / "explore.html"


@pytest.fixture(scope="module")
def hostile_page(hostile_run: Path) -> Path:
    return written(hostile_run)


def test_it_holds_what_the_run_knows(tgn_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = written(tgn_run, "--nodes", "12", "--events", "4")
    assert "12 of 55 nodes, 240 events watched" in capsys.readouterr().out
    run, content = Run(tgn_run), held(page)
    stream, names, sides = run.stream, content["names"], content["sides"]
    ends = np.concatenate([stream.src, stream.dst])
    degree = np.bincount(ends, minlength=stream.num_nodes)
    assert [node["degree"] for node in content["nodes"]] == sorted(degree)[::-1][:12]
    embedded = run.embed()
    values = embedded.values.numpy()
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    place = {str(one): row for row, one in enumerate(embedded.ids)}
    for name, side, node in zip(names, sides, content["nodes"], strict=False):
        number = int(name)
        assert side == ("s" if number < 40 else "d")
        own = np.flatnonzero((stream.src == number) | (stream.dst == number))
        assert node["degree"] == own.size
        latest = [
            [str(stream.t[event]), str(stream.src[event]), str(stream.dst[event])]
            for event in own[::-1][:4]
        ]
        told = [[t, names[src], names[dst]] for t, src, dst in node["events"]]
        assert told == latest
        cosine = unit @ unit[place[name]]
        cosine[place[name]] = -1
        best = np.argsort(-cosine)[:10]
        assert [names[other] for other, _ in node["near"]] == [str(embedded.ids[b]) for b in best]
        np.testing.assert_allclose([c for _, c in node["near"]], cosine[best], atol=1e-4)
        points = node["points"]
        assert sum(points["num"]) == int(dict(node["facts"])["memory updates"])
        assert points["t"][-1] == stream.t[own[-1]]


def test_nodes_may_be_named(tgn_run: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("44\n3\n44\n")
    out = tmp_path / "page.html"
    written(tgn_run, "--ids", str(tmp_path / "ids.txt"), "--out", str(out))
    content = held(out)
    assert content["names"][:2] == ["44", "3"]
    assert len(content["nodes"]) == 2
    assert "2 of 55 nodes with an event; of each" in out.read_text()


def notes(run_dir: Path, limits: Limits, replay: bool = False) -> str:
    live = LiveRun(run_dir, replay)
    return " ".join(page_content(live, explore(live, limits), limits)["notes"])


def test_what_is_left_out_is_told(tgn_run: Path, runs: Path) -> None:
    told = notes(tgn_run, Limits(nodes=12, points=2))
    assert "12 of 55 nodes with an event, those with the most events" in told
    assert "Memory is watched over 240 of 800 events, from" in told
    assert "one of 2 equal parts" in told
    assert "comes from the checkpoint" in told
    told = notes(tgn_run, Limits(), replay=True)
    assert "55 of 55 nodes with an event; of each" in told
    assert "watched over 800 of 800 events" in told
    assert "equal parts" not in told
    assert "has no memory: nothing drifts" in notes(trained(runs, "tgat"), Limits())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "0"], "--nodes must be an integer >= 1, got '0'"),
        (["--events", "few"], "--events must be an integer >= 1, got 'few'"),
        (["--out", "page.pdf"], "--out must be a .html file, got 'page.pdf'"),
        (["--out", "no/page.html"], "there is no folder no"),
        (["--ids", "none.txt"], "none.txt: cannot be read"),
        (["--ids", "none.txt", "--nodes", "3"], "not allowed with argument"),
    ],
)
def test_a_mistake_is_one_error(
    tgn_run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tgn_run), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_node_without_events_is_refused(
    hostile_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ids.txt").write_text("user 1\nlate\n")
    assert main(["report", str(hostile_run), "--ids", str(tmp_path / "ids.txt")]) == 2
    assert "must have an event, 'late' has none" in capsys.readouterr().err


@pytest.mark.attack(
    "script tags, NUL, ESC and newlines in ids, on the explore page",
    before="held",
    after="all are shown as text, none runs",
)
def test_names_are_text(hostile_page: Path) -> None:
    page = Page(hostile_page)
    assert len(page.scripts) == SCRIPTS
    assert HOSTILE in page.text
    assert held(hostile_page)["names"][0] == HOSTILE


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_it(hostile_page: Path, width: int, dark: bool) -> None:
    script = """
      const before = part("node-name").textContent;
      const all = type("USER"), some = type("user 11"), none = type("nobody");
      const note = part("found").textContent;
      type("user 3");
      part("found").querySelector("button").click();
      const plots = [...body.querySelectorAll(".plot")];
      return {
        before, all, some, none, note,
        chosen: part("node-name").textContent, hash: page.location.hash,
        events: [...part("node-events").rows].map(row => [...row.cells].map(c => c.textContent)),
        near: part("node-near").rows.length,
        drawn: plots.filter(plot => plot.querySelector(".main-svg .point")).map(plot => plot.id),
        plots: plots.map(plot => plot.id),
        images: body.querySelectorAll("img").length,
        loaded: page.performance.getEntriesByType("resource").length,
        width: page.document.documentElement.scrollWidth,
        background: page.getComputedStyle(body).backgroundColor,
      };
    """
    found = look(hostile_page, width, dark, LOOK + script)
    assert found["before"] == HOSTILE
    assert len(found["all"]) == 12
    assert found["some"] == ["user 11 · source"]
    assert found["none"] == []
    assert found["note"] == "No node of this page."
    assert found["chosen"] == "user 3"
    assert found["hash"] == f"#{quote('source:user 3')}"
    assert all(row[1] == "user 3" and row[0].startswith("2024-02-") for row in found["events"])
    assert found["near"] == 10
    assert found["drawn"] == found["plots"]
    assert len(found["plots"]) == 5
    assert found["images"] == 0
    assert found["loaded"] == 0
    assert found["width"] <= width
    assert found["background"] == (DARK if dark else LIGHT)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_map_is_hovered_and_clicked(hostile_page: Path) -> None:
    script = """
      const map = part("plot-map");
      page.Plotly.Fx.hover(map, [{ curveNumber: 1, pointNumber: 0 }]);
      const told = map.querySelector(".hoverlayer").textContent;
      const point = map.data[0].customdata.length - 1;
      map.emit("plotly_click", { points: [{ customdata: map.data[0].customdata[point] }] });
      return { told, clicked: part("node-name").textContent };
    """
    found = look(hostile_page, 900, False, LOOK + script)
    assert found["told"].startswith(f"{HOSTILE}destination")
    assert found["clicked"].startswith("user")
