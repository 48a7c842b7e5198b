"""Work on a run that workers share: the same bits, one error when one dies, nothing left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from pres_dist.cli.main import main
from pres_dist.errors import ConfigError, WorkerLostError
from pres_dist.inference import embeddings, pairs, processes
from pres_dist.inference.embeddings import embed_nodes
from pres_dist.inference.live import LiveRun
from pres_dist.inference.pairs import Pairs, score_pairs
from pres_dist.inference.processes import Processes
from pres_dist.inference.ranking import rank_run
from pres_dist.inference.sharing import Alone, Opening, Share
from pres_dist.inference.walker import Report


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(embeddings, "ROWS", 8)  # many tasks
    monkeypatch.setattr(pairs, "_CHUNKS", 3)
    before = shared_memory()
    yield
    assert multiprocessing.active_children() == []
    assert shared_memory() <= before


def later_pairs(live: LiveRun, num: int = 60) -> Pairs:
    """Pairs in no order of time, some of them at the same time."""
    rng = np.random.default_rng(0)
    events = rng.integers(live.stream.num_events - 200, live.stream.num_events, num)
    return Pairs(rng.integers(0, 40, num), rng.integers(40, 55, num), live.stream.t[events])


def test_workers_compute_the_same_bits(tgn_run: Path) -> None:
    """Embeddings, scores and rankings; memory goes back in between. Mistakes come as they are."""
    live, alone = LiveRun(tgn_run), LiveRun(tgn_run)
    asked, told = later_pairs(live), []
    with Processes(live, 2) as share:
        for t in (alone.latest, alone.earliest + 200):
            expected = list(embed_nodes(alone, t))
            told.clear()
            found = list(embed_nodes(live, t, report=lambda *now: told.append(now), share=share))
            assert len(found) == len(expected) > 4
            rows = sum(len(part) for part in found)
            done = [done for _, done, total in told if total == rows]
            assert done[-len(found) :] == np.cumsum([len(part) for part in found]).tolist()
            for one, other in zip(found, expected, strict=True):
                assert list(one.ids) == list(other.ids)
                np.testing.assert_array_equal(one.values.numpy(), other.values.numpy())
        for batched in (False, True):
            np.testing.assert_array_equal(
                score_pairs(live, asked, batched, share=share), score_pairs(alone, asked, batched)
            )
        ranked = rank_run(live, 20, share=share)
        expected = rank_run(alone, 20)
        assert ranked | {"seconds": 0} == expected | {"seconds": 0}
        check_turns(share)
        with pytest.raises(ConfigError, match=r"task . must be another"):
            list(share(Refuse(number) for number in range(3)))


def test_a_file_is_the_same(tgn_run: Path, tmp_path: Path) -> None:
    asked = later_pairs(LiveRun(tgn_run), 30)
    lines = zip(asked.src, asked.dst, asked.t, strict=True)
    pairs_file = tmp_path / "pairs.csv"
    pairs_file.write_text("src,dst,t\n" + "".join(f"{a},{b},{t}\n" for a, b, t in lines))
    for workers in ("1", "2"):
        out = tmp_path / f"{workers}.parquet"
        command = ["score", str(tgn_run), str(pairs_file), "--workers", workers]
        assert main([*command, "--out", str(out)]) == 0
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def check_turns(share: Share) -> None:
    """Results wait for their turn, and tasks for a worker that is slow: few are begun before."""
    found = [values.tolist() for values in share(Sleep(n, 0.3 * (n == 0)) for n in range(9))]
    assert [place for place, *_ in found] == list(range(9))
    started = [at for _, at in found]
    assert sum(at < started[0] + 0.25 for at in started[1:]) <= 3


@dataclass(frozen=True)
class Sleep:
    number: int
    seconds: float

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        at = time.time()
        time.sleep(self.seconds)
        return np.array([self.number, at])


@dataclass(frozen=True)
class Die:
    """The second part ends its worker; the others are embedded."""

    nodes: np.ndarray
    t: int

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        if self.nodes[0] == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return embeddings.NodesAt(self.nodes, self.t).compute(live, report)


@dataclass(frozen=True)
class Stop:
    number: int

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        if self.number == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return np.array([self.number])


@dataclass(frozen=True)
class Refuse:
    number: int

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        raise ConfigError(f"task {self.number} must be another")


def test_a_worker_that_dies_ends_the_command(
    tgn_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(embeddings, "NodesAt", Die)
    out = tmp_path / "e.csv"
    out.write_text("as before")
    assert main(["embed", str(tgn_run), "--workers", "2", "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    *progress, line = told.err.splitlines()
    assert all(one.startswith("embedding: ") for one in progress), told.err
    assert line.startswith("error: worker ")
    assert "was ended by SIGKILL, and the command with it" in line
    assert out.read_text() == "as before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_slow_worker_is_heard(tgn_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats arrive while it computes, and count as signs of life."""
    monkeypatch.setattr(processes, "_BEAT_S", 0.05)
    receive, heard = processes._Member.receive, []

    def record(member: processes._Member) -> processes.Answer:
        before = member.heard
        said = receive(member)
        heard.append((type(said), member.heard > before))
        return said

    monkeypatch.setattr(processes._Member, "receive", record)
    with Processes(LiveRun(tgn_run), 2) as share:
        list(share([Sleep(0, 0), Sleep(1, 0)]))  # they have opened the run, which takes seconds
        heard.clear()
        list(share([Sleep(0, 1.0), Sleep(1, 0)]))
    assert (processes.Alive, True) in heard
    assert all(later for _, later in heard)


def test_a_worker_that_stops_is_given_up(tgn_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_BEAT_S", 0.2)
    with Processes(LiveRun(tgn_run), 2) as share:
        list(share([Sleep(0, 0), Sleep(1, 0)]))
        monkeypatch.setattr(processes, "_SILENT_S", 1.0)
        with pytest.raises(WorkerLostError, match=r"worker . has given no sign of life for 1 s"):
            list(share(Stop(number) for number in range(4)))


def test_a_run_that_has_changed_is_refused(tgn_run: Path) -> None:
    opening = Opening.of(LiveRun(tgn_run), 1)
    with pytest.raises(ConfigError, match="must stay as it is while workers use it"):
        replace(opening, num_events=700).open()
    with pytest.raises(ConfigError, match="must stay as it is while workers use it"):
        replace(opening, weights="of another training, in a checkpoint of the same name").open()
    assert opening.open().stream.num_events == opening.num_events


def test_one_task_needs_no_process(tgn_run: Path) -> None:
    with Processes(LiveRun(tgn_run), 2) as share:
        list(share([Sleep(0, 0)]))
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_workers_end_with_the_command(
    tgn_run: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    times = LiveRun(tgn_run).stream.t[-150:]
    rows = "".join(f"{n % 40},{40 + n % 15},{t}\n" for n, t in enumerate([*times] * 200))
    (tmp_path / "pairs.csv").write_text("src,dst,t\n" + rows)
    out = tmp_path / "scored.csv"
    command = [sys.executable, "-m", "pres_dist", "score", str(tgn_run)]
    command += [str(tmp_path / "pairs.csv"), "--out", str(out), "--workers", "2"]
    process = psutil.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(workers := spawned(process)) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, told = process.communicate(timeout=240)
    assert process.returncode == code, told
    assert number == signal.SIGKILL or "Traceback" not in told
    assert psutil.wait_procs(workers, timeout=240)[1] == []
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]


def spawned(process: psutil.Process) -> list[psutil.Process]:
    """Workers of a command; the tracker of multiprocessing is none, but ends as they do."""
    found = []
    for child in process.children():
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--workers", "0"], "--workers must be an integer >= 1, got '0'"),
        (["--workers", "two"], "--workers must be an integer >= 1, got 'two'"),
        (["--address", "auto"], "--address needs --workers 2 or more"),
    ],
)
def test_options_that_do_not_fit(
    tgn_run: Path, extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", str(tgn_run), "--out", "e.csv", *extra]) == 2
    assert message in capsys.readouterr().err


def test_alone_reports_memory_once(tgn_run: Path) -> None:
    live, told = LiveRun(tgn_run), []
    tasks = [embeddings.NodesAt(np.arange(4), live.latest) for _ in range(2)]
    list(Alone(live)(tasks, lambda *now: told.append(now)))
    assert told[-1][1] == told[-1][2]
