"""Whole runs of APAN: what is learned, what a resumed run ends in, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.training.checkpoint import LATEST
from pres_dist.training.run import resume, train
from tests.support.small_run import MakeConfig, saved_state, train_until
from tests.support.states import assert_same, epochs_of

APAN: dict[str, Any] = {
    "model__updater": "attention",
    "model__mail_hops": 1,
    "model__embedding": "identity",
    "memory__mailbox_slots": 4,
}


def test_a_resumed_run_ends_in_the_same_bits(make_config: MakeConfig, tmp_path: Path) -> None:
    config: RunConfig = make_config(
        **APAN,
        training__checkpoint_every=3,
        memory__staleness=1,
        training__events_per_step=50,
        model__dropout=0.1,
    )
    train(config, tmp_path / "whole")
    train_until(config, tmp_path / "broken", step=8)
    resume(tmp_path / "broken")
    whole, resumed = (saved_state(tmp_path / run, LATEST) for run in ("whole", "broken"))
    assert (whole["store"]["rows"]["mail_event_UR"] >= 0).any(1).sum() > 40
    assert_same(whole, resumed)


def test_pres_learns_and_speaks_of_memory(make_config: MakeConfig, tmp_path: Path) -> None:
    """The gate moves, coherence is that of the memory, predictions are measured."""
    train(make_config(**APAN, training__epochs=4), tmp_path / "run")
    *epochs, last = epochs_of(tmp_path / "run")
    assert last["loss"] < epochs[0]["loss"]
    assert last["gate"] != pytest.approx(0.9, abs=1e-6)
    assert -1 < last["coherence"] < 1
    statistics = saved_state(tmp_path / "run", LATEST)["store"]["statistics"]
    assert (statistics["count"] > 0).any(0).all()  # of events and of negatives


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"memory__dim": 9}, "memory.dim must be a multiple of model.num_heads"),
        ({"pres__corrects": "lost"}, "pres.corrects must be update"),
        ({"model__updater": "gru"}, "mail_hops must be 0 unless updater is attention"),
    ],
)
def test_what_does_not_fit_is_refused(
    make_config: MakeConfig, overrides: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        make_config(**APAN | overrides)
    assert len(str(caught.value).splitlines()) == 1
