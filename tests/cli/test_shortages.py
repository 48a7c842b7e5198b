"""A machine that refuses threads, processes or memory: one error, no traceback."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from pres_dist.cli import main as cli
from pres_dist.config.load import dump_yaml
from pres_dist.training.background import Background
from tests.support.small_run import habitual_stream, small_config


def no_thread() -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        threading.Thread().start()


def no_process() -> None:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def no_memory() -> None:
    raise MemoryError


def no_tensor() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (no_thread, "must let the command start threads"),
        (no_process, "must let the command start threads and processes"),
        (no_memory, "must have more memory"),
        (no_tensor, "must have more memory"),
    ],
)
def test_what_is_short_is_told(
    refused: Callable[[], None],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = SimpleNamespace(main=lambda _arguments: refused())
    monkeypatch.setattr(cli, "import_module", lambda _name: module)
    assert cli.main(["train"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: this machine ")
    assert told in line


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_arguments: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(cli, "import_module", lambda _name: SimpleNamespace(main=fail))
    with pytest.raises(RuntimeError, match="mat1"):
        cli.main(["train"])


def test_a_call_without_a_thread_is_not_waited_for() -> None:
    background = Background("checkpoint")
    no_start = mock.patch.object(threading.Thread, "start", side_effect=RuntimeError)
    with no_start, pytest.raises(RuntimeError):
        background.begin(lambda: None)
    background.wait()


@pytest.mark.attack(
    "no thread can be started",
    before="a traceback, exit 1",
    after="one error, exit 2; the run can be resumed",
)
def test_training_without_threads_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    habitual_stream(600).save(tmp_path / "habits")
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config(tmp_path / "habits")()))
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "checkpoint":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert cli.main(["train", str(tmp_path / "c.yaml"), "--run-dir", str(tmp_path / "r")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: this machine must let the command start threads")
