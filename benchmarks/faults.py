"""A small job under every kind of fault, against one that was left alone.

    python benchmarks/faults.py                                  # all kinds
    python benchmarks/faults.py --only 'worker SIGKILL' --runs 5
    python benchmarks/faults.py --list

Faults come at random points; the seed is printed. A run survives when it ends with results,
by itself or by `pres-dist resume` where the kind says so. Its bits are weights, optimizer,
memory with its statistics, and results. Events are counted from the sums of the last epoch.
Linux only; the full disk and the network cut need root. Ended by a signal, it ends what it
started; after SIGKILL, the next one does.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fault_kinds import KINDS, Kind
from leftovers import scratch
from rehearsal import launch, same_end, torchrun, trained_events

from pres_dist.report.environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "reliability" / "faults.json"


@dataclass(frozen=True)
class Row:
    """One kind of fault over all its runs.

    Attributes:
        injected: faults that happened.
        runs: in which they did.
        survived, same_bits: runs that ended, and that ended as the undisturbed one.
        lost, twice: events.
        recovery_s: median seconds until training went on; None where it never stopped.
        ended_with: other ends, as lines of the commands.
    """

    kind: str
    injected: int
    runs: int
    survived: int
    same_bits: int
    lost: int
    twice: int
    recovery_s: float | None
    ended_with: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="a kind; may be given several times")
    parser.add_argument("--list", action="store_true", help="print the kinds and end")
    parser.add_argument("--runs", type=int, help="of each kind (default: as the kind says)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    kinds = [kind for kind in KINDS if not arguments.only or kind.name in arguments.only]
    if arguments.list:
        print("\n".join(kind.name for kind in kinds))
        return
    with scratch() as folder:
        undisturbed, seconds = _undisturbed(folder)
        rows = []
        for kind in kinds:
            rows.append(_rehearse(kind, arguments.runs or kind.runs, arguments.seed, undisturbed))
            print(_line(rows[-1]), flush=True)
            _write(arguments.out, rows, arguments.seed, seconds)
    print(f"\n{_table(rows)}\nseed {arguments.seed}; undisturbed: {seconds:.0f} s")


def _undisturbed(folder: Path) -> tuple[Path, float]:
    run, started = folder / "undisturbed", time.perf_counter()
    ended = launch(torchrun(run)).end()
    if ended.code != 0:
        raise SystemExit(f"the undisturbed run failed:\n{ended.text()}")
    return run, time.perf_counter() - started


def _rehearse(kind: Kind, runs: int, seed: int, undisturbed: Path) -> Row:
    expected, found = trained_events(undisturbed), []
    recovered: list[float] = []
    ended_with: list[str] = []
    injected = survived = same_bits = 0
    for number in range(runs):
        draw = random.Random(f"{seed} {kind.name} {number}")
        folder = Path(tempfile.mkdtemp(dir=undisturbed.parent))
        try:
            told = kind.rehearse(folder, draw)
        except kind.refuses as reason:
            ended_with.append(f"not run here: {reason}")
            continue
        injected += told.faults
        recovered += told.recoveries
        done = (folder / "run" / "results.json").exists()
        survived += done
        same = done and same_end(folder / "run", undisturbed)
        same_bits += same
        found.append(trained_events(folder / "run") if done else expected)
        if not same:
            ended_with.append(told.last_words)
    return Row(
        kind.name,
        injected,
        len(found),
        survived,
        same_bits,
        sum(max(expected - each, 0) for each in found),
        sum(max(each - expected, 0) for each in found),
        round(statistics.median(recovered), 1) if recovered else None,
        ended_with,
    )


def _line(row: Row) -> str:
    recovery = "" if row.recovery_s is None else f"{row.recovery_s:.1f} s"
    cells = [
        row.kind,
        row.injected,
        f"{row.survived} of {row.runs}",
        f"{row.same_bits} of {row.runs}",
    ]
    return "| " + " | ".join(map(str, [*cells, row.lost, row.twice, recovery])) + " |"


def _table(rows: list[Row]) -> str:
    head = "| fault | injected | runs that survived | ended in identical bits "
    head += "| events lost | events applied twice | median time to recover |"
    return "\n".join([head, "|---" * 7 + "|", *map(_line, rows)])


def _write(path: Path, rows: list[Row], seed: int, seconds: float) -> None:
    """Rows of kinds that were not run again stay as they are."""
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = {row["kind"]: row for row in before} | {row.kind: asdict(row) for row in rows}
    ordered = [kept[kind.name] for kind in KINDS if kind.name in kept]
    record = {"seed": seed, "undisturbed_s": round(seconds, 1), "rows": ordered}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**record, "environment": describe_environment(seed)}, indent=1))


if __name__ == "__main__":
    main()
