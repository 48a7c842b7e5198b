"""`pres-dist plan` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pres_dist.cli.main import main
from pres_dist.config.dump import dump_yaml
from pres_dist.config.load import load_config
from pres_dist.events.stream import EventStream
from pres_dist.parallel.grid import training_grid
from tests.planner.made_up import machine

SIZE = ["--nodes", "1e5", "--events", "2e6"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --nodes and --events, or --stream"),
        (["--nodes", "1e5"], "needs --nodes and --events, or --stream"),
        ([*SIZE, "--workers", "0"], "--workers must be an integer >= 1, got 0"),
        ([*SIZE, "--workers", "1.5"], "--workers must be an integer >= 1, got '1.5'"),
        (["--nodes", "many", "--events", "1e6"], "--nodes must be an integer >= 0, got 'many'"),
        ([*SIZE, "--sources", "1e5"], "--sources must be below --nodes (100,000)"),
        ([*SIZE, "--machine", "cray"], "must be a YAML file or one of"),
        ([*SIZE, "--spread", "adjacency,moon"], "got 'moon'"),
        ([*SIZE, "--efficiency", "2"], "--efficiency must be a number"),
        ([*SIZE, "--json", "nowhere/plan.json"], "nowhere/plan.json: the folder to write to"),
        ([*SIZE, "--json", "."], "must be a file to write, got a folder"),
        (["--nodes", "1e30", "--events", "1e40"], "--nodes must be at most 1e15, got '1e30'"),
        ([*SIZE, "--price-per-hour", "-1"], "--price-per-hour must be a number >= 0, got '-1'"),
        ([*SIZE, "--stream", "nowhere"], "nowhere"),
        ([*SIZE, "--workerz", "3"], "unknown option --workerz"),
        ([*SIZE, "--preset", "none", "--model.kind", "tgat"], "is for models with a memory"),
        ([*SIZE, "--model.kind", "apan"], "does not cover mailboxes that roll"),
        ([*SIZE, "--memory.store", "server"], "covers memory.store auto, local and sharded"),
        (["--calibrate", "nowhere/out.yaml"], "nowhere/out.yaml: the folder to write to"),
        (["missing.yaml", *SIZE], "missing.yaml: no such configuration file"),
    ],
)
def test_a_mistake_is_one_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err


def test_a_plan_is_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    arguments = [*SIZE, "--workers", "8", "--preset", "best", "--simulate", "--json", str(file)]
    assert main(["plan", *arguments]) == 0
    shown = capsys.readouterr().out
    for text in ("slices x epochs x replicas", "temporal adjacency", "events a second", "Daly"):
        assert text in shown
    told = json.loads(file.read_text(encoding="utf-8"))
    plan = told["plan"]
    assert plan["slices"] * plan["epochs"] * plan["replicas"] == 8
    assert plan["batch"] <= 3200
    assert plan["epoch_seconds"] == pytest.approx(0.7 * 2e6 / plan["events_per_second"])
    seconds = plan["seconds"]
    assert plan["step_seconds"] == pytest.approx(
        sum(seconds[name] for name in ("compute", "exchange", "reduce", "wait"))
    )
    assert len(told["disturbed"]) == 14


def test_a_price_tells_what_epochs_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    arguments = [*SIZE, "--workers", "4", "--machine", "two-cores", "--training.epochs", "10"]
    assert main(["plan", *arguments, "--json", str(file)]) == 0
    assert "cost" not in capsys.readouterr().out.replace("costs less accuracy", "")
    assert json.loads(file.read_text())["plan"]["epoch_price"] is None
    assert main(["plan", *arguments, "--price-per-hour", "36", "--json", str(file)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    plan = json.loads(file.read_text())["plan"]
    assert plan["epoch_price"] == pytest.approx(2 * 36 * plan["epoch_seconds"] / 3600)
    assert "2 nodes of 2 workers at 36 an hour" in shown
    assert f"all 10 epochs cost {10 * plan['epoch_price']:,.2f}, without" in shown


def test_the_options_that_it_names_are_those_of_its_plan(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", *SIZE, "--workers", "4", "--largest-replicas", "2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    words = shown.split("run it with ")[1].split()[:8]
    config = load_config(None, words)
    grid = training_grid(config.parallel, rank=3, size=4)
    assert f"plan: {grid.slices} x {grid.epochs} x {grid.replicas}" in shown
    assert f"batch {config.training.batch_size:,} (slices" in shown


def test_what_does_not_fit_is_an_answer_with_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--nodes", "1e9", "--events", "1e11", "--workers", "1024"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "no plan" in shown
    assert "must be below 2^63" in shown
    assert "temporal adjacency, whole" in shown


def test_a_stream_tells_its_sizes_and_what_its_batches_touch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draws = np.random.default_rng(0)
    ends = draws.integers(0, 60, (2, 3000))
    stream = EventStream.from_arrays(ends[0], 60 + ends[1], np.arange(3000), name="small")
    stream.save(tmp_path / "stream")
    file = tmp_path / "plan.json"
    arguments = ["--stream", str(tmp_path / "stream"), "--workers", "2", "--json", str(file)]
    arguments += ["--largest-batch", "3200"]
    assert main(["plan", *arguments]) == 0
    assert "counted on slices of 1 to 1,050 events of small" in " ".join(
        capsys.readouterr().out.split()
    )
    told = json.loads(file.read_text(encoding="utf-8"))
    assert (told["nodes"], told["events"]) == (120, 3000)
    assert told["plan"]["touched"]["pulled"] <= 120


def test_rates_of_another_model_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(dump_yaml(machine(calibrated_for={"memory.dim": "32"})), encoding="utf-8")
    assert main(["plan", *SIZE, "--workers", "2", "--machine", str(file)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "compute rates are of another model" in shown
    assert "memory.dim 32 (now 100)" in shown
