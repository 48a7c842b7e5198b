"""Runs in processes of their own: failures, interrupts, resuming, sharing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pres_dist.bench.sweep_runs import choose, first_runs, run_sweep
from pres_dist.bench.sweep_spec import Cell, SweepRun
from tests.bench.fake_sweep import SWEEP, Told, fake_program, make_ledger, make_runner, small_sweep


def test_a_sweep_goes_on_after_failures_and_is_taken_up_again(tmp_path: Path) -> None:
    sweep, ledger, told = small_sweep(tmp_path), make_ledger(tmp_path), Told()
    only = {"stream": ["a"], "seed": ["0"]}
    program = fake_program(tmp_path, '{"b1600-none": 2, "b1600-full": 3}')
    run_sweep(sweep, ledger, make_runner(ledger, program, told), only)
    states = {task.label: ledger.state(task) for task in first_runs(sweep, only)}
    assert states["a-b1600-none-s0"] == "failed"
    assert states["a-b1600-full-s0"] == "diverged"
    assert list(states.values()).count("done") == 4

    told.clear()
    program = fake_program(tmp_path)
    run_sweep(sweep, ledger, make_runner(ledger, program, told), only)
    assert told == [("a-b1600-none-s0", "started"), ("a-b1600-none-s0", "done")]


@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl"])
def test_a_finished_run_that_cannot_be_read_is_run_again(tmp_path: Path, name: str) -> None:
    sweep, ledger, told = small_sweep(tmp_path), make_ledger(tmp_path), Told()
    only = {"stream": ["a"], "seed": ["0"]}
    program = fake_program(tmp_path)
    run_sweep(sweep, ledger, make_runner(ledger, program, told), only)
    task = sweep.run(Cell("a", 100, "none"), 0, ())
    (ledger.run_dir(task) / name).write_text("damaged\n")
    told.clear()
    ledger = make_ledger(tmp_path)
    assert ledger.state(task) == "failed"
    run_sweep(sweep, ledger, make_runner(ledger, program, told), only)
    assert told == [("a-b100-none-s0", "started"), ("a-b100-none-s0", "done")]


def test_an_interrupt_ends_the_children_and_the_run_goes_on_later(tmp_path: Path) -> None:
    sweep, ledger = small_sweep(tmp_path), make_ledger(tmp_path)
    task = sweep.run(Cell("a", 100, "none"), 0, ())
    other = sweep.run(Cell("a", 400, "none"), 0, ())

    def interrupt(_: SweepRun, event: str) -> None:
        if event == "done":
            raise KeyboardInterrupt

    program = fake_program(tmp_path, '{"b100-": "hangs", "b400-": "waits"}')
    with pytest.raises(KeyboardInterrupt):
        make_runner(ledger, program, interrupt).run([task, other])
    pid = int((ledger.run_dir(task) / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert ledger.state(task) == "begun"

    told = Told()
    program = fake_program(tmp_path)
    make_runner(ledger, program, told).run([task, other])
    assert told == [("a-b100-none-s0", "resumed"), ("a-b100-none-s0", "done")]
    assert (ledger.run_dir(task) / "commands").read_text().split() == ["train", "resume"]
    assert not (ledger.run_dir(task) / "checkpoints").exists()
    record = ledger.record(task)
    assert record is not None
    assert record["attempts"] == 2
    assert record["cpu_seconds"] > 0


def test_what_two_methods_have_in_common_is_run_once(tmp_path: Path) -> None:
    text = SWEEP.replace("full: {}", "same: {like: none}")
    sweep, ledger, told = small_sweep(tmp_path, text), make_ledger(tmp_path), Told()
    program = fake_program(tmp_path)
    run_sweep(sweep, ledger, make_runner(ledger, program, told), {"stream": ["a"], "seed": ["0"]})
    assert len(told) == 2 * 3
    same = sweep.run(Cell("a", 100, "same"), 0, ())
    assert ledger.state(same) == "done"
    assert ledger.run_dir(same).name.startswith("a-b100-none-s0")


def test_a_run_that_another_process_is_at_is_left_alone(tmp_path: Path) -> None:
    sweep, ledger, told = small_sweep(tmp_path), make_ledger(tmp_path), Told()
    task = sweep.run(Cell("a", 100, "none"), 0, ())
    with ledger.claimed(task) as lock:
        assert lock is not None
        make_runner(ledger, fake_program(tmp_path), told).run([task])
    assert told == [("a-b100-none-s0", "busy in another process")]
    assert ledger.state(task) == "new"


def test_a_run_of_another_default_does_not_count_and_stays(tmp_path: Path) -> None:
    """The digest knows only what differs from a default, which a later version may change."""
    sweep, ledger, told = small_sweep(tmp_path), make_ledger(tmp_path), Told()
    task = sweep.run(Cell("a", 100, "none"), 0, ())
    make_runner(ledger, fake_program(tmp_path), told).run([task])
    (path,) = (tmp_path / "out" / "tasks").glob("*.yaml")
    path.write_text(path.read_text().replace("num_layers: 1", "num_layers: 2"))
    again = make_ledger(tmp_path)
    assert again.state(task) == "new"
    make_runner(again, fake_program(tmp_path), told).run([task])
    assert again.state(task) == "done"
    assert again.run_dir(task).name == f"{task.key}-2"
    assert (ledger.folder / "runs" / task.key).exists()


@pytest.mark.parametrize(("per", "chosen"), [("cell", [1, 2]), ("method", [2, 2])])
def test_tuning_takes_the_best_by_validation_of_the_first_seed(
    tmp_path: Path, per: str, chosen: list[int]
) -> None:
    text = SWEEP.replace(
        "seeds:", f"tuning: {{grid: {{training.epochs: [1, 2]}}, per: {per}}}\nseeds:"
    )
    sweep, ledger, told = small_sweep(tmp_path, text), make_ledger(tmp_path), Told()
    only = {"method": ["none"]}
    runner = make_runner(ledger, fake_program(tmp_path), told)
    cells = [Cell("a", 100, "none"), Cell("a", 400, "none")]
    assert [choose(sweep, ledger)[cell] for cell in cells] == [None, None]
    runner.run(first_runs(sweep, only))
    aps = {(100, 1): 0.90, (100, 2): 0.89, (400, 1): 0.80, (400, 2): 0.85}
    for (batch, epochs), ap in aps.items():
        task = sweep.run(Cell("a", batch, "none"), 0, (("training.epochs", epochs),))
        path = ledger.run_dir(task) / "results.json"
        path.write_text(json.dumps({"validation": {"ap": ap}, "best_epoch": 1}))
    choices = choose(sweep, make_ledger(tmp_path))
    assert [dict(choices[cell] or ())["training.epochs"] for cell in cells] == chosen
    assert choices[Cell("a", 100, "full")] is None
