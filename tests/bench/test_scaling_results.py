"""Figures of a scaling bench against figures computed by hand or planted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from pres_dist.bench.scaling.report_schema import Fit, Point, ScalingReport
from pres_dist.bench.scaling.run_figures import QUANTITIES
from pres_dist.bench.scaling.scaling_report import scaling_report, write_scaling_reports
from tests.bench.fake_scaling import EVENTS, World, fail_run, make_ledger, make_plan, play, play_run

DOCS = Path(__file__).parents[2] / "docs/reference/scaling_report.md"


def reported(tmp_path: Path, world: World, **asked: object) -> ScalingReport:
    plan, ledger = make_plan(tmp_path, **asked), make_ledger(tmp_path / "out")
    play(plan, ledger, world)
    return scaling_report(plan, ledger)


def point(report: ScalingReport, workers: int, mode: str, launcher: str = "torchrun") -> Point:
    (found,) = (
        point
        for point in report.points
        if (point.workers, point.launcher) == (workers, launcher) and mode in point.modes
    )
    return found


def fit(report: ScalingReport, kind: str) -> Fit:
    return next(fit for fit in report.fits if fit.kind == kind)


def test_efficiency_is_against_the_fastest_of_one_worker(tmp_path: Path) -> None:
    report = reported(tmp_path, World(), workers=[1, 2, 4])
    chosen = report.reference.chosen
    assert chosen is not None
    # 4,000 events at a time take (1/4)^(1/4) of the time that 1,000 at a time do.
    assert chosen.batch_size == 4000
    assert [one.batch_size for one in report.reference.candidates] == [1000, 4000]
    assert chosen.events_per_second == pytest.approx(1e6 / 100 * 4**0.25, rel=0.01)
    strong = point(report, 4, "strong")
    # 100 us of the one against 20 + 80 / 4 of the four, but in smaller batches.
    expected = 100 / 40 / 4**0.25
    assert strong.speed_up is not None
    assert strong.speed_up.mean == pytest.approx(expected)
    assert strong.speed_up.half == pytest.approx(0, abs=1e-9)  # noise is that of the round
    assert strong.efficiency is not None
    assert strong.efficiency.mean == pytest.approx(expected / 4)
    weak = point(report, 4, "weak")
    assert weak.batch_size == 4000
    assert weak.efficiency is not None
    assert weak.efficiency.mean == pytest.approx(100 / 40 / 4)


def test_without_a_run_of_one_worker_there_is_no_efficiency(tmp_path: Path) -> None:
    plan, ledger = make_plan(tmp_path, workers=[1, 2]), make_ledger(tmp_path / "out")
    for run in plan.runs():
        if run.setup.workers == 2:
            play_run(run, ledger, World())
    assert scaling_report(plan, ledger).reference.chosen is None
    assert point(scaling_report(plan, ledger), 2, "strong").efficiency is None


def test_figures_of_a_point(tmp_path: Path) -> None:
    two = point(reported(tmp_path, World(), workers=[1, 2]), 2, "strong")
    means = {name: value.mean for name, value in two.figures.items() if value is not None}
    assert means["events_per_second"] == pytest.approx(1e6 / 60, rel=0.01)
    assert means["events_per_second_per_worker"] == pytest.approx(1e6 / 60 / 2, rel=0.01)
    # Two workers, each 1.1 times the 60 us, and 0 and 1% of noise.
    assert means["cpu_microseconds_per_event"] == pytest.approx(2 * 1.1 * 60 * 1.005)
    assert means["train_seconds"] == pytest.approx(3 * EVENTS * 60e-6 * 1.005)
    assert means["remote_bytes_per_step"] == 2 * 300_000
    assert means["local_bytes_per_step"] == 2 * 500_000
    assert means["gradient_bytes_per_step"] == 2 * 400_000
    assert means["peak_host_bytes"] == 400_000_001
    assert means["peak_host_bytes_of_all"] == 800_000_001
    assert two.figures["peak_device_bytes"] is None
    assert means["pull_seconds_per_step"] == pytest.approx((0.002 + 0.0007) / 2)
    # Of 60 ms a step, worker 0 computes for 30 and moves for 2.7; worker 1 computes for all.
    shares = [dict(share.seconds) for share in two.shares]
    assert shares[0]["other"] == pytest.approx(60e-3 * 1.005 / 2 - 0.0027)
    assert shares[1]["other"] == 0
    assert means["step_events_per_second"] == pytest.approx(1000 / 62.7e-3, rel=0.01)
    # Worker 1 computes twice what worker 0 does: 2 over 1.5.
    assert means["imbalance"] == pytest.approx(4 / 3)
    assert two.balance_by_range == pytest.approx([4 / 3] * 10)
    assert means["pending_events_max"] == 43
    assert means["prediction_ratio"] == pytest.approx(1.5)
    # 48 steps an epoch, 3 epochs, 2 seeds.
    assert two.staleness == {"0": 6, "1": 2 * 3 * 47}
    assert [share.rank for share in two.shares] == [0, 1]


def test_time_to_accuracy(tmp_path: Path) -> None:
    report = reported(tmp_path, World(), workers=[1], targets=[0.94, -0.01, 0.99])
    assert report.targets == {"0.94": 0.94, "best-0.01": pytest.approx(0.95), "0.99": 0.99}
    one = point(report, 1, "strong")
    epoch = EVENTS * 100e-6 * 1.005
    # Validation AP is 0.90, 0.94, 0.96 after one, two and three epochs.
    assert one.time_to["0.94"] is not None
    assert one.time_to["0.94"].mean == pytest.approx(2 * epoch)
    assert one.time_to["best-0.01"] is not None
    assert one.time_to["best-0.01"].mean == pytest.approx(3 * epoch)
    assert one.time_to["0.99"] is None
    assert one.reached == {"0.94": 2, "best-0.01": 2, "0.99": 0}


def test_repeats_make_speed_surer_and_not_accuracy(tmp_path: Path) -> None:
    world = World(noise=lambda run: 1 + 0.01 * run.repeat)
    one = point(reported(tmp_path, world, workers=[1], repeats=3), 1, "strong")
    assert one.figures["events_per_second"] is not None
    assert one.figures["events_per_second"].count == 6
    assert one.figures["test_ap"] is not None
    # 0.950 and 0.951, whatever the repeats: half is 12.7062 * 0.0005.
    assert one.figures["test_ap"].count == 2
    assert one.figures["test_ap"].half == pytest.approx(0.0063531, abs=1e-6)


def test_fits_find_what_was_planted(tmp_path: Path) -> None:
    report = reported(tmp_path, World(serial=15, parallel=85), workers=[1, 2, 4, 8])
    amdahl, communication = fit(report, "amdahl"), fit(report, "communication")
    assert amdahl.parameters["serial_share"] == pytest.approx(0.15)
    assert amdahl.largest_residual == pytest.approx(0, abs=1e-9)
    assert communication.parameters["latency_seconds"] == pytest.approx(0.002)
    assert communication.parameters["bytes_per_second"] == pytest.approx(1e9)
    assert amdahl.note is None
    assert communication.note is None


def test_a_fit_tells_how_far_off_it_is(tmp_path: Path) -> None:
    world = World(noise=lambda run: 1.1 if run.setup.workers == 4 else 1.0)
    amdahl = fit(reported(tmp_path, world, workers=[1, 2, 4], seeds=[0]), "amdahl")
    assert amdahl.largest_residual is not None
    assert 0.02 < amdahl.largest_residual < 0.1


@pytest.mark.parametrize("cores", [2, 64])
def test_no_fit_on_too_few_points(tmp_path: Path, cores: int) -> None:
    """Points with more threads than cores do not count."""
    workers = [1, 2, 4, 8] if cores == 2 else [1, 2]
    report = reported(tmp_path, World(cores=cores), workers=workers)
    for kind in ("amdahl", "communication"):
        found = fit(report, kind)
        assert found.parameters == {}
        assert found.note is not None
        assert found.note.startswith("no fit: 2 different")
    over = {point.workers for point in report.points if point.oversubscribed}
    assert over == ({4, 8} if cores == 2 else set())


def test_a_time_that_does_not_grow_with_bytes_has_no_bandwidth(tmp_path: Path) -> None:
    world = World(bandwidth=-1e9, latency=0.01)
    found = fit(reported(tmp_path, world, workers=[1, 2, 4, 8]), "communication")
    assert found.parameters == {}
    assert found.note == "the time does not grow with the bytes"


def test_gpus_do_not_stand_in(tmp_path: Path) -> None:
    report = reported(tmp_path, World(device="NVIDIA H100", cores=1), workers=[1, 2])
    two = point(report, 2, "strong")
    assert not two.stands_in
    assert not two.oversubscribed
    assert two.figures["peak_device_bytes"] is not None


def test_a_failed_run_is_told_and_the_others_count(tmp_path: Path) -> None:
    plan, ledger = make_plan(tmp_path, workers=[1, 2]), make_ledger(tmp_path / "out")
    for run in plan.runs():
        if (run.setup.workers, run.seed) == (2, 1):
            fail_run(run, ledger, "beginning\n\none\ntwo\nerror: <b>no memory</b>\n")
        else:
            play_run(run, ledger, World())
    write_scaling_reports(plan, ledger)
    report = ScalingReport.model_validate_json((tmp_path / "out" / "report.json").read_text())
    two = point(report, 2, "strong")
    assert (two.planned, two.done, two.failed) == (2, 1, 1)
    failed = [run for run in report.runs if run.state == "failed"]
    assert {run.error for run in failed} == {"one\ntwo\nerror: <b>no memory</b>"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "error: &lt;b&gt;no memory&lt;/b&gt;" in page
    assert "2 runs failed, 0 diverged, 0 have not been run" in page
    assert failed[0].label in page


def test_the_report_is_as_its_schema_says(tmp_path: Path) -> None:
    plan, ledger = make_plan(tmp_path, workers=[1, 2]), make_ledger(tmp_path / "out")
    play(plan, ledger, World())
    report = scaling_report(plan, ledger)
    write_scaling_reports(plan, ledger)
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    read = ScalingReport.model_validate(content)
    assert (read.points, read.runs, read.fits) == (report.points, report.runs, report.fits)
    assert content["format"] == "pres_dist.scaling/1"
    assert content["config"]["memory"]["dim"] == 100
    assert content["interconnect"]["backends"] == ["gloo"]
    assert content["interconnect"]["interfaces"] == ["GLOO_SOCKET_IFNAME=lo"]
    for change in ({"more": 1}, {"format": "other/1"}, {"points": [{}]}):
        with pytest.raises(ValidationError):
            ScalingReport.model_validate({**content, **change})


def test_the_documentation_has_every_figure_and_field() -> None:
    text = DOCS.read_text(encoding="utf-8")
    stages = {name for name in QUANTITIES if name.endswith("_seconds_per_step")}
    for name in (QUANTITIES.keys() - stages) | ScalingReport.model_fields.keys():
        assert f"`{name}`" in text
