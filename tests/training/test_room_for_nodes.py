"""Streams with more node numbers than memory: one line before anything is allocated."""

from __future__ import annotations

from pathlib import Path

import pytest

from pres_dist import train
from pres_dist.cli.main import main
from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream
from pres_dist.training import run as training
from tests.support.small_run import MakeConfig

PHONE = 491_700_000_000
MESSAGE = "rows for 491,700,000,001 node numbers take at least"


@pytest.fixture
def phones(tmp_path: Path) -> Path:
    """A stream whose ids were kept when nothing checked how many nodes that makes."""
    stream = EventStream.from_arrays([PHONE] * 20, [1] * 20, range(20), name="phones")
    stream.save(tmp_path / "phones")
    return tmp_path / "phones"


@pytest.mark.parametrize("command", ["data describe {}", "train {}/c.yaml", "baselines {}/c.yaml"])
def test_commands(
    command: str, phones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(f"data: {{stream: {phones}}}\n")
    place = phones if "describe" in command else tmp_path
    assert main(command.format(place).split()) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: stream phones: {MESSAGE}")
    assert "--ids map" in shown
    assert shown.count("\n") == 1


def test_python(phones: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=MESSAGE) as error:
        train(stream=phones, run_dir=tmp_path / "run", progress=False)
    assert 'ids="map"' in str(error.value)
    assert "--" not in str(error.value)


def test_rows_of_node_memory(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream fits, with its 55 nodes; their memory does not."""
    monkeypatch.setattr("pres_dist.events.capacity.memory_bytes", lambda: 55 * 16)
    with pytest.raises(DataError, match="stream habits: rows for 55 node numbers"):
        training.train(make_config(), tmp_path / "run")
