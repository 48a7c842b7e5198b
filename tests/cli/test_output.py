"""Standard output: UTF-8 in any locale, quiet when its reader goes away, one error when full."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pyarrow as pa
import pytest

from pres_dist.cli.main import main
from pres_dist.console import prepare_output
from pres_dist.events.stream import EventStream
from pres_dist.exit_codes import BROKEN_PIPE
from pres_dist.inference.table_files import table_file

TABLE = pa.table({"id": ["é日1", "a\x1b[2Jb"], "p": [0.5, 0.25]})


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    EventStream.from_arrays([0, 0], [1, 2], [1, 2], name="é日\x1b[2J").save(tmp_path / "s")
    return tmp_path / "s"


def replace_stdout(monkeypatch: pytest.MonkeyPatch, raw: io.RawIOBase, encoding: str) -> None:
    buffered = io.BufferedWriter(raw)  # type: ignore[arg-type]
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffered, encoding=encoding))


COMMANDS = [
    ["--version"],
    ["data", "describe", "{stream}"],
    ["data", "describe", "{stream}", "--json"],
    ["data", "verify", "{stream}"],
    ["data", "--help"],
    ["train", "{config}", "--print-config"],
    ["baselines", "{config}", "--data.stream", "{stream}", "--help"],
]


def filled(command: list[str], stream: Path) -> list[str]:
    config = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    return [part.format(stream=stream, config=config) for part in command]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_closed_pipe_ends_quietly(
    command: list[str],
    stream: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    read, write = os.pipe()
    os.close(read)
    replace_stdout(monkeypatch, io.FileIO(write, "w"), "utf-8")
    assert main(filled(command, stream)) == BROKEN_PIPE
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_is_one_error(
    command: list[str],
    stream: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    replace_stdout(monkeypatch, io.FileIO("/dev/full", "w"), "utf-8")
    assert main(filled(command, stream)) == 2
    message = "error: the disk must be writable and have room, got "
    assert capfd.readouterr().err == f"{message}'No space left on device'\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_output_is_utf_8_in_any_locale(
    encoding: str, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        replace_stdout(patched, io.FileIO(tmp_path / "out", "w"), encoding)
        assert main(["data", "describe", str(stream)]) == 0
        with table_file(None) as out:
            out.write(TABLE)
        prepare_output()
        import sys

        sys.stdout.flush()
    text = (tmp_path / "out").read_bytes().decode("utf-8")
    assert "é日\\x1b[2J" in text  # a table never has control bytes
    assert text.endswith("id,p\né日1,0.5\na\x1b[2Jb,0.25\n")  # a CSV file has what came in


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_no_control_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    with table_file(None) as out:
        out.write(TABLE)
    assert terminal.getvalue() == "id,p\né日1,0.5\na\\x1b[2Jb,0.25\n"


def test_a_compressed_file(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "b.csv.gz"):
        with table_file(tmp_path / name) as out:
            out.write(TABLE)
    first, second = (tmp_path / name for name in ("a.csv.gz", "b.csv.gz"))
    assert gzip.decompress(first.read_bytes()).decode().startswith("id,p\né日1,0.5\n")
    assert first.read_bytes() == second.read_bytes()
