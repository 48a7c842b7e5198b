"""A run, its stream, its checkpoints and its versions: whatever is of another is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pres_dist
from pres_dist.cli.main import main
from pres_dist.config.load import dump_yaml
from pres_dist.errors import CheckpointError
from pres_dist.events.stream import EventStream
from pres_dist.inference.journal import Journal, JournalError, events_record
from pres_dist.inference.run import Run
from pres_dist.inference.serve.fold import fold, journal_header
from pres_dist.inference.serve.service import ScoringService
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_record import read_record
from pres_dist.run_files import CONFIG
from pres_dist.training.run import start_or_resume, train
from tests.support.small_run import habitual_stream, labelled_stream, small_config, train_until

Change = Callable[[EventStream], EventStream]


def without_a_word(stream: EventStream, column: str) -> EventStream:
    """The same number of events and nodes, the same times, and other values of one column."""
    values = np.array(getattr(stream, column))
    values[[3, 4]] = values[[4, 3]]
    return replace(stream, **{column: values})  # type: ignore[arg-type]


SETTINGS = {"training__epochs": 1, "model__decoder": "embeddings"}
CHANGES: dict[str, Change] = {
    "dst": lambda stream: without_a_word(stream, "dst"),
    "edge features": lambda stream: without_a_word(stream, "edge_features"),
    "number of sources": lambda stream: replace(stream, num_sources=None),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stream and a run of it."""
    folder = tmp_path_factory.mktemp("together")
    habitual_stream(600).save(folder / "habits")
    train(small_config(folder / "habits")(**SETTINGS), folder / "run")
    return folder


@pytest.fixture
def run_dir(shared: Path, tmp_path: Path) -> Path:
    """A run and its stream, both in a folder that the test may change."""
    shutil.copytree(shared / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def swapped(shared: Path) -> Callable[[Change], None]:
    """Puts another stream into the place of the run's; the run's is back after the test."""

    def swap(change: Change) -> None:
        change(habitual_stream(600)).save(shared / "habits", force=True)

    yield swap  # type: ignore[misc]
    habitual_stream(600).save(shared / "habits", force=True)


def commands(run: Path, folder: Path) -> dict[str, list[str]]:
    """Every command that reads a run's stream."""
    (folder / "pairs.csv").write_text("src,dst\n1,41\n")
    (folder / "later.csv").write_text("src,dst,t,f0,f1,f2\n1,41,1800000000000,0,0,0\n")
    return {
        "resume": [],
        "evaluate": [],
        "embed": ["--out", f"{folder}/e.csv"],
        "score": [f"{folder}/pairs.csv"],
        "recommend": ["--src", "1"],
        "report": [],
        "extend": [f"{folder}/later.csv"],
        "export": ["--out", f"{folder}/exported"],
        "serve": ["--port", "0"],
    }


def written(run: Path) -> list[Path]:
    """List the contents of a run folder except the lock of `extend`."""
    return sorted(path for path in run.rglob("*") if "extended" not in path.parts)


@pytest.mark.attack(
    "another stream of the same size and times under a run",
    before="nothing noticed; every command went on with other events",
    after="one error that names what differs; exit code 2",
)
@pytest.mark.parametrize("what", CHANGES)
def test_every_command_refuses_another_stream(
    run_dir: Path,
    swapped: Callable[[Change], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
) -> None:
    swapped(CHANGES[what])
    before = written(run_dir)
    for name, options in commands(run_dir, tmp_path).items():
        if what != "dst" and name not in ("resume", "evaluate", "embed"):
            continue  # they read the stream by the same function
        assert main([name, str(run_dir), *options]) == 2, name
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: "), name
        assert f"holds other events: different {what}" in line, name
    assert written(run_dir) == before
    assert not (tmp_path / "exported").exists()


def test_baselines_of_a_run_refuse_another_stream(
    run_dir: Path, swapped: Callable[[Change], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baselines", f"{run_dir}/config.yaml"]) == 0
    swapped(CHANGES["dst"])
    assert main(["baselines", f"{run_dir}/config.yaml"]) == 2
    assert "different dst" in capsys.readouterr().err


def test_a_journal_of_other_events_is_refused(run_dir: Path, tmp_path: Path) -> None:
    """Names, counts and times are equal; only content tells the streams apart."""
    stream = habitual_stream(600)
    other = CHANGES["edge features"](stream)
    (run_dir / "extended").mkdir()
    journal = Journal(run_dir / "extended" / "served.jsonl", journal_header(other))
    journal.append(events_record(1, [[1, 41, int(stream.t[-1]) + 5, [0, 0, 0], None]]))
    journal.close()
    for use in (fold, ScoringService):
        with pytest.raises(JournalError, match="identity"):
            use(run_dir)


def test_the_python_api_refuses_another_stream(
    run_dir: Path, swapped: Callable[[Change], None]
) -> None:
    run = Run(run_dir)
    swapped(CHANGES["dst"])
    for use in (run.evaluate, run.embed, lambda: run.recommend("1"), lambda: run.memory):
        with pytest.raises(CheckpointError, match="holds other events: different dst"):
            use()


def test_the_same_events_imported_again_are_taken(
    run_dir: Path, swapped: Callable[[Change], None]
) -> None:
    at = Run(run_dir).embed()
    swapped(lambda stream: replace(stream, name="another"))
    assert bool((Run(run_dir).embed().values == at.values).all())


def test_nodes_numbered_otherwise_are_another_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file imported without --bipartite: counts and times are equal, numbers are not."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "src": [f"u{number}" for number in rng.integers(0, 9, 300)],
            "dst": [f"i{number}" for number in rng.integers(0, 9, 300)],
            "t": np.arange(300),
        }
    )
    rows.to_csv(tmp_path / "base.csv", index=False)
    imported = ["data", "import", f"{tmp_path}/base.csv", "--out", f"{tmp_path}/s"]
    assert main([*imported, "--bipartite"]) == 0
    train(small_config(tmp_path / "s")(training__epochs=1), tmp_path / "run")
    assert main([*imported, "--force"]) == 0
    (tmp_path / "pairs.csv").write_text("src,dst\nu1,i1\n")
    capsys.readouterr()
    assert main(["score", f"{tmp_path}/run", f"{tmp_path}/pairs.csv"]) == 2
    assert "node ids" in capsys.readouterr().err
    assert main([*imported, "--force", "--bipartite"]) == 0
    assert main(["score", f"{tmp_path}/run", f"{tmp_path}/pairs.csv"]) == 0


def test_a_restart_before_the_first_checkpoint_refuses_another_stream(tmp_path: Path) -> None:
    habitual_stream(600).save(tmp_path / "habits")
    config = small_config(tmp_path / "habits")(training__epochs=1)
    train_until(config, tmp_path / "run", step=1)
    CHANGES["dst"](habitual_stream(600)).save(tmp_path / "habits", force=True)
    with pytest.raises(CheckpointError, match="different dst"):
        start_or_resume(config, tmp_path / "run")


@pytest.mark.attack(
    "checkpoints of another run copied into a run folder",
    before="evaluated under this run's name",
    after="one error that names both runs; exit code 2",
)
def test_checkpoints_of_another_run_are_refused(
    run_dir: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    train(small_config(shared / "habits")(**SETTINGS, training__seed=9), other)
    shutil.rmtree(run_dir / "checkpoints")
    shutil.copytree(other / "checkpoints", run_dir / "checkpoints")
    ids = read_record(run_dir).run, read_record(other).run
    capsys.readouterr()  # warnings of the training
    for name, options in commands(run_dir, tmp_path).items():
        assert main([name, str(run_dir), *options]) == 2, name
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"must be a checkpoint of this run (id {ids[0]}), got one of run {ids[1]}" in line


def test_an_extension_of_another_run_is_refused(
    run_dir: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = commands(run_dir, tmp_path)
    other = tmp_path / "other"
    train(small_config(shared / "habits")(**SETTINGS), other)
    assert main(["extend", str(other), *options["extend"]]) == 0
    shutil.copytree(other / "extended", run_dir / "extended")
    capsys.readouterr()
    assert main(["embed", str(run_dir), *options["embed"]]) == 2
    assert "must be an extension of this run" in capsys.readouterr().err
    assert main(["embed", str(other), *options["embed"]]) == 0
    version = next((other / "extended").glob("version-*"))
    stream = EventStream.open(version / "stream")
    stored = without_a_word(stream, "edge_features").save(tmp_path / "forged")
    shutil.rmtree(version / "stream")
    stored.path.rename(version / "stream")  # type: ignore[union-attr]
    assert main(["embed", str(other), *options["embed"]]) == 2
    assert "extended to, and holds other events: different edge features" in capsys.readouterr().err


def test_a_run_says_which_checkpoint_it_began_with(tmp_path: Path) -> None:
    """And refuses weights that were trained on other events, wherever these are."""
    labelled_stream(600).save(tmp_path / "labelled")
    make = small_config(tmp_path / "labelled")
    train(make(training__epochs=1), tmp_path / "links")
    labels = {"task__kind": "node_classification", "task__pretrained": tmp_path / "links"}
    (tmp_path / "labelled").rename(tmp_path / "moved")
    make = small_config(tmp_path / "moved")
    train(make(training__epochs=1, **labels), tmp_path / "run")
    parent = read_record(tmp_path / "run").parent
    assert parent is not None
    assert parent.run == read_record(tmp_path / "links").run
    assert (tmp_path / "links" / "checkpoints" / parent.checkpoint).is_dir()
    CHANGES["edge features"](labelled_stream(600)).save(tmp_path / "moved", force=True)
    with pytest.raises(CheckpointError, match=r"links \(task.pretrained\) .* different edge feat"):
        train(make(training__epochs=1, **labels), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.attack(
    "a changed, damaged or emptied config.yaml",
    before="3.3% of bit flips and an empty file gave another valid configuration, which was used",
    after="one error that names what differs; --restore-config puts the original back",
)
def test_config_yaml_must_be_what_the_run_began_with(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = (run_dir / CONFIG).read_bytes()
    text = dump_yaml(read_config(run_dir))
    told = {
        text.replace("dim: 8", "dim: 9", 1).encode(): "memory.dim was 8 and is 9 now",
        text.replace("seed: 0", "seed: 1", 1).encode(): "and is 1 now",
        b"": "it is empty",
        b"a: [": "it is no longer YAML",
        original[: original.index(b"\ntraining:") + 1]: "missing now",
        original.replace(b"\n", b" \n", 1): "it is written in another way",
        b"\xff" + original[1:]: "it is no longer YAML",
    }
    for content, words in told.items():
        assert content != original
        (run_dir / CONFIG).write_bytes(content)
        for command in ("evaluate", "resume", "recommend"):
            options = ["--src", "1"] if command == "recommend" else []
            assert main([command, str(run_dir), *options]) == 2
            error = capsys.readouterr().err
            assert words in error
            assert "--restore-config` puts the original back" in error
    (run_dir / CONFIG).unlink()
    assert main(["evaluate", str(run_dir)]) == 2
    assert "--restore-config` puts the original back" in capsys.readouterr().err
    assert main(["resume", str(run_dir), "--restore-config"]) == 0
    assert (run_dir / CONFIG).read_bytes() == original


def test_run_json_is_checked_too(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((run_dir / "run.json").read_bytes())
    for place in range(0, len(content), 97):
        content[place] ^= 1
        (run_dir / "run.json").write_bytes(content)
        content[place] ^= 1
        assert main(["evaluate", str(run_dir)]) == 2, place
        assert capsys.readouterr().err.startswith("error: "), place
    (run_dir / "run.json").unlink()
    assert main(["evaluate", str(run_dir)]) == 2
    assert "run.json: no such file" in capsys.readouterr().err


def test_a_run_may_be_moved_and_copied(run_dir: Path, tmp_path: Path) -> None:
    run_dir.rename(tmp_path / "moved")
    assert pres_dist.load_run(tmp_path / "moved").evaluate()
