"""Files of ids, one a line, as programs write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pres_dist.cli.main import main
from pres_dist.errors import DataError
from pres_dist.inference.embeddings import read_ids


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ("u1\nu2\n", ["u1", "u2"]),
        ("\ufeffu1\r\nu2", ["u1", "u2"]),
        ('"u1"\n"a, b"\n"say ""hi"""\n', ["u1", "a, b", 'say "hi"']),
        ("a, b\nit's 5\" long\n", ["a, b", "it's 5\" long"]),
        ("  u1\t\n\n\u00a0\nu2\u3000\n", ["u1", "u2"]),
        ('"two\nlines"\nu2\n', ["two\nlines", "u2"]),
        ("a\u2028b\x0bc\n", ["a\u2028b\x0bc"]),
    ],
)
def test_ids_of_a_file(content: str, ids: list[str], tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(content.encode())
    assert read_ids(tmp_path / "ids.txt")[0] == ids


def test_places_are_lines(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text('u1\n\n"two\nlines"\nu2\n')
    _, places = read_ids(tmp_path / "ids.txt")
    assert [place.rpartition(":")[2] for place in places] == ["1", "3", "5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n\xef\xbb\xbf", "ids.txt: must hold an id on each line, got none"),
        (b"\xff\xfeu\x001\x00", "ids.txt: must be UTF-8 text with an id on each line"),
        (b'u1\n"u2\nu3', r"ids.txt:3: cannot be read as an id: unexpected end of data"),
        (b"", "ids.txt: the file is empty"),
    ],
)
def test_files_that_hold_no_ids(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_ids(tmp_path / "ids.txt")


@pytest.mark.parametrize("option", ["--nodes", "--out"])
def test_addresses_are_no_files(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["embed", str(tmp_path), "--out", "e.csv", option, "https://host/x.csv"]
    assert main(command) == 2
    message = "error: https://host/x.csv: must be a path on this machine, got an address"
    assert capsys.readouterr().err.strip() == message
