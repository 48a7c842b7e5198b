"""`pres-dist bench scaling` with real workers, and how it goes on, fails and is compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pres_dist.bench import runner
from pres_dist.bench.scaling.report_schema import Run, ScalingReport
from pres_dist.cli.main import main
from pres_dist.events.synthesize import SynthesizeConfig, synthesize

CONFIG = """
name: tiny
data: {{stream: {stream}}}
memory: {{dim: 8}}
model: {{embedding_dim: 8, time_dim: 6}}
sampling: {{num_neighbors: 4}}
training: {{epochs: 2, batch_size: 200, learning_rate: 0.01}}
parallel: {{slices: 2}}
evaluation: {{num_negatives: 2}}
"""
pytestmark = pytest.mark.slow
STAGES = {"sample", "pull", "compute", "push", "all_reduce", "wait", "other"}


def bench(folder: Path, *arguments: str) -> int:
    """A small bench in `folder`, strong scaling with one seed."""
    command = ["bench", "scaling", str(folder / "tiny.yaml"), "--out", str(folder / "out")]
    return main([*command, "--mode", "strong", "--seeds", "0", *arguments])


def report(folder: Path) -> ScalingReport:
    return ScalingReport.model_validate_json((folder / "out" / "report.json").read_text())


def run_of(found: ScalingReport, workers: int, launcher: str, changes: Sequence[str] = ()) -> Run:
    (run,) = (
        run
        for run in found.runs
        if (run.workers, run.launcher, list(run.changes)) == (workers, launcher, list(changes))
    )
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench of one and two workers under torchrun."""
    folder = tmp_path_factory.mktemp("bench")
    synthesize(SynthesizeConfig(out=folder / "stream", events=2000, users=60, items=30))
    (folder / "tiny.yaml").write_text(CONFIG.format(stream=folder / "stream"))
    assert bench(folder, "--workers", "1,2") == 0
    return folder


def test_two_workers_under_torchrun(folder: Path) -> None:
    found = report(folder)
    one, two = (run_of(found, workers, "torchrun") for workers in (1, 2))
    # Two slices on one worker or two: the same bits.
    assert one.figures["test_ap"] == two.figures["test_ap"]
    assert 0.4 < (one.figures["test_ap"] or 0) <= 1
    assert [epoch.validation_ap for epoch in one.epochs] == [e.validation_ap for e in two.epochs]
    assert (one.backend, two.backend) == (None, "gloo")
    assert [share.rank for share in two.shares] == [0, 1]
    for share in two.shares:
        assert set(share.seconds) == STAGES
        assert min(share.seconds["compute"], share.remote_bytes, share.gradient_bytes) > 0
        assert (share.threads, share.device) == (1, "cpu")
        assert len(share.compute_by_range) == 7  # 1,400 events in batches of 200 are 7 steps
    assert one.shares[0].remote_bytes == one.shares[0].gradient_bytes == 0
    assert two.epochs[0].events == 1400
    assert found.interconnect.interfaces[0].startswith("GLOO_SOCKET_IFNAME=lo")
    assert found.reference.chosen is not None
    # One worker was also tried with a single slice.
    assert [dict(one.changes) for one in found.reference.candidates] == [
        {},
        {"parallel.slices": "1"},
    ]


def test_its_folder_keeps_no_rest(folder: Path) -> None:
    assert not list((folder / "out" / "tasks").glob("launch-*"))
    assert not list((folder / "out" / "runs").glob("*/checkpoints"))


def test_it_goes_on_where_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(folder, "--workers", "1,2", "--dry-run") == 0
    out = capsys.readouterr().out
    assert (out.count("done "), out.count("new ")) == (3, 0)
    before = report(folder)
    assert bench(folder, "--workers", "1,2") == 0
    assert "started" not in capsys.readouterr().out
    assert report(folder).points == before.points


def test_it_compares_with_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", str(folder / "out"), str(folder / "out")]) == 0
    out = capsys.readouterr().out
    assert "0 of" in out
    assert "made with" not in out


def test_a_failed_point_is_noted_and_the_rest_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "PROGRAM", ["false"])
    failing = ["--workers", "2", "--data.max_events", "1500"]
    assert bench(folder, *failing, "--out", str(folder / "failed")) == 1
    out = capsys.readouterr().out
    assert out.count("failed, see ") == 3
    content = json.loads((folder / "failed" / "report.json").read_text())
    assert {run["state"] for run in content["runs"]} == {"failed"}
    assert "3 runs failed" in (folder / "failed" / "report.html").read_text()


@pytest.mark.nightly
@pytest.mark.ray
def test_two_workers_on_ray_beside_torchrun(folder: Path) -> None:
    pytest.importorskip("ray")
    assert bench(folder, "--workers", "2", "--launcher", "torchrun,ray") == 0
    found = report(folder)
    torchrun, ray = (run_of(found, 2, launcher) for launcher in ("torchrun", "ray"))
    assert ray.state == "done"
    assert ray.figures["test_ap"] == torchrun.figures["test_ap"]
    assert [share.rank for share in ray.shares] == [0, 1]
    assert all(set(share.seconds) == STAGES for share in ray.shares)
