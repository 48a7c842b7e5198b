"""Errors that the launcher raises for failed workers, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pres_dist.errors import ConfigError, DataError, PresDistError, StoreError
from pres_dist.launchers.ray_cluster import cluster_address
from pres_dist.launchers.ray_relay import Call, Mailbox, RelayProgress, replay
from pres_dist.launchers.ray_run import RayOptions
from pres_dist.report.progress import LineProgress

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray


def died() -> Exception:
    """Return the error of Ray Train for a worker whose process is gone."""
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    return WorkerHealthCheckFailedError("poll failed", ray.exceptions.ActorDiedError())


def notes_of(max_failures: int, folder: Path, sent: list[Call]) -> Any:
    from pres_dist.launchers.ray_failures import FailureNotes

    return FailureNotes(max_failures, folder, sent.extend)


def test_each_failure_but_the_last_is_told(tmp_path: Path) -> None:
    sent: list[Call] = []
    notes = notes_of(2, tmp_path, sent)
    errors = {0: RuntimeError("[gloo] Connection closed by peer\nmore"), 1: died()}
    notes.after_exception(None, errors)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "LATEST").write_text("step-00000001\n")
    notes.after_exception(None, {0: errors[0]})
    notes.after_exception(None, errors)
    assert [arguments[0] for _, arguments in sent] == [
        "worker 1 died; all workers start again from the beginning, attempt 2 of 3",
        "worker 0 failed: RuntimeError: [gloo] Connection closed by peer; "
        "all workers start again from the newest checkpoint, attempt 3 of 3",
    ]


def test_a_lost_memory_shard_is_tried_again(tmp_path: Path) -> None:
    sent: list[Call] = []
    lost = StoreError("memory shard 0 of 2 is gone")
    notes_of(3, tmp_path, sent).after_exception(None, {1: lost})
    assert "worker 1 failed: StoreError: memory shard 0 of 2 is gone" in sent[0][1][0]


def test_what_the_user_can_mend_ends_the_run(tmp_path: Path) -> None:
    sent: list[Call] = []
    with pytest.raises(DataError, match="wrong"):
        notes_of(3, tmp_path, sent).after_exception(
            None, {0: RuntimeError("left behind"), 1: DataError("wrong")}
        )
    assert sent == []


def test_failures_used_up_are_one_error(tmp_path: Path) -> None:
    from ray.train import WorkerGroupError

    from pres_dist.launchers.ray_failures import used_up

    error = used_up(
        WorkerGroupError("a traceback", {0: died(), 1: died()}),
        2,
        Path("runs/x"),
        tmp_path / "failure.log",
    )
    assert isinstance(error, PresDistError)
    assert str(error).startswith("workers 0, 1 died; --max-failures allows 2; ")
    assert "`pres-dist resume runs/x` continues" in str(error)
    assert "a traceback" in (tmp_path / "failure.log").read_text()


def test_progress_arrives_whole_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    mailbox = Mailbox()
    relay = RelayProgress(mailbox.put)
    for progress in (relay, LineProgress()):
        progress.start(1, 1000)
        progress.note("begin")
        for events in range(50, 1001, 50):
            progress.batch(1, events, 0.5, 100.0)
        progress.stop()
    direct = capsys.readouterr().out
    replay(mailbox.take(), LineProgress())
    assert capsys.readouterr().out == direct
    assert mailbox.take() == []


def test_batches_travel_together() -> None:
    sent: list[list[Call]] = []
    relay = RelayProgress(sent.append)
    relay.note("now")
    for events in range(100):
        relay.batch(1, events, 0.5, 100.0)
    assert len(sent) < 50
    relay.stop()
    assert sum(map(len, sent)) == 101


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_workers": 0}, "--num-workers must be an integer >= 1, got 0"),
        ({"placement": "WIDE"}, "--placement must be one of PACK, .*, got 'WIDE'"),
        ({"max_failures": -1}, "--max-failures must be an integer >= 0, got -1"),
    ],
)
def test_options_are_checked(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RayOptions(**option)


def test_the_address_comes_from_option_environment_or_is_local(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address(None) == "local"
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert cluster_address(None) == "127.0.0.1:6379"
    assert cluster_address("auto") == "auto"
    with pytest.raises(ConfigError, match="ray job submit"):
        cluster_address("ray://somewhere:10001")
