"""`training.batch_size: auto`: which batch is chosen, on what, and what the run says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.config.ineffective import ineffective
from pres_dist.errors import ConfigError, NonFiniteError
from pres_dist.events.discontinuity import Discontinuity
from pres_dist.events.stream import EventStream
from pres_dist.report.html import report_content
from pres_dist.report.metrics_log import read_metrics
from pres_dist.report.progress import Progress
from pres_dist.report.run_folder import read_config
from pres_dist.run_files import CALIBRATION, METRICS
from pres_dist.training import calibration
from pres_dist.training.calibration import largest_passing
from pres_dist.training.run import resume, train
from pres_dist.training.trainer import Trainer
from tests.support.small_run import MakeConfig, labelled_stream, small_config

AUTO = {
    "training__batch_size": "auto",
    "calibration__base_batch": 10,
    "calibration__largest_batch": 40,
    "calibration__epochs": 1,
}


class Listener(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Planted:
    """Metrics by batch size, in place of those that training would measure."""

    def __init__(self, metrics: dict[int, float | None]) -> None:
        self.metrics, self.trained = metrics, list[int]()

    def __call__(self, trials: Any, batch_size: int, seed: int) -> float | None:
        self.trained.append(batch_size)
        trials.metric = "ap"
        return self.metrics[batch_size]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.data())
def test_the_largest_that_passes_is_found(shares: list[float], data: st.DataObject) -> None:
    profile = [Discontinuity(2**row, share, 1.0, 1) for row, share in enumerate(sorted(shares))]
    last = data.draw(st.integers(0, len(profile) - 1))
    asked = []

    def passes(row: Discontinuity) -> bool:
        asked.append(row)
        return row in profile[: last + 1]

    assert largest_passing(profile, passes) is profile[last]
    assert len({row.batch_size for row in asked}) == len(asked)
    assert profile[0] not in asked


def test_a_profile_with_even_steps_is_halved() -> None:
    profile = [Discontinuity(2**row, row / 64, 1.0, 1) for row in range(64)]
    asked = []

    def passes(row: Discontinuity) -> bool:
        asked.append(row)
        return row.batch_size <= 2**40

    assert largest_passing(profile, passes).batch_size == 2**40
    assert len(asked) <= 7


@pytest.mark.parametrize(
    ("metrics", "chosen", "trained"),
    [
        ({10: 0.9, 20: 0.899, 40: 0.898}, 40, {10, 20, 40}),
        ({10: 0.9, 20: 0.899, 40: 0.89}, 20, {10, 20, 40}),
        ({10: 0.9, 20: 0.8, 40: 0.9}, 10, {10, 20}),
        ({10: 0.9, 20: 0.91, 40: None}, 20, {10, 20, 40}),
    ],
)
def test_the_choice_and_its_reasons(
    make_config: MakeConfig,
    tmp_path: Path,
    metrics: dict[int, float | None],
    chosen: int,
    trained: set[int],
) -> None:
    planted, listener = Planted(metrics), Listener()
    with mock.patch.object(calibration._Trials, "_train", lambda *given: planted(*given)):
        train(make_config(**AUTO), tmp_path / "run", listener)
    assert read_config(tmp_path / "run").training.batch_size == chosen
    assert set(planted.trained) == trained
    told = [note for note in listener.notes if "auto is" in note]
    assert len(told) == 1
    assert f"auto is {chosen}:" in told[0]
    record = json.loads((tmp_path / "run" / CALIBRATION).read_text())
    assert record["batch_size"] == chosen
    assert {t["pending"]["batch_size"]: t["metric"] for t in record["trials"]} == {
        size: metrics[size] for size in trained
    }


def test_a_calibrated_run_is_the_run_with_that_number(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """Trials leave nothing behind that the run could see: neither weights nor memory nor draws."""
    auto = train(make_config(**AUTO), tmp_path / "auto")
    chosen = read_config(tmp_path / "auto").training.events_per_batch
    by_hand = train(make_config(training__batch_size=chosen), tmp_path / "by hand")
    assert auto["test"] == by_hand["test"]
    assert resume(tmp_path / "auto")["test"] == by_hand["test"]


def test_trials_see_training_events_only(make_config: MakeConfig, tmp_path: Path) -> None:
    seen = []
    fit = Trainer.fit

    def noted(trainer: Trainer) -> None:
        seen.append(trainer.parts.data.stream.num_events)
        fit(trainer)

    with mock.patch.object(Trainer, "fit", noted):
        train(make_config(**AUTO), tmp_path / "run")
    *trials, run = seen
    assert trials
    assert set(trials) == {int(run * 0.7)}


def test_seeds_are_averaged(make_config: MakeConfig, tmp_path: Path) -> None:
    metrics = [0.90, 0.80, *[0.86, 0.84], *[0.9, 0.7]]
    with mock.patch.object(calibration._Trials, "_train", side_effect=metrics):
        train(make_config(**AUTO, calibration__seeds=2), tmp_path / "run")
    assert read_config(tmp_path / "run").training.batch_size == 20


def test_a_base_batch_that_diverges_is_an_error(make_config: MakeConfig, tmp_path: Path) -> None:
    with (
        mock.patch.object(calibration._Trials, "_train", return_value=None),
        pytest.raises(NonFiniteError, match="diverges at the base batch of 10 already"),
    ):
        train(make_config(**AUTO), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibration__base_batch": 1000}, "auto needs 8 batches of calibration.base_batch"),
        ({"calibration__largest_batch": 5}, "calibration.largest_batch = 5"),
        ({"data__validation_share": 0}, "must be a number where data.validation_share is 0"),
    ],
)
def test_what_cannot_be_calibrated(
    make_config: MakeConfig, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(make_config(**{**AUTO, **settings}), tmp_path / "run")


def test_a_metric_that_is_undefined_chooses_no_batch_size(tmp_path: Path) -> None:
    """The run's own validation split has labels of both kinds, that of the trials has none."""
    stream = labelled_stream(800)
    labels = np.where(np.arange(800) % 560 < 380, stream.src % 2, -1)
    replace(stream, labels=labels).save(tmp_path / "labelled")
    task = {"task__kind": "node_classification", "task__missing_label": -1}
    with pytest.raises(ConfigError, match="have too few labels for an auc"):
        train(small_config(tmp_path / "labelled")(**AUTO, **task), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused_before_the_calibration(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with (
        mock.patch.object(calibration, "_Trials", side_effect=AssertionError),
        pytest.raises(ConfigError, match="must be new or empty"),
    ):
        train(make_config(**AUTO), tmp_path)


def test_only_numbers_and_auto(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError) as raised:
        make_config(training__batch_size="big")
    assert str(raised.value).count("\n") == 0
    assert "training.batch_size must be an integer >= 1 | auto, got 'big'" in str(raised.value)


def test_calibration_without_auto_is_told(make_config: MakeConfig) -> None:
    (line,) = ineffective(make_config(calibration__epochs=2))
    assert line == "calibration.epochs = 2 has no effect: training.batch_size is not auto"
    assert not ineffective(make_config(**AUTO))


def test_sizes_that_equal_times_make_the_same_are_tried_once(tmp_path: Path) -> None:
    """Ties of 20 events: batches of 10 and of 20 are the same, and those of 40 are others."""
    ends = np.random.default_rng(0).integers(0, 12, (2, 1_200))
    EventStream.from_arrays(*ends, np.repeat(np.arange(60), 20)).save(tmp_path / "ties")
    config = small_config(tmp_path / "ties")
    planted, listener = Planted({10: 0.9, 40: 0.9}), Listener()
    with mock.patch.object(calibration._Trials, "_train", lambda *given: planted(*given)):
        train(config(**AUTO), tmp_path / "run", listener)
    assert set(planted.trained) == {10, 40}
    (told,) = [note for note in listener.notes if "batch 10 " in note]
    assert "batches of up to 20" in told
    EventStream.from_arrays(*ends, np.repeat(np.arange(10), 120)).save(tmp_path / "quarters")
    with pytest.raises(ConfigError, match="equal time stay together, up to 120 of them"):
        train(small_config(tmp_path / "quarters")(**AUTO), tmp_path / "none", listener)


def test_a_run_whose_ties_make_larger_batches_says_so(tmp_path: Path) -> None:
    ends = np.random.default_rng(0).integers(0, 12, (2, 600))
    EventStream.from_arrays(*ends, np.repeat(np.arange(20), 30)).save(tmp_path / "ties")
    listener = Listener()
    train(small_config(tmp_path / "ties")(training__batch_size=10), tmp_path / "run", listener)
    told = [note for note in listener.notes if "equal time" in note]
    assert told == [
        "temporal batches have up to 30 events, more than training.batch_size 10: events of "
        "equal time stay together"
    ]
    records = read_metrics(tmp_path / "run" / METRICS)
    assert {one["largest_batch"] for one in records if one["kind"] == "epoch"} == {30}
    facts = dict(report_content(tmp_path / "run")["facts"])
    assert facts["largest batch, of events of equal time"] == "30"
