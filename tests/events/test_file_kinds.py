"""The kind of a file is recognized by its first bytes, whatever its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from pres_dist.cli.main import main
from pres_dist.errors import DataError, PresDistError
from pres_dist.wording import printable

TABLE = pa.table({"src": [0, 1], "dst": [2, 3], "t": [5, 6]})
CSV = b"src,dst,t\n0,2,5\n1,3,6\n"


def packed(write, *names):
    sink = io.BytesIO()
    write(sink, *names)
    return sink.getvalue()


def zipped(sink, *names):
    with zipfile.ZipFile(sink, "w") as archive:
        for name in names:
            archive.writestr(name, CSV)


def tarred(sink):
    with tarfile.open(fileobj=sink, mode="w") as archive:
        member = tarfile.TarInfo("x.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))


OTHERS = {
    "zstd-compressed": pa.compress(CSV, codec="zstd", asbytes=True),
    "bzip2-compressed": bz2.compress(CSV),
    "xz-compressed": lzma.compress(CSV),
    "lz4-compressed": pa.compress(CSV, codec="lz4", asbytes=True),
    "an Excel workbook (.xlsx)": packed(zipped, "[Content_Types].xml", "xl/workbook.xml"),
    "a zip archive": packed(zipped, "x.csv"),
    "a tar archive": packed(tarred),
    "gzip-compressed: a tar archive": gzip.compress(packed(tarred)),
    "gzip-compressed: Parquet": gzip.compress(packed(lambda sink: pq.write_table(TABLE, sink))),
    "a Feather or Arrow file": packed(lambda sink: pa.feather.write_feather(TABLE, sink)),
    "an ORC file": packed(lambda sink: pa.orc.write_table(TABLE, sink)),
    "a NumPy array": packed(lambda sink: np.save(sink, np.arange(3))),
    "JSON": b'{"src": 0, "dst": 2, "t": 5}\n',
    "gzip-compressed: JSON": gzip.compress(b'[\n {"src": 0, "dst": 2, "t": 5}]'),
    "an HTML or XML page": b"<!DOCTYPE html><html>not found</html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "an SQLite database": b"SQLite format 3\0" + bytes(84),
    "binary data of an unknown format": b"\x1b[2J\0\x01\x02\x07" * 9,
}


@pytest.mark.parametrize("what", list(OTHERS))
@pytest.mark.parametrize("name", ["events.csv", "part-0", "events.parquet"])
def test_other_formats_are_named(what, name, run_import, tmp_path, out_entries):
    if name.endswith("parquet") and "binary" in what:
        pytest.skip("of a damaged Parquet file nothing else can be said")
    (tmp_path / name).write_bytes(OTHERS[what])
    with pytest.raises(DataError, match=re.escape(f"{name}: is {what}")) as error:
        run_import(tmp_path / name)
    assert str(error.value).endswith("; .csv, .csv.gz and .parquet are read")
    assert str(error.value).isprintable()
    assert out_entries() == []


@pytest.mark.parametrize("name", ["EVENTS.PARQUET", "part-0", "x.parq", "x.csv"])
def test_parquet_by_any_name(name, run_import, tmp_path):
    pq.write_table(TABLE, tmp_path / name)
    assert run_import(tmp_path / name).stream.t.tolist() == [5, 6]


@pytest.mark.parametrize("name", ["EVENTS.CSV", "part-0", "x.txt", "x.csv.gz", "x.gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_csv_by_any_name(name, pack, run_import, tmp_path):
    (tmp_path / name).write_bytes(pack(CSV))
    assert run_import(tmp_path / name).stream.t.tolist() == [5, 6]


def test_a_named_format_must_be_that_of_the_file(run_import, tmp_path):
    pq.write_table(TABLE, tmp_path / "x")
    with pytest.raises(DataError, match=r"x: must be CSV, got Parquet"):
        run_import(tmp_path / "x", format="csv")
    with pytest.raises(DataError, match=r"events\.csv: must be Parquet, got CSV"):
        run_import(CSV, format="parquet")
    with pytest.raises(DataError, match=r"x: --delimiter is for CSV, this is Parquet"):
        run_import(tmp_path / "x", delimiter=";")


def test_utf_16_is_no_utf_8(run_import):
    with pytest.raises(DataError, match=r"events\.csv:1: must be UTF-8 text"):
        run_import(CSV.decode().encode("utf-16"))


@pytest.mark.attack(
    "a named pipe in place of a file",
    before="the import waits for ever",
    after="one line and exit code 2",
)
def test_a_pipe_is_not_waited_for(run_import, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: must be a regular file, got a pipe or device"):
        run_import(tmp_path / "pipe")


def test_no_control_character_reaches_the_terminal(tmp_path, capsys):
    (tmp_path / "x.csv").write_bytes(b"\x1b[2Jsrc,\x9b1m\xc2\x9b,\xe2\x80\xae\n1,2,3\n")
    assert main(["data", "import", str(tmp_path / "x.csv"), "--out", str(tmp_path / "o")]) == 2
    (tmp_path / "x.csv").write_text("src,dst,t,\x1b[2J\u202e\n1,2,3,4\n")
    assert main(["data", "import", str(tmp_path / "x.csv"), "--out", str(tmp_path / "o")]) == 0
    shown = capsys.readouterr()
    assert (shown.out + shown.err).replace("\n", "").isprintable()
    assert r"columns not used: \x1b[2J\u202e" in shown.out


def test_errors_escape_what_they_quote():
    assert (
        str(PresDistError("a\x1b[2J\x9b\ud800\nb é 日本 👩‍👩‍👧")) == r"a\x1b[2J\x9b\ud800"
        "\nb é 日本 👩‍👩‍👧"
    )
    assert printable("plain\n") == "plain\n"
