"""The journal: what was acknowledged is read again, whatever the crash."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pres_dist.inference.journal import (
    Journal,
    JournalError,
    drop_record,
    events_record,
    read_journal,
    rescue_journal,
)

HEADER = {"num_events": 7}
ROWS = [[place, "é", 10 + place, [1.5], None] for place in range(3)]


def written(path: Path) -> list[int]:
    """Write a record for each event; return where the header and the records end."""
    journal = Journal(path, HEADER)
    ends = [journal.num_bytes]
    for number, row in enumerate(ROWS, 1):
        journal.append(events_record(number, [row]))
        ends.append(journal.num_bytes)
    journal.close()
    return ends


def rows_of(path: Path) -> list[object]:
    return list(read_journal(path).rows.values())


@pytest.mark.attack(
    "journal cut off at each of its bytes",
    before="the cut was shown nowhere",
    after="at most the record that was being written is cut off, and the service says so",
)
def test_a_crash_at_any_byte_costs_at_most_the_last_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = written(path)
    whole = path.read_bytes()
    assert ends[-1] == len(whole)
    for size in range(ends[0], len(whole)):
        path.write_bytes(whole[:size])
        kept = sum(end <= size for end in ends) - 1
        assert rows_of(path) == ROWS[:kept]
        assert read_journal(path).torn == size - ends[kept]
        journal = Journal(path, HEADER)
        assert journal.num_torn == size - ends[kept]
        assert journal.contents is not None
        assert list(journal.contents.rows.values()) == ROWS[:kept]
        journal.append(events_record(kept + 1, ROWS[:1]))
        journal.close()
        assert rows_of(path) == [*ROWS[:kept], ROWS[0]]
        assert read_journal(path).torn == 0


def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    end = written(path)[0]
    whole = path.read_bytes()
    for size in range(end):
        path.write_bytes(whole[:size])
        journal = Journal(path, HEADER)
        journal.close()
        assert journal.num_torn == size
        assert path.read_bytes() == whole[:end]


@pytest.mark.attack(
    "journal with one bit flipped, each in turn",
    before="in the last record: it was dropped without a word; in the newline before it: two",
    after="an error that names the line; nothing is cut off",
)
def test_each_flipped_bit_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = written(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            line = 1 + sum(end <= place for end in ends)
            with pytest.raises(JournalError, match=rf"journal:{line}: damaged"):
                Journal(path, HEADER)
            assert path.read_bytes() == damaged


def test_events_of_another_run_are_not_taken_over(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    with pytest.raises(JournalError, match=r"continues other events .*\(num_events 7, now 8\)"):
        Journal(tmp_path / "journal", {**HEADER, "num_events": 8})


def test_a_journal_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "journal")
    monkeypatch.setattr("pres_dist.inference.journal.FORMAT", 3)
    for read in (read_journal, lambda path: Journal(path, HEADER)):
        with pytest.raises(JournalError, match="format 2, now 3"):
            read(tmp_path / "journal")


def test_dropped_events_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    journal = Journal(path, HEADER)
    journal.append(drop_record([2], "in nanoseconds"))
    journal.append(events_record(4, [ROWS[1]]))
    journal.close()
    contents = read_journal(path)
    assert contents.rows == dict(enumerate([*ROWS, ROWS[1]], 1))
    assert contents.dropped == {2: "in nanoseconds"}
    assert contents.kept == {1: ROWS[0], 3: ROWS[2], 4: ROWS[1]}


def test_what_is_whole_of_a_damaged_journal_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "served.jsonl"
    ends = written(path)
    whole = path.read_bytes()
    with pytest.raises(JournalError, match="must be damaged to be rescued"):
        rescue_journal(path)
    for place in range(ends[0], ends[2]):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        lost, aside = rescue_journal(path)
        at_end = place + 1 in ends
        line = 2 + (place >= ends[1])
        assert lost == ([] if at_end else [line])
        assert aside.read_bytes() == damaged
        kept = {n: row for n, row in enumerate(ROWS, 1) if at_end or n != line - 1}
        assert read_journal(path).rows == kept
    path.write_bytes(b"x" + whole[1:])
    with pytest.raises(JournalError, match="the header is damaged"):
        rescue_journal(path)


@pytest.mark.attack(
    "a full disk under the journal",
    before="held",
    after="one error, nothing is taken in, what was acknowledged stays",
)
def test_a_full_disk_leaves_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    written(path)
    journal = Journal(path, HEADER)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("pres_dist.inference.journal.os.fsync", full)
        with pytest.raises(JournalError, match="cannot be written: No space left"):
            journal.append(events_record(4, ROWS))
    with pytest.raises(JournalError, match="No space left on device; nothing is written until"):
        journal.append(events_record(4, ROWS))
    journal.close()
    assert rows_of(path) == ROWS
