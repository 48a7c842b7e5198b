"""Training on one GPU by temporal batch: events a second, kernels, how busy the device is.

    python benchmarks/gpu.py configs/wikipedia.yaml --preset rates --training.precision bf16
    python benchmarks/gpu.py configs/quickstart.yaml --nodes 10000000 --events 20000000

Steps from the middle of an epoch, one after the other, as `pres-dist bench step` measures them.
With `--nodes` the stream is a synthetic one between so many nodes. More options are those of the
run. On a CPU it says nothing of a device, but tries the command.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pres_dist.bench.step.step_profile import StepReport, measure
from pres_dist.config.load import load_config
from pres_dist.events.synthesize import SynthesizeConfig, synthesize
from pres_dist.files import write_atomically

BASE, LARGE = 200, 800
"""Temporal batches whose epochs are compared (Su et al., 2024: at most 1 / 3.4 of the time)."""


def main() -> None:
    arguments, overrides = _arguments()
    reports: dict[int, StepReport] = {}
    with _stream(arguments) as chosen:
        for batch in arguments.batches:
            own = [*chosen, *overrides, "--training.batch_size", str(batch)]
            tell = partial(print, f"batch {batch:,}:", file=sys.stderr)
            reports[batch] = measure(load_config(arguments.config, own), arguments.steps, tell)
            _save(arguments, overrides, reports)
    print("\n".join(table(reports)))


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    batches = [BASE, 600, LARGE, 2000, 4000, 16000, 64000]
    parser.add_argument("--batches", type=int, nargs="+", default=batches)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--nodes", type=int, help="of a synthetic stream, half of them users")
    parser.add_argument("--events", type=int, default=20_000_000, help="of a synthetic stream")
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    return parser.parse_known_args()


@contextmanager
def _stream(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Options that choose the stream: none, or a synthetic one for as long as the block."""
    if arguments.nodes is None:
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        half = arguments.nodes // 2
        wanted = SynthesizeConfig(
            out=Path(folder) / "synthetic", events=arguments.events, users=half, items=half
        )
        synthesize(wanted)
        yield ["--data.stream", str(wanted.out)]


def _save(
    arguments: argparse.Namespace, overrides: list[str], reports: dict[int, StepReport]
) -> None:
    if arguments.out is not None:
        record = {
            "options": vars(arguments) | {"overrides": overrides},
            "batches": {batch: report.as_record() for batch, report in reports.items()},
        }
        write_atomically(arguments.out, json.dumps(record, indent=1, default=str) + "\n")


def table(reports: dict[int, StepReport]) -> list[str]:
    """Markdown, and the epoch at four times the base batch."""
    head = ("batch", "distinct nodes", "events/s", "ms a step", "kernels", "busy", "peak MiB")
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for batch, report in reports.items():
        cells = [f"{batch:,}", f"{report.nodes:,.0f}", *_device_cells(report)]
        rows.append(f"| {' | '.join(cells)} |")
    base, large = (reports.get(batch) for batch in (BASE, LARGE))
    if base is not None and large is not None and base.device and large.device:
        share = base.device.events_per_s / large.device.events_per_s
        rows.append(f"\nAn epoch at a batch of {LARGE} takes {share:.2f} of that at {BASE}.")
    return rows


def _device_cells(report: StepReport) -> list[str]:
    work = report.device
    if work is None:
        return ["-"] * 5
    return [
        f"{work.events_per_s:,.0f}",
        f"{report.events / work.events_per_s * 1e3:.2f}",
        f"{work.kernels:,.0f}",
        f"{work.busy:.0%}",
        f"{work.peak_bytes / 2**20:,.0f}",
    ]


if __name__ == "__main__":
    main()
