from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pres_dist.cli.main import main


@pytest.fixture
def events(tmp_path):
    file = tmp_path / "events.csv"
    file.write_text(
        "src,dst,t,extra\n" + "".join(f"{i % 3},{3 + i % 5},{i},x\n" for i in range(50))
    )
    return file


def test_import_describe_verify(events, tmp_path, capsys):
    out = str(tmp_path / "s")
    assert main(["data", "import", str(events), "--out", out, "--name", "toy"]) == 0
    shown = capsys.readouterr().out
    assert "note: every src is below every dst: bipartite, 3 sources and 5 dest" in shown
    assert "note: columns not used: extra" in shown
    assert f"{out}: 50 events, 8 nodes, 0 edge features, no labels" in shown
    assert main(["data", "verify", out]) == 0
    assert "intact, 50 events" in capsys.readouterr().out
    assert main(["data", "describe", out]) == 0
    assert "3 sources + 5 destinations" in capsys.readouterr().out
    assert main(["data", "describe", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "toy"


def test_a_stream_is_no_place_for_other_folders(events, tmp_path, capsys):
    out = tmp_path / "s"
    assert main(["data", "import", str(events), "--out", str(out)]) == 0
    inside = ["--events", "5", "--out", str(out / "inner")]
    config = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")
    train = ["train", config, "--data.stream", str(out), "--run-dir", str(out / "run")]
    for command in (["data", "synthesize", *inside], train):
        assert main(command) == 2
        assert "must not be in the directory of a stream" in capsys.readouterr().err
    assert main(["data", "verify", str(out)]) == 0


@pytest.mark.parametrize("more", [[], ["--force"]])
def test_the_root_is_no_stream(events, more, capsys):
    assert main(["data", "import", str(events), "--out", "/", *more]) == 2
    assert capsys.readouterr().err.startswith("error: /: already exists")


def test_ids_that_look_like_missing_values_are_noted(tmp_path, capsys):
    file = tmp_path / "sql.csv"
    file.write_text("src,dst,t\nann,NULL,1\nbob,nan,2\ncid,x,3\n")
    assert main(["data", "import", str(file), "--out", str(tmp_path / "s")]) == 0
    assert "note: ids 'NULL', 'nan' look like missing values" in capsys.readouterr().out


def test_synthesize(tmp_path, capsys):
    out = str(tmp_path / "s")
    assert main(["data", "synthesize", "--out", out, "--events", "100", "--users", "5"]) == 0
    assert "100 events, 10,005 nodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "{events}"], "arguments are required: --out"),
        (["import", "{events}", "--out", "{out}", "--ids", "x"], "--ids must be auto | keep | map"),
        (["import", "{events}", "--out", "{out}", "--time-scale", "-1"], "--time-scale must be a"),
        (["import", "{events}", "--out", "{out}", "--src", "u"], "column 'u' is missing"),
        (["import", "{events}", "--out", "{out}", "--dst", "extra", "--ids", "keep"], "csv:2: "),
        (["synthesize", "--out", "{out}", "--events", "0"], "--events must be an integer >= 1"),
        (["describe", "{out}"], "stream must be the directory of an imported stream"),
        (["verify", "{out}"], "not a stored event stream"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        ([], "required: COMMAND"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(arguments, message, events, tmp_path, capsys):
    filled = [argument.format(events=events, out=tmp_path / "out") for argument in arguments]
    assert main(["data", *filled]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert os.listdir(tmp_path) == ["events.csv"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_stopping_leaves_nothing(stop, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    command = [sys.executable, "-m", "pres_dist", "data", "synthesize"]
    command += ["--out", str(folder / "s"), "--events", "2000000000"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.DEVNULL,
        # A shell's background job ignores SIGINT and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for _ in range(600):
            if any(folder.iterdir()):
                break
            time.sleep(0.05)
        process.send_signal(stop)
        # CPython ends itself by SIGINT where the interrupt came inside an exec() of a text, as
        # when a dataclass is made during an import, although it was caught further up.
        assert process.wait(timeout=240) in (143, 130, -signal.SIGINT)
    finally:
        process.kill()
        process.wait()
    assert os.listdir(folder) == []


def test_an_exit_right_after_the_folder_was_made_leaves_nothing(tmp_path):
    """A signal may come before anything that would remove it is entered."""
    program = (
        "import sys; from pathlib import Path; from pres_dist.events.storage import *; "
        "folder = PartialDirectory(Path(sys.argv[1]), False); folder.create(); "
        "assert folder.path.exists(); sys.exit(143)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "s")], timeout=240)
    assert done.returncode == 143
    assert list(tmp_path.iterdir()) == []
