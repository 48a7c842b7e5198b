"""`model.kind` chooses parts, and refuses those that make another model."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from pres_dist.config.ineffective import ineffective
from pres_dist.config.kinds import KINDS
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.model import ModelConfig
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError

PARTS = {
    "tgn": {"updater": "gru", "embedding": "attention", "num_layers": 1, "time_encoding": "fixed"},
    "jodie": {"updater": "rnn", "embedding": "time", "message_endpoint": "memory"},
    "dyrep": {"updater": "rnn", "embedding": "identity", "message_endpoint": "embedding"},
    "apan": {"updater": "attention", "embedding": "identity", "mail_hops": 1},
    "tgat": {"embedding": "attention", "num_layers": 2, "time_encoding": "learnable"},
}


def of_kind(kind: str, *overrides: str) -> RunConfig:
    return load_config(None, ["--model.kind", kind, *overrides])


def refused(kind: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        of_kind(kind, *overrides)
    return str(caught.value)


def test_every_kind_is_described() -> None:
    assert set(get_args(ModelConfig.model_fields["kind"].annotation)) == set(KINDS) == set(PARTS)


@pytest.mark.parametrize("kind", PARTS)
def test_a_kind_sets_its_parts(kind: str) -> None:
    model = of_kind(kind).model
    assert {name: getattr(model, name) for name in PARTS[kind]} == PARTS[kind]
    assert ModelConfig(kind=kind) == model  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PARTS)
def test_a_resolved_configuration_loads_back_equal(kind: str, tmp_path: Path) -> None:
    config = of_kind(kind, "--model.dropout", "0.1")
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config, with_help=True))
    assert load_config(path) == config
    for name, value in PARTS[kind].items():
        assert f"  {name}: {value}  #" in path.read_text()


@pytest.mark.parametrize("kind", PARTS)
def test_a_kind_with_its_own_parts_draws_no_warning(kind: str) -> None:
    assert ineffective(of_kind(kind)) == []


def test_parts_that_are_set_stay() -> None:
    model = of_kind("tgat", "--model.num_layers", "1", "--model.time_encoding", "fixed").model
    assert (model.num_layers, model.time_encoding) == (1, "fixed")
    assert of_kind("jodie", "--model.message", "mlp").model.message == "mlp"
    assert of_kind("tgn", "--model.embedding", "time").model.embedding == "time"


def test_a_configuration_from_before_there_were_kinds_is_a_tgn(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    lines = dump_yaml(load_config(None, ["--model.embedding", "sum"])).splitlines(keepends=True)
    path.write_text("".join(x for x in lines if "kind:" not in x and "message_endpoint" not in x))
    config = load_config(path)
    assert (config.model.kind, config.model.embedding) == ("tgn", "sum")
    assert config.pres == RunConfig().pres


@pytest.mark.parametrize(
    ("kind", "part", "value"),
    [
        ("jodie", "updater", "gru"),
        ("jodie", "embedding", "attention"),
        ("jodie", "message_endpoint", "embedding"),
        ("dyrep", "message_endpoint", "memory"),
        ("dyrep", "embedding", "attention"),
        ("tgat", "embedding", "sum"),
    ],
)
def test_parts_of_another_model_are_refused(kind: str, part: str, value: str) -> None:
    (line,) = refused(kind, f"--model.{part}", value).splitlines()
    assert f"kind {kind} must have" in line
    assert f"got {part} {value}; kind tgn takes any parts" in line


def test_an_unknown_kind_is_refused() -> None:
    expected = "model.kind must be tgn | jodie | dyrep | apan | tgat, got 'tgm'"
    assert expected in refused("tgm")


def test_embeddings_must_fit_into_mail() -> None:
    assert "model.embedding_dim must equal memory.dim (64)" in refused(
        "dyrep", "--memory.dim", "64"
    )
    both = ["--memory.dim", "64", "--model.embedding_dim", "64"]
    assert of_kind("dyrep", *both).memory.dim == 64
    assert of_kind("jodie", "--memory.dim", "64").memory.dim == 64


def test_without_memory_there_is_no_pres() -> None:
    pres = of_kind("tgat").pres
    assert (pres.prediction, pres.coherence_weight) == (False, 0)
    assert RunConfig(model=ModelConfig(kind="tgat")).pres == pres
    assert "which has no memory, got true and 0" in refused("tgat", "--pres.prediction", "true")
    assert "got false and 0.1" in refused("tgat", "--pres.coherence_weight", "0.1")
    assert "which has no memory" in refused("tgat", "--preset", "paper")
    assert of_kind("tgat", "--preset", "none").pres == pres


def test_settings_of_a_memory_that_is_not_there_are_named() -> None:
    overrides = [
        "--memory.store",
        "server",
        "--memory.mailbox_slots",
        "3",
        "--model.updater",
        "rnn",
    ]
    lines = ineffective(of_kind("tgat", *overrides, "--evaluation.memory", "replay"), sharers=1)
    names = ["model.updater", "memory.store", "memory.mailbox_slots", "evaluation.memory"]
    assert sorted(line.split(" = ")[0] for line in lines) == sorted(names)
    assert all(line.endswith("the model has no memory") for line in lines)


def test_dyrep_reads_neighbors_for_its_messages() -> None:
    overrides = ["--sampling.num_neighbors", "3", "--model.num_heads", "4"]
    assert ineffective(of_kind("dyrep", *overrides)) == []
    assert len(ineffective(of_kind("jodie", *overrides))) == 2
