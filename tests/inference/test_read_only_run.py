"""A run folder that takes no new file: what was computed is shown, with a warning."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pres_dist.cli.main import main
from pres_dist.errors import DataError
from pres_dist.inference.run import Run
from pres_dist.report import html
from pres_dist.staging import Staged
from tests.support.trained_runs import trained


@pytest.fixture
def run_dir(runs: Path, tmp_path: Path) -> Path:
    kept = shutil.ignore_patterns("evaluation.json")  # of another test
    return Path(shutil.copytree(trained(runs), tmp_path / "run", ignore=kept))


@pytest.fixture(params=[errno.EROFS, errno.ENOSPC], ids=["read-only", "full"])
def refusing(run_dir: Path, request: pytest.FixtureRequest, monkeypatch: Any) -> str:
    """Lets every new file in the run folder fail; root is not kept out by permissions."""
    original = Staged.create

    def create(staged: Staged) -> None:
        if run_dir in staged.target.parents:
            raise OSError(request.param, os.strerror(request.param), str(staged.target))
        original(staged)

    monkeypatch.setattr(Staged, "create", create)
    return os.strerror(request.param)


@pytest.mark.attack(
    "a read-only run folder, or a full disk, under evaluate",
    before="the figures were computed and lost: traceback",
    after="the figures, and a warning about what was not kept",
)
def test_figures_are_shown_where_they_cannot_be_kept(
    run_dir: Path, refusing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, file, shown in (
        (["evaluate"], "evaluation.json", "AP"),
        (["evaluate", "--all-negatives"], "evaluation.json", "historical"),
    ):
        name, *options = command
        assert main([name, str(run_dir), *options]) == 0, command
        captured = capsys.readouterr()
        assert shown in captured.out, command
        warning = f"warning: {run_dir / file}: not kept: {refusing}"
        assert [line for line in captured.err.splitlines() if "warning" in line] == [warning]
        assert not (run_dir / file).exists()


def test_python_gets_the_figures_too(run_dir: Path, refusing: str) -> None:
    assert Run(run_dir).evaluate()["test"]


def test_what_must_be_written_is_one_error(
    run_dir: Path, refusing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "later.csv").write_text("src,dst,t,f0,f1,f2\n1,41,1800000000000,0,0,0\n")
    for command in (["resume"], ["extend", f"{tmp_path}/later.csv"], ["report"]):
        name, *options = command
        assert main([name, str(run_dir), *options]) == 2, command
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(lines) == 1, lines
        assert refusing in lines[0]


def test_a_report_that_cannot_be_written_is_a_warning(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(html, "write_atomically", full)
    assert main(["resume", str(run_dir)]) == 0
    shown = capsys.readouterr().err.replace("\n", "")
    assert "report.html: cannot be written" in shown
    assert "results" not in shown or (run_dir / "results.json").is_file()


@pytest.mark.parametrize("name", ["environment.json", "metrics.jsonl", "results.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]\n", b'{"a": 1}\n', b"\xff\xfe", b"FIFO"])
def test_damaged_records_are_no_traceback(
    run_dir: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / name).unlink()
    if content == b"FIFO":
        os.mkfifo(run_dir / name)
    else:
        (run_dir / name).write_bytes(content)
    if name == "results.json":
        run = Run(run_dir)
        if content == b'{"a": 1}\n':
            assert run.results == {"a": 1}
        else:
            with pytest.raises(DataError, match=r"results.json: damaged"):
                _ = run.results
        (run_dir / "results.json").unlink()
        (run_dir / "results.json").write_text(json.dumps({"validation": 3}))
        with pytest.raises(DataError, match=r"report.html: cannot be made"):
            html.write_report(run_dir)
        return
    assert main(["resume", str(run_dir)]) in (0, 2)
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert main(["embed", str(run_dir), "--out", f"{run_dir}/e.csv"]) == 0
