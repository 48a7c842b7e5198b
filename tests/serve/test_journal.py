"""The journal: what was acknowledged is read again, whatever the crash."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pres_dist.serve.journal import Journal, JournalError, read_journal

HEADER = {"format": 1, "num_events": 7}


def written(path: Path, num: int = 3) -> list[dict[str, object]]:
    records: list[dict[str, object]] = [{"events": [[place, "é", 1.5]]} for place in range(num)]
    journal = Journal(path, HEADER)
    for record in records:
        journal.append(record)
    journal.close()
    return records


def test_a_crash_at_any_byte_costs_at_most_the_last_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    records = written(path)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    for size in range(ends[0], len(whole)):
        path.write_bytes(whole[:size])
        journal = Journal(path, HEADER)
        kept = sum(end <= size for end in ends) - 1
        assert journal.records == records[:kept]
        assert journal.dropped == size - ends[kept]
        journal.append({"events": []})
        journal.close()
        assert read_journal(path) == (HEADER, [*records[:kept], {"events": []}])


def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    path.write_bytes(path.read_bytes()[:9])
    assert Journal(path, HEADER).records == []
    assert read_journal(path) == (HEADER, [])


def test_damage_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"\n") + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"journal:2: damaged.*others follow"):
        Journal(path, HEADER)
    assert path.read_bytes() == content


def test_events_of_another_run_are_not_taken_over(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    with pytest.raises(JournalError, match=r"continues other events .*\(num_events 7, now 8\)"):
        Journal(tmp_path / "journal", {**HEADER, "num_events": 8})


def test_a_full_disk_leaves_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    records = written(path)
    journal = Journal(path, HEADER)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("pres_dist.serve.journal.os.fsync", full)
        with pytest.raises(JournalError, match="cannot be written: No space left"):
            journal.append({"events": [1]})
    with pytest.raises(JournalError, match="an earlier write failed"):
        journal.append({"events": [2]})
    journal.close()
    assert read_journal(path) == (HEADER, records)
