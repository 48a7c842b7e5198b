"""The output of a run, on a terminal and into a file."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from pres_dist.report.progress import (
    LineProgress,
    LogProgress,
    Progress,
    TerminalProgress,
    make_progress,
)
from pres_dist.report.result_tables import duration, results_rows
from tests.report.fake_run import epoch_record, validation

RESULTS = {
    "validation": validation(5),
    "test": {"ap": 0.9712, "auc": None, "mrr": 0.8},
    "best_epoch": 5,
    "seconds": 132.4,
    "num_negatives": 20,
    "negatives": "random",
}


def follow(progress: Progress) -> None:
    """A run of two epochs."""
    progress.start(2, 1000)
    progress.note("nodes [bold] and events")
    for epoch in (1, 2):
        for events in range(25, 1001, 25):
            progress.batch(epoch, events, 0.5, 1234.0)
        progress.epoch(epoch_record(epoch, pres=True))
    progress.results(RESULTS)
    progress.stop()
    progress.stop()


def test_a_file_gets_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    progress = make_progress()
    assert isinstance(progress, LineProgress)
    follow(progress)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "left in epoch" in line]) == 20
    assert "epoch 1/2   10%  loss 0.5000  1,234 events/s  0.7 s left in epoch" in lines
    assert any(line.startswith("epoch 2/2  loss 0.3041  validation AP 0.9705") for line in lines)
    header, row = lines[-4], lines[-2]
    assert header.endswith("inductive AP  inductive AUC  inductive MRR")
    assert row.split() == ["test", "0.9712", "-", "0.8000", "-", "-", "-"]
    assert len(header) == len(row)
    assert lines[-1] == "MRR among 20 random negatives; best epoch 5; took 2:12 min"


def test_a_terminal_keeps_epochs_and_results() -> None:
    screen = io.StringIO()
    follow(TerminalProgress(Console(file=screen, force_terminal=True, width=120, highlight=False)))
    text = screen.getvalue()
    assert "nodes [bold] and events" in text
    assert "epoch 2/2  loss 0.3041  validation AP 0.9705" in text
    assert "0.9712" in text


def test_the_python_api_logs(caplog: pytest.LogCaptureFixture) -> None:
    losing = RESULTS | {"test": {"ap": 0.5, "baselines": {"EdgeBank": {"ap": 0.6}}}}
    LogProgress().results(losing)
    (warning,) = caplog.messages
    assert warning.startswith("test AP 0.5000 does not beat EdgeBank")
    with caplog.at_level(logging.INFO, "pres_dist"):
        follow(LogProgress())
    assert "nodes [bold] and events" in caplog.messages
    assert any(line.startswith("epoch 2/2  loss 0.3041") for line in caplog.messages)


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    follow(Progress())
    assert capsys.readouterr().out == ""


def test_a_resumed_epoch_starts_in_its_middle(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    progress.start(2, 1000)
    progress.batch(2, 750, 0.5, 0.0)
    assert capsys.readouterr().out.startswith("epoch 2/2   75%  loss 0.5000  0 events/s  - left")


def test_inductive_columns_are_there_only_if_measured() -> None:
    assert len(results_rows(RESULTS)[0]) == 7
    assert len(results_rows({"test": {"ap": 0.5, "inductive": None}})[0]) == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0 s"), (59.4, "59.4 s"), (61, "1:01 min"), (7384, "2:03:04 h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
