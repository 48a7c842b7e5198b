"""All kinds of negatives in one table, with and without a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pres_dist.cli.main import main
from pres_dist.config.load import dump_yaml
from pres_dist.config.run import RunConfig
from pres_dist.training.evaluate_run import evaluate_negatives, evaluate_run, stream_baselines
from pres_dist.training.run import train
from tests.support.small_run import MakeConfig, habitual_stream, small_config

KINDS = ["random", "historical", "inductive"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig]:
    folder = tmp_path_factory.mktemp("negatives")
    habitual_stream().save(folder / "habits")
    make: MakeConfig = small_config(folder / "habits")
    config = make(training__epochs=1)
    train(config, folder / "run")
    return folder / "run", config


def test_each_kind_is_what_it_is_alone(run: tuple[Path, RunConfig]) -> None:
    folder, config = run
    together = evaluate_negatives(folder, config.evaluation)
    assert json.loads((folder / "evaluation.json").read_text()) == together
    assert list(together) == KINDS
    for kind in ("random", "inductive"):
        alone = evaluate_run(folder, config.evaluation.model_copy(update={"negatives": kind}))
        assert alone["test"] == together[kind]["test"]
        assert alone["validation"] == together[kind]["validation"]


def test_baselines_are_the_same_with_a_model_and_without(run: tuple[Path, RunConfig]) -> None:
    folder, config = run
    results = json.loads((folder / "results.json").read_text())
    without = stream_baselines(config)
    assert list(without) == KINDS
    for part in ("validation", "test"):
        assert results[part]["baselines"] == without["random"][part]["baselines"]
        assert results[part]["negatives_found"] == without["random"][part]["negatives_found"]
    assert without["historical"]["test"]["baselines"] != without["random"]["test"]["baselines"]


def test_baselines_can_be_left_out(run: tuple[Path, RunConfig]) -> None:
    folder, config = run
    settings = config.evaluation.model_copy(update={"baselines": False})
    assert "baselines" not in evaluate_run(folder, settings)["test"]


def test_one_table_on_the_command_line(
    run: tuple[Path, RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, config = run
    assert main(["evaluate", str(folder), "--all-negatives"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("model ") for line in lines) == 2
    assert any("historical negatives: warning: test " in line for line in lines)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert main(["baselines", str(tmp_path / "config.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (header,) = (line for line in lines if line.startswith("test, among negatives:"))
    assert [header.count(kind) for kind in KINDS] == [3, 3, 3]
    assert sum(line.startswith("EdgeBank ") for line in lines) == 2
    assert main(["baselines", str(tmp_path / "config.yaml"), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == KINDS
