"""report.html: complete, self-contained, escaped, and without empty sections."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pres_dist.errors import DataError
from pres_dist.report.html import report_content, write_report
from tests.report.fake_run import make_run
from tests.support.parsed_page import Page

PRES_FIGURES = {"gate", "coherence", "prediction"}


def written(run_dir: Path) -> Page:
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    return Page(path)


def figure_names(run_dir: Path) -> set[str]:
    return {figure.name for figure in report_content(run_dir)["figures"]}


def test_the_report_shows_the_run(run_dir: Path) -> None:
    page = written(run_dir)
    for text in ("0.9755", "nodes unseen in training", "Where a step's time goes", "batch_size"):
        assert text in page.text
    drawn = {figure["name"] for figure in json.loads(page.scripts[0])}
    assert drawn == figure_names(run_dir)
    assert drawn >= PRES_FIGURES | {"loss", "validation", "throughput", "pending", "stages"}


def test_several_workers_are_shown_each(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", workers=3)
    figures = {figure.name: figure for figure in report_content(run_dir)["figures"]}
    time = {trace["name"]: trace for trace in figures["workers"].traces}
    assert time["wait"]["y"] == ["worker 0", "worker 1", "worker 2"]
    assert time["wait"]["x"] == [1.0, 2.0, 3.0]
    assert set(time) == {"sample", "pull", "compute", "push", "all_reduce", "wait"}
    remote, local = figures["traffic"].traces
    assert remote["x"] == pytest.approx([3 * 1.4] * 3)
    assert local["x"] == pytest.approx([3 * 1.1] * 3)
    assert figures["staleness"].traces[0]["x"] == [5, 5 * 289]
    assert ("workers", "3") in report_content(run_dir)["facts"]


def test_one_worker_needs_no_plots_of_workers(run_dir: Path) -> None:
    assert not figure_names(run_dir) & {"workers", "traffic", "staleness"}


def test_the_report_loads_nothing(run_dir: Path) -> None:
    page = written(run_dir)
    assert page.loads == []
    assert "link" not in page.tags
    style = re.search(r"<style>(.*?)</style>", (run_dir / "report.html").read_text(), re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_plotly_is_there_once(run_dir: Path) -> None:
    assert sum("plotly.js v" in script for script in written(run_dir).scripts) == 1


def test_without_pres_its_sections_are_left_out(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", pres=False)
    assert not figure_names(run_dir) & PRES_FIGURES
    assert "PRES gate" not in written(run_dir).text


@pytest.mark.parametrize("hostile", ["</script><script>alert(1)</script>", "<img src=x>", "'\"&"])
def test_names_are_escaped(tmp_path: Path, hostile: str) -> None:
    run_dir = make_run(tmp_path / "run", data={"stream": hostile})
    stages = {"kind": "epoch", "step": 9999, "epoch": 6, "stage_seconds": {hostile: 1.0}}
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(stages) + "\n")
    page = written(run_dir)
    assert hostile in page.text
    assert "img" not in page.tags
    assert len(page.scripts) == 3
    assert hostile in texts_of(json.loads(page.scripts[0]))


def texts_of(value: object) -> set[str]:
    """Return all names and texts of parsed JSON."""
    if isinstance(value, dict):
        return set(value).union(*map(texts_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(texts_of, value))
    return {value} if isinstance(value, str) else set()


def test_a_run_that_was_cut_short_has_a_report(run_dir: Path) -> None:
    (run_dir / "results.json").unlink()
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "metrics.jsonl").write_text("".join(lines[:100]) + '{"kind"')
    page = written(run_dir)
    assert figure_names(run_dir) == {"loss", "throughput", "gate", "coherence"}
    assert "MRR" not in page.text


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert page.scripts == []
    assert "Training" not in page.text


@pytest.mark.parametrize(
    ("epoch", "missing"),
    [
        ({"prediction_error": 1.0, "persistence_error": 0.0}, "prediction"),
        ({"prediction_error": None, "persistence_error": 1.0}, "prediction"),
        ({"stage_seconds": {}}, "stages"),
        ({"validation": None}, "validation"),
    ],
)
def test_figures_without_data_are_left_out(
    tmp_path: Path, epoch: dict[str, Any], missing: str
) -> None:
    record = {"kind": "epoch", "step": 1, "epoch": 1, "loss": 0.5, **epoch}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert figure_names(tmp_path) == {"loss"}
    assert missing not in figure_names(tmp_path)


@pytest.mark.parametrize("missing", ["plotly.offline", "jinja2"])
def test_without_its_libraries_there_is_a_note(
    run_dir: Path,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert write_report(run_dir) is None
    assert "pip install 'pres-dist[report]'" in caplog.text
    assert not (run_dir / "report.html").exists()


@pytest.mark.parametrize(("name", "text"), [("results.json", "{"), ("config.yaml", "a: [")])
def test_a_damaged_file_is_told(run_dir: Path, name: str, text: str) -> None:
    (run_dir / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}: damaged"):
        write_report(run_dir)


def test_a_report_on_a_full_disk_is_one_error(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pres_dist.report.html.write_atomically", full)
    with pytest.raises(DataError, match=r"report.html: cannot be written: No space left"):
        write_report(run_dir)
