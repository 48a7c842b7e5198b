"""From a sweep's file to its runs: mistakes, order, keys, equal optimizer steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from pres_dist.bench.sweep_file import load_sweep
from pres_dist.bench.sweep_runs import choose, first_runs, other_runs, parse_only
from pres_dist.bench.sweep_spec import Cell
from pres_dist.errors import ConfigError
from tests.bench.fake_sweep import SWEEP, make_ledger, small_sweep

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "bench").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_sweeps_load(path: Path) -> None:
    assert load_sweep(path).cells


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("baseline: none", "baseline: nothing", "baseline must be one of none, full"),
        ("[0, 1]", "[0, 0]", "seeds must name each value once"),
        ("[100, 400", "[0, 400", "sweep.yaml:5: batch_sizes.0 must be"),
        ("full: {}", "full: {pres: {clock: sundial}}", "sweep.yaml:8: pres.clock must be"),
        ("full: {}", "full: {training: {epoch: 3}}", "did you mean `epochs`"),
        ("full: {}", "full: {like: fool}", "like must be one of none, full, got 'fool'"),
        ("full: {}", "full: {like: full}", "methods.full.like leads back to full"),
        ("full: {}", "f-ull: {}", "takes letters, digits"),
        ("full: {}", "full: {equal_steps_to: x}", "sweep.yaml:8: equal_steps_to must be"),
        ("base: {", "base: {extends: nowhere.yaml, ", "nowhere.yaml: no such configuration"),
        ("seeds:", "tuning: {grid: {training.lr: [1]}}\nseeds:", "unknown key training.lr"),
        ("seeds:", "tuning: {grid: {training.epochs: []}}\nseeds:", "must list values to try"),
        ("name: small", "nam: small", "did you mean `name`"),
        ("baseline: none\n", "", "baseline is missing"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in SWEEP
    with pytest.raises(ConfigError) as caught:
        small_sweep(tmp_path, SWEEP.replace(old, new))
    assert problem in str(caught.value)
    lines = str(caught.value).splitlines()
    assert len(set(lines)) == len(lines)


def test_runs_go_seed_by_seed_and_cheap_ones_first(tmp_path: Path) -> None:
    sweep = small_sweep(tmp_path, SWEEP.replace("full: {}", "full: {training: {epochs: 4}}"))
    tasks = first_runs(sweep, {}) + other_runs(sweep, choose(sweep, make_ledger(tmp_path)), {})
    assert [task.seed for task in tasks] == [0] * 12 + [1] * 12
    assert len({task.digest for task in tasks}) == 24
    first = [(task.cell.method, task.cell.batch_size) for task in tasks[:12]]
    one_stream = [("none", 1600), ("none", 400), ("full", 1600), ("full", 400), ("none", 100)]
    assert first[::2] == [*one_stream, ("full", 100)]
    assert tasks[0].key.startswith("a-b1600-none-s0-")


def test_a_key_tells_what_is_computed_and_nothing_else(tmp_path: Path) -> None:
    text = SWEEP.replace(
        "full: {}", "same: {like: none}\n  other: {like: none, model: {dropout: 0.3}}"
    )
    sweep = small_sweep(tmp_path, text)
    none, same, other = (
        sweep.run(Cell("a", 100, method), 0, ()) for method in ("none", "same", "other")
    )
    # Without prediction there is no clock.
    assert none.digest == same.digest != other.digest
    assert none.identity == same.identity != other.identity
    assert none.label != same.label
    assert sweep.run(Cell("a", 100, "none"), 1, ()).digest != none.digest


@pytest.mark.parametrize(
    ("batch", "most", "epochs"), [(100, 1000, 2), (400, 1000, 8), (1600, 1000, 32), (1600, 9, 9)]
)
def test_epochs_grow_until_optimizer_steps_are_equal(
    tmp_path: Path, batch: int, most: int, epochs: int
) -> None:
    method = f"full: {{preset: none, equal_steps_to: 100, max_epochs: {most}}}"
    sweep = small_sweep(tmp_path, SWEEP.replace("full: {}", method))
    assert sweep.run(Cell("a", batch, "full"), 0, ()).config.training.epochs == epochs


def test_a_filter_takes_the_values_of_the_sweep(tmp_path: Path) -> None:
    sweep = small_sweep(tmp_path)
    only = parse_only(sweep, ["stream=a,method=none", "batch_size=100", "batch_size=400"])
    cells = {task.cell for task in first_runs(sweep, only)}
    assert cells == {Cell("a", 100, "none"), Cell("a", 400, "none")}
    assert first_runs(sweep, parse_only(sweep, ["seed=1"])) == []
    for text, problem in (("batch=1", "--only takes"), ("method=x", "method must be one of none")):
        with pytest.raises(ConfigError, match=problem):
            parse_only(sweep, [text])


def test_a_preset_is_laid_where_it_is_named(tmp_path: Path) -> None:
    text = SWEEP.replace("full: {}", "full: {preset: paper, pres: {shrinkage: 1.0}}")
    sweep = small_sweep(tmp_path, text.replace("base: {", "base: {pres: {clock: log}, "))
    none, full = (sweep.run(Cell("a", 100, name), 0, ()).config.pres for name in sweep.methods)
    assert (none.clock, none.components) == ("log", 1)
    assert (full.clock, full.components, full.shrinkage) == ("time", 2, 1.0)
