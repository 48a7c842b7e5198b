"""Memory and speed of importing a large file.

    python benchmarks/import_memory.py --events 100000000 --format parquet
    python benchmarks/import_memory.py --source events.csv.gz

Makes a file of synthetic events in a temporary directory (or takes ``--source``),
imports it in a process of its own and prints the peak resident set of that process
as JSON. With --sort, memory-mapped pages of the stream count towards it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CHUNK_EVENTS = 1 << 20
NODES = 10_000_000


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        source = arguments.source or _make(Path(folder), arguments)
        command = [sys.executable, "-m", "pres_dist", "data", "import", str(source)]
        command += ["--out", f"{folder}/stream", *arguments.options]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=sys.stderr)
        # Not RUSAGE_CHILDREN, whose peak may be that of the process that made the file.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            sys.exit(f"the import failed with status {status}")
        meta = json.loads(Path(folder, "stream", "meta.json").read_text())
        figures = {
            "source": source.name,
            "source_bytes": source.stat().st_size,
            "events": meta["num_events"],
            "stream_bytes": sum(file["bytes"] for file in meta["files"].values()),
            "options": arguments.options,
            "seconds": round(seconds, 1),
            "events_per_second": round(meta["num_events"] / seconds),
            "peak_rss_mib": round(usage.ru_maxrss / 1024),
        }
    print(json.dumps(figures, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000_000)
    parser.add_argument("--format", choices=["csv", "parquet"], default="parquet")
    parser.add_argument(
        "--shuffle", action="store_true", help="shuffled times; imports with --sort"
    )
    parser.add_argument("--source", type=Path, help="import this file instead of making one")
    parser.add_argument("--directory", help="where to put the temporary directory")
    parser.add_argument("options", nargs="*", help="more options for the import, after --")
    arguments = parser.parse_args()
    if arguments.shuffle:
        arguments.options.append("--sort")
    return arguments


def _make(folder: Path, arguments: argparse.Namespace) -> Path:
    """Write the file in a child, so that this process stays small."""
    source = folder / f"events.{arguments.format}"
    code = "import sys; from import_memory import write; write(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(source), str(arguments.events)]
    command.append(str(int(arguments.shuffle)))
    subprocess.run(command, check=True, cwd=Path(__file__).parent)
    return source


def write(source: str, events: str, shuffle: str) -> None:
    """Write ``events`` random events in chunks."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    schema = pa.schema([("src", pa.int64()), ("dst", pa.int64()), ("t", pa.int64())])
    maker = pa_csv.CSVWriter if source.endswith(".csv") else pq.ParquetWriter
    with maker(source, schema) as writer:
        for columns in _chunks(int(events), shuffle == "1"):
            writer.write_table(pa.table(columns, schema=schema))


def _chunks(events: int, shuffle: bool) -> Iterator[list[object]]:
    import numpy as np

    random = np.random.default_rng(0)
    for first in range(0, events, CHUNK_EVENTS):
        size = min(CHUNK_EVENTS, events - first)
        start = 1_577_836_800_000
        times = random.integers(0, events, size) if shuffle else np.arange(first, first + size)
        yield [*random.integers(0, NODES, (2, size)), start + times]


if __name__ == "__main__":
    main()
