"""Paths of a run, its stream and its output: from any folder, moved, and under `~`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import pres_dist
from pres_dist.cli.main import main
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.run import RunConfig
from pres_dist.errors import CheckpointError, ConfigError, DataError
from pres_dist.inference.extend import extend_run
from pres_dist.report.run_folder import read_config
from tests.support.small_run import habitual_stream, small_config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, a stream of a relative place, and a run of both."""
    folder = tmp_path_factory.mktemp("made")
    habitual_stream(600).save(folder / "data" / "mine")
    config = small_config(Path("data/mine"))(training__epochs=1)
    (folder / "small.yaml").write_text(dump_yaml(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "small.yaml", "--run-dir", "run"]) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; the tests are in another folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path


def test_a_run_of_a_relative_stream_is_used_from_anywhere(made: Path, folder: Path) -> None:
    assert read_config(made / "run").data.stream == str(made / "data" / "mine")
    for command in (["evaluate"], ["embed", "--out", "e.csv"], ["recommend", "--src", "1"]):
        name, *options = command
        assert main([name, str(made / "run"), *options]) == 0


def test_a_relative_place_is_that_beside_its_file_too(made: Path, folder: Path) -> None:
    config = load_config(made / "small.yaml")
    assert config.data.stream == str(made / "data" / "mine")
    (folder / "elsewhere" / "data").mkdir()
    habitual_stream(700).save(folder / "elsewhere" / "data" / "mine")
    assert load_config(made / "small.yaml").data.stream == "data/mine"
    (folder / "mine.yaml").write_text("data:\n  stream: ~/far\ntask:\n  pretrained: ~/links\n")
    config = load_config(folder / "mine.yaml")
    assert config.data.stream == str(folder / "far")
    assert config.task.pretrained == str(folder / "links")
    for given in (
        load_config(None, ["--data.stream", "~/far"]),
        RunConfig(data={"stream": "~/far"}),
    ):  # type: ignore[arg-type]
        assert given.data.stream == str(folder / "far")


def test_a_run_is_told_where_its_stream_is_now(
    made: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    was = made / "data" / "mine"
    moved = folder / "moved"
    was.rename(moved)
    pairs, later = folder / "pairs.csv", folder / "later.csv"
    pairs.write_text("src,dst\n1,41\n")
    later.write_text("src,dst,t,f0,f1,f2\n1,41,1800000000000,0,0,0\n")
    commands = {
        "evaluate": [],
        "resume": [],
        "embed": ["--out", "e.csv"],
        "score": [str(pairs)],
        "recommend": ["--src", "1"],
        "report": ["--out", "page.html"],
        "export": ["--out", "exported"],
        "extend": [str(later)],
    }
    try:
        for name, options in commands.items():
            assert main([name, str(folder / "run"), *options]) == 2, name
            error = capsys.readouterr().err
            assert f"{folder}/run: the stream that the run was trained on" in error, name
            assert f"must be at {was}, where no folder is; --data.stream DIR" in error, name
        for name, options in commands.items():
            stream = ["--data.stream", str(moved)]
            assert main([name, str(folder / "run"), *options, *stream]) == 0, name
        capsys.readouterr()
        other = folder / "other"
        habitual_stream(600, seed=1).save(other)
        with pytest.raises(CheckpointError, match="holds other events"):
            pres_dist.load_run(folder / "run", stream=other).evaluate()
        assert pres_dist.load_run(folder / "run", stream=moved).evaluate()["test"]
        # It was extended above: all events are in the run folder.
        assert main(["embed", str(folder / "run"), "--out", "e.csv"]) == 0
        with pytest.raises(ConfigError, match=r"--data\.stream has no effect"):
            pres_dist.load_run(folder / "run", stream=moved).embed()
    finally:
        moved.rename(was)


def test_python_extends_a_run_of_a_moved_stream(made: Path, folder: Path) -> None:
    shutil.copytree(made / "data" / "mine", folder / "moved")
    run = pres_dist.load_run("~/run", stream="~/moved")
    rows = {"src": [1], "dst": [41], "t": [1_800_000_000_000], "f0": [0], "f1": [0], "f2": [0]}
    run.extend(pd.DataFrame(rows))
    assert len(run.embed())
    with pytest.raises(ConfigError):
        extend_run(folder / "run", pd.DataFrame(rows), stream=folder / "moved")


def test_home_is_meant_by_every_path(made: Path, folder: Path) -> None:
    stream = habitual_stream(600).save("~/stored")
    assert stream.path == folder / "stored"
    assert pres_dist.EventStream.open("~/stored").num_events == 600
    assert pres_dist.EventStream.verify("~/stored").num_events == 600
    frame = pd.DataFrame({"src": [0, 1], "dst": [2, 3], "t": [0, 1]})
    pres_dist.EventStream.from_pandas(frame, out="~/framed")
    pres_dist.load_run("~/run").export("~/exported")
    assert main(["embed", f"{made}/run", "--out=~/nodes.csv"]) == 0
    assert (
        main(["train", f"{made}/small.yaml", "--data.stream=~/stored", "--run-dir=~/second"]) == 0
    )
    for name in ("framed", "exported", "nodes.csv", "second"):
        assert (folder / name).exists(), name
    assert list((folder / "elsewhere").iterdir()) == []


def test_the_error_says_where_was_looked(folder: Path) -> None:
    with pytest.raises(DataError, match=rf"got 'nowhere', and there is no folder {Path.cwd()}/now"):
        pres_dist.train(stream="nowhere", run_dir=folder / "new")
