"""NaN and infinity stop a run before they reach weights or memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pres_dist.cli.main import main
from pres_dist.config.load import dump_yaml
from pres_dist.errors import NonFiniteError
from pres_dist.evaluation.scoring import replay
from pres_dist.exit_codes import DIVERGED
from pres_dist.parallel.world import World
from pres_dist.training.setup import Parts, assemble, load_data
from tests.support.poison import KINDS, make_trainer, poisoned, run_step, stopped
from tests.support.small_run import MakeConfig


def _parts(make_config: MakeConfig, **overrides: object) -> Parts:
    config = make_config(**overrides)
    return assemble(config, load_data(config, torch.device("cpu")))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_stops_before_weights_and_memory_move(make_config: MakeConfig, kind: str) -> None:
    each = 25 if kind == "refreshed memory" else 0
    parts = _parts(make_config, training__events_per_step=each, pres__coherence_weight=0)
    trainer = make_trainer(parts)
    run_step(trainer, 0, 0)
    events_B = trainer.step.batch(1).events_B
    with poisoned(parts, kind):
        message, changed = stopped(parts, lambda: run_step(trainer, 1, 4))
    assert message.startswith("habits: epoch 1, step ")
    assert f"events {int(events_B[0])} to {int(events_B[-1])}: " in message
    # With several optimizer steps over a batch the earlier ones have been taken.
    weights = [name for name in changed if name.startswith("model/")]
    assert bool(weights) == (kind == "refreshed memory")
    assert changed == weights


def test_an_evaluation_stops(make_config: MakeConfig) -> None:
    parts = _parts(make_config)
    with poisoned(parts, "score"):
        message, changed = stopped(parts, make_trainer(parts)._validate)
    assert message.startswith("scores and memory must be finite, those of events 1050 to 1")
    assert changed == []


def test_a_replay_stops(make_config: MakeConfig) -> None:
    parts = _parts(make_config)
    with poisoned(parts, "memory"), pytest.raises(NonFiniteError, match="those of events 0 to"):
        replay(parts.evaluation_pipeline, parts.train_loader, World())
    assert not parts.store.state_dict()["rows"]["memory_UD"].any()


def test_a_run_that_diverges_ends_in_one_line(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump_yaml(make_config(training__learning_rate=1e30)))
    assert main(["train", str(config), "--run-dir", str(tmp_path / "run")]) == DIVERGED
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: habits: epoch 1, step ")
    assert not (tmp_path / "run" / "results.json").exists()
