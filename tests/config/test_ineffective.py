"""Settings without effect are named."""

from __future__ import annotations

import pytest

from pres_dist.config.ineffective import _RULES, ineffective
from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig


def test_defaults_say_nothing() -> None:
    assert ineffective(RunConfig()) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["--model.aggregator", "last", "--memory.mailbox_slots", "3"], ["memory.mailbox_slots"]),
        (["--model.aggregator", "mean", "--memory.mailbox_slots", "1"], ["model.aggregator"]),
        (["--model.aggregator", "mean"], []),
        (["--pres.prediction", "False", "--pres.clock", "time"], ["pres.clock"]),
        (
            [
                "--model.embedding",
                "time",
                "--model.num_heads",
                "4",
                "--sampling.strategy",
                "uniform",
            ],
            ["sampling.strategy", "model.num_heads"],
        ),
        (["--model.message_dim", "7"], ["model.message_dim"]),
        (["--parallel.handover", "cold"], ["parallel.handover"]),
        (["--parallel.handover", "cold", "--parallel.replicas", "2"], []),
        (["--memory.shards", "3"], ["memory.shards"]),
        (["--memory.shards", "3", "--memory.store", "server"], []),
        (["--model.message_dim", "7", "--model.message", "mlp"], []),
        (["--model.common_neighbors", "false"], []),
        (
            ["--model.common_neighbors", "false", "--model.decoder", "embeddings"],
            ["model.common_neighbors"],
        ),
        (
            [
                *("--model.common_neighbors", "false", "--model.decoder", "history"),
                *("--model.kind", "jodie"),
            ],
            ["model.common_neighbors"],
        ),
        (
            [
                *("--task.kind", "node_classification", "--model.decoder", "embeddings"),
            ],
            ["model.decoder"],
        ),
        (
            [
                *("--task.kind", "node_classification", "--model.decoder", "embeddings"),
                *("--task.pretrained", "a run"),
            ],
            [],
        ),
        (["--task.own_features", "true"], ["task.own_features"]),
        (
            ["--task.kind", "edge_classification", "--evaluation.num_negatives", "5"],
            ["evaluation.num_negatives"],
        ),
        (
            [
                "--task.kind",
                "node_classification",
                "--task.link_weight",
                "0",
                "--sampling.num_negatives",
                "3",
            ],
            ["sampling.num_negatives"],
        ),
        (
            [*("--model.updater", "attention"), *("--model.message", "mlp")],
            ["model.message"],
        ),
        (
            [
                *("--model.updater", "attention", "--model.embedding", "identity"),
                *("--model.mail_hops", "1", "--sampling.num_neighbors", "3"),
                *("--memory.mailbox_slots", "9", "--model.num_heads", "4"),
            ],
            [],
        ),
    ],
)
def test_a_setting_without_effect_is_named(overrides: list[str], expected: list[str]) -> None:
    lines = ineffective(load_config(None, overrides))
    assert [line.split(" = ")[0] for line in lines] == expected
    assert all("has no effect: " in line for line in lines)


def test_every_rule_names_a_setting() -> None:
    for name, _, _ in _RULES:
        section, field = name.split(".")
        assert field in type(getattr(RunConfig(), section)).model_fields


def test_a_timeout_needs_somebody_to_wait_for() -> None:
    config = load_config(None, ["--parallel.timeout_s", "7"])
    assert ineffective(config, sharers=2) == []
    (line,) = ineffective(config, sharers=1)
    assert line.startswith("parallel.timeout_s = 7.0 has no effect")
    served = load_config(None, ["--parallel.timeout_s", "7", "--memory.store", "server"])
    assert ineffective(served, 1) == []
