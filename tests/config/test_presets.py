"""Named settings, below all that is said by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from pres_dist.config.ineffective import idle_settings, ineffective
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.presets import PRESETS
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError


def test_the_best_is_the_default() -> None:
    assert load_config(None, []) == load_config(None, ["--preset", "best"]) == RunConfig()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_sets_all_that_another_may_have_set(name: str) -> None:
    over = load_config(None, ["--preset", name], base=load_config(None, ["--preset", "paper"]))
    plain = load_config(None, ["--preset", name])
    idle = idle_settings(plain)
    assert idle_settings(over) == idle
    for section in ("memory", "training", "pres"):
        for field, value in getattr(plain, section):
            assert f"{section}.{field}" in idle or getattr(getattr(over, section), field) == value


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_all_that_it_names(name: str) -> None:
    config = load_config(None, ["--preset", name])
    for section, fields in PRESETS[name].items():
        for field, value in fields.items():
            assert getattr(getattr(config, section), field) == value


def test_none_computes_nothing_of_pres() -> None:
    pres = load_config(None, ["--preset", "none"]).pres
    assert not pres.prediction
    assert pres.coherence_weight == 0


def test_what_is_set_by_hand_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("preset: paper\npres: {clock: log}\n")
    config = load_config(path, ["--pres.components", "1"])
    assert (config.pres.clock, config.pres.components) == ("log", 1)


def test_the_saved_configuration_loads_to_the_same(tmp_path: Path) -> None:
    config = load_config(None, ["--preset", "paper", "--pres.shrinkage", "0.3"])
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config))
    assert load_config(path) == config


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"preset must be best . paper . none, got 'bset'"):
        load_config(None, ["--preset", "bset"])


def test_it_is_not_warned_of_what_a_preset_sets() -> None:
    for name in PRESETS:
        assert ineffective(load_config(None, ["--preset", name])) == []


@pytest.mark.parametrize("model", [["--model.kind", "apan"], ["--model.updater", "attention"]])
def test_the_default_fits_mailboxes_that_roll(model: list[str]) -> None:
    config = load_config(None, model)
    assert (config.pres.corrects, config.pres.predictor) == ("update", "level")
    with pytest.raises(ConfigError, match=r"pres.corrects must be update"):
        load_config(None, [*model, "--pres.corrects", "lost"])


@pytest.mark.parametrize("model", [["--model.kind", "apan"], ["--model.updater", "attention"]])
def test_a_preset_fits_mailboxes_that_roll(model: list[str]) -> None:
    slots = ["--memory.mailbox_slots", "10"]
    best = load_config(None, ["--preset", "best", *model, *slots])
    assert best.memory.mailbox_slots == 10
    assert best.pres.corrects == "update"
    assert best.pres.predictor == PRESETS["best"]["pres"]["predictor"]
    paper = load_config(None, ["--preset", "paper", *model, *slots])
    assert paper.memory.mailbox_slots == 10
    with pytest.raises(ConfigError, match=r"pres.corrects must be update"):
        load_config(None, ["--preset", "best", *model, "--pres.corrects", "lost"])
