"""`pres-dist bench batch-size`: a tiny sweep of real runs, its reports, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pres_dist.bench import runner
from pres_dist.cli.main import main
from pres_dist.events.synthesize import SynthesizeConfig, synthesize

SWEEP = """
name: tiny
base:
  memory: {{dim: 8}}
  model: {{embedding_dim: 8, time_dim: 6}}
  sampling: {{num_neighbors: 4}}
  training: {{epochs: 1, learning_rate: 0.01}}
  evaluation: {{num_negatives: 2}}
streams: {{synthetic: {{data: {{stream: {stream}}}}}}}
batch_sizes: [200, 800]
methods:
  none: {{pres: {{prediction: false, coherence_weight: 0}}}}
  wild: {{training: {{learning_rate: 1.0e+30}}}}
baseline: none
seeds: [0]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    synthesize(SynthesizeConfig(out=tmp_path / "stream", events=2000, users=60, items=30))
    path = tmp_path / "tiny.yaml"
    path.write_text(SWEEP.format(stream=tmp_path / "stream"))
    return path


def test_a_tiny_sweep(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["bench", "batch-size", str(sweep), "--out", str(out)]
    assert main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("new ") == 4
    assert not out.exists()

    assert main([*arguments, "--jobs", "2"]) == 0
    report = json.loads((out / "report.json").read_text())
    states = {(run["method"], run["batch_size"]): run["state"] for run in report["runs"]}
    assert states == {
        ("none", 200): "done",
        ("none", 800): "done",
        ("wild", 200): "diverged",
        ("wild", 800): "diverged",
    }
    run = next(
        r["record"] for r in report["runs"] if (r["method"], r["batch_size"]) == ("none", 200)
    )
    assert run["optimizer_steps"] == 7
    assert len(run["epochs"]) == 1
    assert 0.4 < run["test"]["ap"] <= 1
    assert run["cpu_seconds"] > run["epochs"][0]["train_cpu_seconds"] > 0
    assert run["epochs"][0]["train_seconds"] > 0
    assert run["epochs"][0]["pending_events_mean"] > 0
    assert "worse: diverged" in (out / "report.md").read_text()
    assert "Plotly" in (out / "report.html").read_text()

    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert (told.count("done "), told.count("diverged "), told.count("new ")) == (2, 2, 0)
    (out / "report.json").unlink()
    assert main([*arguments, "--report-only"]) == 0
    assert json.loads((out / "report.json").read_text())["cells"] == report["cells"]

    other = tmp_path / "other"
    arguments = ["bench", "batch-size", str(sweep), "--out", str(other)]
    assert main([*arguments, "--known", str(out / "report.json")]) == 0
    assert not list((other / "runs").iterdir())
    assert json.loads((other / "report.json").read_text())["cells"] == report["cells"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "known.json: cannot be read: No such file or directory"),
        ("[", "known.json: --known expects the report.json of a sweep; this file is not one"),
        ("{}", "known.json: --known expects the report.json of a sweep; this file is not one"),
    ],
)
def test_known_runs_come_from_a_report(
    sweep: Path,
    tmp_path: Path,
    content: str | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "known.json").write_text(content)
    known = ["--known", str(tmp_path / "known.json")]
    assert main(["bench", "batch-size", str(sweep), *known]) == 2
    assert message in capsys.readouterr().err


def test_a_sweep_with_a_failed_run_says_so(
    sweep: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "PROGRAM", ["false"])
    arguments = ["bench", "batch-size", str(sweep), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--only", "batch_size=200,method=none"]) == 1
    told = capsys.readouterr().out
    log = next((tmp_path / "out" / "tasks").glob("*.log"))
    assert f"failed, see {log}" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench"], "arguments are required: COMMAND"),
        (["bench", "batch-size", "nowhere.yaml"], "nowhere.yaml: no such configuration file"),
        (["bench", "batch-size", "x.yaml", "--jobs", "0"], "must be an integer >= 1"),
        (["bench", "batch-size", "x.yaml", "--jobs", "two"], "--jobs"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
