"""The command line: exit codes, one clear error, no traceback, quick help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pres_dist.cli import main as cli
from pres_dist.config.load import load_config
from pres_dist.errors import DataError

QUICKSTART = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pres_dist", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **settings,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean `train`?"),
        (["xyzzy"], "known: train, ray, resume, evaluate"),
        (["train"], "train needs a configuration file"),
        (["train", "missing.yaml"], "missing.yaml: no such configuration file"),
        (["train", QUICKSTART, "--training.batchsize", "5"], "did you mean `--training.batch-size"),
        (["train", "--training.epochs", "5"], "arguments are required: CONFIG"),
        (["train", QUICKSTART, "other.yaml"], "unexpected argument 'other.yaml'"),
        (["train", QUICKSTART, "--training.seed"], "--training.seed: expected one argument"),
        (["ray"], "ray needs a configuration file"),
        (["ray", QUICKSTART, "--num-workers", "0"], "--num-workers must be an integer >= 1, got 0"),
        (["ray", QUICKSTART, "--address", "ray://x:1"], "HOST:PORT of a cluster that this machine"),
        (["ray", QUICKSTART, "--placement", "STRICT_SPREAD"], "needs a node for each worker"),
        (["resume"], "arguments are required: RUN"),
        (["resume", "nowhere"], "nowhere: not the folder of a run"),
        (["evaluate", "nowhere"], "nowhere: not the folder of a run"),
        (["evaluate", "nowhere", "--training.epochs", "3"], "takes only --evaluation.* options"),
    ],
)
def test_a_mistake_is_one_error_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", ""],
        ["train", QUICKSTART, "--run-dir", ""],
        ["train", QUICKSTART, "--data.stream", ""],
        ["data", "import", "", "--out", "x"],
        ["data", "import", "{events}", "--out", ""],
        ["data", "describe", ""],
        ["data", "verify", ""],
        ["embed", "", "--out", "x.csv"],
        ["resume", ""],
        ["bench", "ranking", ""],
        ["plan", "--nodes", "9", "--events", "9", "--json", ""],
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "events.csv").write_text("src,dst,t\na,b,1\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main([part.format(events="events.csv") for part in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.endswith("got ''\n")
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "r", "--out", "x.csv", "--side", "source"], "--side is for --nodes"),
        (["report", "r", "--side", "source"], "--side is for --ids"),
        (["extend", "r", "x.csv", "--epochs", "2"], "--epochs is for --train"),
        (["plan", "--nodes", "9", "--events", "9", "--mtbf-hours", "5"], "--mtbf-hours is for --s"),
    ],
)
def test_an_option_without_effect_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert f"error: command line: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere/x.json", "/", "."])
@pytest.mark.parametrize("command", [["bench", "ranking", "r"], ["bench", "step", QUICKSTART]])
def test_an_output_file_is_checked_before_the_work(
    command: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--json", name]) == 2
    assert capsys.readouterr().err.startswith(f"error: {name}: ")


def test_a_mistake_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run("train", QUICKSTART, "--run-dir", "run", "--training.epochs", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pres-dist ")
    assert cli.main(["--help"]) == 0
    assert "resume" in capsys.readouterr().out
    assert cli.main([]) == 2


def test_train_help_shows_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--training.batch-size" in text
    assert "Events in a temporal batch" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["ray", "--help"],
        ["evaluate", "--help"],
        ["baselines", "--help"],
        ["resume", "--help"],
        ["plan", "--help"],
    ],
)
def test_help_imports_no_heavy_library(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from pres_dist.cli.main import main\n"
        f"assert main({arguments!r}) == 0\n"
        "heavy = {'torch', 'numpy', 'ray', 'dgl', 'pyarrow', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr


def test_print_config_prints_a_configuration_that_loads(tmp_path: Path) -> None:
    arguments = ["--training.epochs", "3", "--pres.prediction", "False"]
    done = run("train", QUICKSTART, "--print-config", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "printed.yaml").write_text(done.stdout, encoding="utf-8")
    assert load_config(tmp_path / "printed.yaml") == load_config(Path(QUICKSTART), arguments)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m pres_dist train --help | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("events.csv:3: wrong"), 2, "error: events.csv:3: wrong\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_of_a_command_become_exit_codes(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_command", lambda _name: fail)
    assert cli.main(["train"]) == code
    assert capsys.readouterr().err == message


def test_a_defect_still_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_argv: list[str]) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr(cli, "_command", lambda _name: fail)
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main(["train"])
