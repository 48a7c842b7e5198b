"""Going on to train after events were appended: causal, deterministic, and never at a loss."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from pres_dist.cli.main import main
from pres_dist.errors import CheckpointError, ConfigError, DataError
from pres_dist.evaluation.scoring import sweep_forwards
from pres_dist.events.stream import EventStream
from pres_dist.inference import train_on
from pres_dist.inference.extend import Extension, extend_run
from pres_dist.inference.live import LiveRun
from pres_dist.inference.new_events import EventColumns
from pres_dist.inference.run import Run
from pres_dist.inference.train_on import TrainOn
from pres_dist.parallel.world import World
from pres_dist.training.prefetch import StepInputs
from pres_dist.training.run import train
from pres_dist.training.step import TrainingStep
from tests.support.resealed import change_version
from tests.support.small_run import habitual_stream, labelled_stream, small_config
from tests.support.trained_runs import settings_of

OLD, NEW = 700, 300
HOW = TrainOn(epochs=2, replay=0.5, keep="always")


def frame(stream: EventStream, rows: slice) -> Any:
    import pandas as pd

    columns = {"src": stream.src[rows], "dst": stream.dst[rows], "t": stream.t[rows]}
    if stream.labels is not None:
        columns["label"] = stream.labels[rows]
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def stream() -> EventStream:
    stream = habitual_stream(OLD + NEW, features=0)
    stream.t[OLD:] += 1  # no cut between equal times
    return stream


@pytest.fixture(scope="module")
def new(stream: EventStream) -> Any:
    return frame(stream, slice(OLD, None))


def run_of(folder: Path, stream: EventStream, **settings: object) -> Path:
    stream.head(OLD).save(folder / "old")
    train(small_config(folder / "old")(**{"training.epochs": 1, **settings}), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, stream: EventStream) -> Path:
    return run_of(tmp_path_factory.mktemp("base"), stream)


@pytest.fixture
def run_dir(trained_once: Path, tmp_path: Path) -> Path:
    """A run of its own, as nothing has extended it."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))


def extended(run_dir: Path, new: Any, how: TrainOn | None = HOW) -> Extension:
    return extend_run(run_dir, new, training=how)


def weights_of(done: Extension) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(done.folder / "weights.pt")["model"]
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def hashes(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_outcome_is_the_same_each_time(run_dir: Path, tmp_path: Path, new: Any) -> None:
    other = Path(shutil.copytree(run_dir, tmp_path / "other"))
    kept = hashes(run_dir / "checkpoints")
    before = LiveRun(run_dir).state.weights
    one, two = extended(run_dir, new), extended(other, new)
    assert hashes(run_dir / "checkpoints") == kept
    assert same(weights_of(one), weights_of(two))
    assert not same(weights_of(one), dict(before))
    assert one.training is not None
    assert two.training is not None
    assert one.training.after == two.training.after
    assert torch.equal(Run(run_dir).embed().values, Run(other).embed().values)
    assert same(dict(LiveRun(run_dir).model.state_dict()), weights_of(one))
    # Training's own stream and split go on with the run's own weights.
    assert "extended" not in str(Run(run_dir).evaluate(baselines=False))


def test_the_scored_part_is_not_learned_from(run_dir: Path, tmp_path: Path, new: Any) -> None:
    """Other events after the trained ones leave the same weights; others among them do not."""
    copies = [Path(shutil.copytree(run_dir, tmp_path / name)) for name in ("late", "early")]
    done = extended(run_dir, new)
    assert done.training is not None
    cut = done.training.num_trained
    assert (cut, done.training.num_scored) == (239, 61)
    kept = weights_of(done)
    parts = ((slice(cut, None), True), (slice(0, 40), False))
    for copy, (rows, alike) in zip(copies, parts, strict=True):
        changed = new.copy()
        changed.loc[changed.index[rows], "dst"] = new["dst"].to_numpy()[rows][::-1]
        assert same(weights_of(extended(copy, changed)), kept) == alike


@pytest.mark.parametrize("replay", [0.5, 0.1])
def test_every_step_reads_the_past_alone(
    run_dir: Path, new: Any, monkeypatch: pytest.MonkeyPatch, replay: float
) -> None:
    """With the smaller share a batch is passed over, by which memory must be brought along."""
    steps: list[tuple[int, np.ndarray]] = []
    original = TrainingStep.run

    def watched(self: TrainingStep, inputs: StepInputs) -> Any:
        plan, pulled = inputs.plan, inputs.pulled
        events = np.concatenate([part.batch.events_B.numpy() for part in plan.parts])
        t = self.parts.data.stream.t
        assert int(pulled.state.last_update_U.max()) < t[events[0]]
        assert int(pulled.state.mail_event_UR.max()) < events[0]
        # All of the events before it, not some of them.
        everything = self.parts.store.state_dict()["rows"]
        assert int(everything["mail_event_UR"].max()) == events[0] - 1
        steps.append((inputs.index.epoch, events))
        return original(self, inputs)

    monkeypatch.setattr(TrainingStep, "run", watched)
    done = extended(run_dir, new, TrainOn(epochs=2, replay=replay, keep="always")).training
    assert done is not None
    train_end = LiveRun(run_dir).parts.data.unit_end
    by_epoch = [np.concatenate([e for epoch, e in steps if epoch == number]) for number in (1, 2)]
    for events in by_epoch:
        assert np.isin(np.arange(OLD, OLD + done.num_trained), events).all()
        assert events.min() >= train_end
        assert events.max() < OLD + done.num_trained
    replayed = sum(int((events < OLD).sum()) for events in by_epoch) / 2
    assert replayed > 0
    assert done.num_replayed == replayed


def test_before_is_what_the_run_as_it_is_scores(run_dir: Path, tmp_path: Path, new: Any) -> None:
    plain = Path(shutil.copytree(run_dir, tmp_path / "plain"))
    done = extended(run_dir, new).training
    assert done is not None
    extend_run(plain, new)
    live = LiveRun(plain)
    cut = OLD + done.num_trained
    live.move_to(cut)
    parts = live.parts
    config = parts.config.evaluation
    negatives = parts.evaluation_negatives(config)
    positive, negative = [], []

    def draw(batch: Any) -> torch.Tensor:
        return negatives.sample(batch.src_B, batch.dst_B, batch.events_B, config.num_negatives, 0)

    sweep = parts.evaluation_loader(range(cut, OLD + NEW), config.batch_size)
    for _, forwards in sweep_forwards(live.pipeline, sweep, draw, World()):
        positive += [forward.positive_B for forward in forwards]
        negative += [forward.negative_BM[:, 0] for forward in forwards]
    scores = torch.cat([*positive, *negative]).numpy()
    truth = np.repeat([1, 0], len(scores) // 2)
    assert done.before["ap"] == pytest.approx(average_precision_score(truth, scores), abs=1e-6)
    assert done.before["baselines"].keys() == done.after["baselines"].keys()
    assert done.before["baselines"] == done.after["baselines"]
    assert done.before["ap"] != done.after["ap"]


@pytest.mark.parametrize(("num", "expected"), [(240, 120), (250, 100), (95, 100), (30, 100)])
def test_no_step_is_over_a_handful_of_events(num: int, expected: int) -> None:
    """As a rest would be: it would move the weights as far as a whole batch does."""
    t = np.arange(500)
    size = train_on._batch_size(range(20, 20 + num), t, 100)
    assert size == expected


def test_the_smallest_share_scores_the_last_event() -> None:
    assert train_on._cut(np.array([3, 4, 5]), 1 - 1e-17) == 2


def test_without_replay_only_new_events_are_swept(run_dir: Path, new: Any) -> None:
    swept = []
    how = TrainOn(epochs=1, replay=0, keep="always")
    done = extend_run(run_dir, new, None, lambda *given: swept.append(given), how).training
    assert done is not None
    assert done.num_replayed == 0
    assert (done.num_trained, done.num_trained, done.num_trained) in swept


def test_worse_weights_are_not_taken(
    run_dir: Path, tmp_path: Path, new: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path(shutil.copytree(run_dir, tmp_path / "plain"))
    ap = iter([0.9, 0.8])
    monkeypatch.setattr(train_on, "_measured", lambda *_: {"ap": next(ap)})
    done = extended(run_dir, new, TrainOn())
    assert done.training is not None
    assert not done.training.kept
    assert not (done.folder / "weights.pt").exists()
    extend_run(plain, new)
    assert torch.equal(Run(run_dir).embed().values, Run(plain).embed().values)


def test_a_trained_extension_goes_on(run_dir: Path, stream: EventStream, new: Any) -> None:
    """Extended again, plainly and with training; and times go on from where weights end."""
    half = len(new) // 2
    first = extended(run_dir, new[:half])
    trained = weights_of(first)
    plainly = extend_run(run_dir, new[half : half + 50])
    assert same(trained, weights_of(plainly))
    run = Run(run_dir)
    latest = run.embed().values
    assert first.training is not None
    cut = OLD + first.training.num_trained
    with pytest.raises(DataError, match="at must be at least"):
        run.embed(at=int(stream.t[cut - 1]))
    run.embed(at=int(stream.t[cut + 10]))
    assert torch.equal(run.embed().values, latest)  # as if nothing had been asked before
    again = extended(run_dir, new[half + 50 :])
    assert not same(trained, weights_of(again))
    assert Run(run_dir).recommend(3, top=2)


def test_damage_is_found_and_other_checkpoints_win(run_dir: Path, new: Any) -> None:
    weights = dict(LiveRun(run_dir).state.weights)
    done = extended(run_dir, new)
    content = (done.folder / "weights.pt").read_bytes()
    (done.folder / "weights.pt").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"weights.pt: damaged"):
        Run(run_dir).embed()
    change_version(done.folder, parent_sha256="0" * 64)  # the run was resumed since
    assert same(dict(LiveRun(run_dir).model.state_dict()), weights)
    assert len(Run(run_dir).embed())


@pytest.mark.parametrize("kind", ["apan", "tgat", "history"])
def test_other_models(tmp_path: Path, stream: EventStream, new: Any, kind: str) -> None:
    run_dir = run_of(tmp_path, stream, **settings_of(kind))
    done = extended(run_dir, new, TrainOn(keep="always"))
    assert done.training is not None
    assert done.training.kept
    assert len(Run(run_dir).embed())


def test_on_the_command_line(
    run_dir: Path, tmp_path: Path, new: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    new.to_csv(tmp_path / "new.csv", index=False)
    command = ["extend", str(run_dir), str(tmp_path / "new.csv")]
    assert main([*command, "--train", "--replay", "0.3", "--keep", "always"]) == 0
    told = capsys.readouterr().out
    for text in ("trained on 239 new events", "before", "after", "EdgeBank", "the last 61 new"):
        assert text in told
    assert main([*command, "--train"]) == 2
    assert "time must be later than the last event" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "2"], "--epochs is for --train"),
        (["--train", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--train", "--replay", "1"], "--replay must be in [0, 1), got 1.0"),
        (["--train", "--test-share", "0"], "--test-share must be in (0, 1), got 0.0"),
    ],
)
def test_mistakes(
    run_dir: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extend", str(run_dir), "new.csv", *options]) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_trained_on(run_dir: Path, tmp_path: Path, new: Any) -> None:
    with pytest.raises(DataError, match="needs new events of two times"):
        extended(run_dir, new[:1])
    labelled = labelled_stream(OLD + 50)
    labelled.t[OLD:] += 1
    config = {"task.kind": "node_classification"}
    (tmp_path / "labelled").mkdir()
    other = run_of(tmp_path / "labelled", labelled, **config)
    later = frame(labelled, slice(OLD, None))
    for column in range(labelled.edge_dim):
        later[f"f{column}"] = 0.5
    features = [f"f{column}" for column in range(labelled.edge_dim)]
    with pytest.raises(ConfigError, match="this run is node_classification"):
        extend_run(other, later, EventColumns(features=features), training=HOW)
