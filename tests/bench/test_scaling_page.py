"""report.html of a scaling bench, opened in a browser: drawn, hovered, dark, on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pres_dist.bench.scaling.report_schema import ScalingReport
from pres_dist.bench.scaling.scaling_figures import scaling_figures
from pres_dist.bench.scaling.scaling_report import scaling_report, write_scaling_reports
from pres_dist.cli.main import main
from tests.bench.fake_scaling import World, fail_run, make_ledger, make_plan, play_run
from tests.support.browser import CHROMIUM, look

DRAWN = """
  const plots = [...body.querySelectorAll(".plot")];
  return {
    plots: plots.map(plot => plot.id),
    drawn: plots.filter(plot => plot.querySelector(".main-svg .point, .main-svg .js-line"))
      .map(plot => plot.id),
    beyond: plots.filter(plot => plot.querySelector("svg").getBoundingClientRect().bottom >
      plot.getBoundingClientRect().bottom + 1).map(plot => plot.id),
    loaded: page.performance.getEntriesByType("resource").length,
    width: page.document.documentElement.scrollWidth,
    background: page.getComputedStyle(body).backgroundColor,
    axis: page.getComputedStyle(plots[0].querySelector("text")).fill,
    warnings: [...body.querySelectorAll(".warning")].map(one => one.textContent),
  };
"""
HOVERED = """
  const told = {};
  for (const plot of body.querySelectorAll(".plot")) {
    page.Plotly.Fx.hover(plot, [{ curveNumber: 0, pointNumber: 0 }]);
    const text = plot.querySelector(".hoverlayer")?.textContent ?? "";
    told[plot.id] = text;
  }
  return told;
"""
LIGHT, DARK = "rgb(247, 247, 245)", "rgb(20, 23, 26)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    plan = make_plan(folder, workers=[1, 2, 4, 8], launchers=["torchrun", "ray"])
    ledger = make_ledger(folder / "out")
    for run in plan.runs():
        # Six cores: eight workers outnumber them, and the rest leave enough to fit.
        if (run.setup.workers, run.setup.launcher, run.seed) == (8, "ray", 1):
            fail_run(run, ledger, "error: out of memory")
        else:
            play_run(run, ledger, World(cores=6))
    write_scaling_reports(plan, ledger)
    return folder / "out"


def test_its_tables_and_warnings(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    report = ScalingReport.model_validate_json((folder / "report.json").read_text())
    for told in (
        "° more threads than usable cores",
        "All points were measured by CPU processes that stand in for GPUs.",
        "against the fastest of 3 configurations of one worker: batch 8,000, started by torchrun",
        "Amdahl, torchrun: serial share 20.0% of one worker",
        "2 runs failed, 0 diverged, 0 have not been run",
        "<th>8°\N{NO-BREAK SPACE}CPU</th><td>torchrun</td><td>1,000</td><td>2 of 2</td>",
        "<th>8°\N{NO-BREAK SPACE}CPU</th><td>ray</td><td>1,000</td><td>1 of 2, 1 failed</td>",
        "coherence_weight",  # the configuration
    ):
        assert told in text
    names = [figure.name for figure in scaling_figures(report)]
    assert len(set(names)) == len(names)


def test_a_report_alone_makes_the_same_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.html"
    assert main(["bench", "page", str(folder / "report.json"), "--out", str(out)]) == 0
    assert out.read_text() == (folder / "report.html").read_text()
    nowhere = tmp_path / "nowhere" / "again.html"
    assert main(["bench", "page", str(folder), "--out", str(nowhere)]) == 2
    (tmp_path / "report.json").write_text('{"sweep": {}, "runs": []}')
    assert main(["bench", "page", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "the folder to write to does not exist" in told
    assert "must be the report.json of `pres-dist bench scaling`" in told


def test_hollow_points_outnumber_the_cores(folder: Path) -> None:
    report = ScalingReport.model_validate_json((folder / "report.json").read_text())
    rate = next(figure for figure in scaling_figures(report) if figure.name == "rate")
    strong = next(trace for trace in rate.traces if trace["name"] == "strong, torchrun")
    assert strong["x"] == [1, 2, 4, 8]
    assert strong["marker"]["symbol"] == ["circle", "circle", "circle", "circle-open"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_a_browser_draws_it(folder: Path, width: int, dark: bool) -> None:
    found = look(folder / "report.html", width, dark, DRAWN)
    assert len(found["plots"]) >= 13
    assert found["drawn"] == found["plots"]
    assert found["beyond"] == []
    assert found["loaded"] == 0
    assert found["width"] <= width
    assert found["background"] == (DARK if dark else LIGHT)
    assert found["axis"] == ("rgb(228, 230, 232)" if dark else "rgb(29, 33, 37)")
    assert len(found["warnings"]) == 3


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_every_plot_answers_to_hovering(folder: Path) -> None:
    told = look(folder / "report.html", 900, False, HOVERED)
    assert all(told.values()), told
    assert "1 worker, batch 1,000, torchrun" in told["plot-rate"]
    assert "sample" in told["plot-stages"]


@pytest.mark.parametrize(("share", "busy"), [(0.3, True), (0.95, False)])
def test_a_busy_machine_is_told(tmp_path: Path, share: float, busy: bool) -> None:
    plan, ledger = make_plan(tmp_path, workers=[1, 2]), make_ledger(tmp_path / "out")
    for run in plan.runs():
        # Workers that wait for each other take less CPU time, and say nothing of the machine.
        play_run(run, ledger, World(cpu_share=share if run.setup.workers == 1 else 0.2))
    write_scaling_reports(plan, ledger)
    text = (tmp_path / "out" / "report.html").read_text()
    assert ("a worker alone got as little as 30% of a core" in text) == busy
    assert ("The machine was busy" in text) == busy


def test_without_any_finished_run_there_is_a_page(tmp_path: Path) -> None:
    plan, ledger = make_plan(tmp_path, workers=[1, 2]), make_ledger(tmp_path / "out")
    write_scaling_reports(plan, ledger)
    assert scaling_figures(scaling_report(plan, ledger)) == []
    text = (tmp_path / "out" / "report.html").read_text()
    assert "No one-worker run has finished" in text
