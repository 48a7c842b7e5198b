"""Measure all that one GPU can show in ten minutes, into one JSON.

    python benchmarks/gpu.py data/wikipedia --out gpu.json
    python benchmarks/gpu.py STREAM --out try.json --tiny --training.device cpu   # tries the script

The file is written after every part, and a part that fails leaves its error there, so that little
is lost if time runs out. More options are those of the run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import pres_dist
from pres_dist.bench.step.device_work import measure_device
from pres_dist.bench.step.step_profile import for_one_worker, steps_in_a_row
from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig
from pres_dist.events.synthesize import SynthesizeConfig, synthesize
from pres_dist.files import write_atomically
from pres_dist.parallel.world import World
from pres_dist.report.environment import describe_environment
from pres_dist.run_files import METRICS
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.run import train
from pres_dist.training.setup import assembled, choose_device, load_data
from pres_dist.training.step import TrainingStep

SETTINGS = {
    "default": [],
    "paper": ["--preset", "paper", "--model.decoder", "embeddings"],
    "bf16": ["--training.precision", "bf16"],
}
GOAL_AP = 0.98
_TESTS_S = 150


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements.

    Attributes:
        batches: temporal batches of steps.
        epoch_batches: temporal batches of epochs.
        steps: number of measured steps.
        nodes, events: sizes of the synthetic stream.
        large_batches: temporal batches of steps on it.
        epochs: most epochs until the goal.
    """

    batches: tuple[int, ...] = (600, 4000, 16000, 64000)
    epoch_batches: tuple[int, ...] = (200, 800, 3200)
    steps: int = 12
    nodes: int = 10_000_000
    events: int = 20_000_000
    large_batches: tuple[int, ...] = (4000, 16000)
    epochs: int = 5


TINY = Sizes((60, 100), (25, 50), 2, 200, 2000, (100,), 1)


class Slot:
    """The measurements of a slot on a GPU.

    Args:
        stream: folder of the stream.
        options: options of all runs.
        sizes: sizes of the measurements.
    """

    def __init__(self, stream: Path, options: list[str], sizes: Sizes) -> None:
        self._stream, self._options, self._sizes = stream, options, sizes

    def parts(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Return the parts by name, the most important first."""
        return {
            "tests": self.tests,
            "steps": self.steps,
            "recorded steps": self.recorded_steps,
            "waits": self.waits,
            "accuracy": self.accuracy,
            "epochs": self.epochs,
            "large stream": self.large_stream,
        }

    def tests(self) -> dict[str, Any]:
        """Run tests/gpu."""
        command = [sys.executable, "-m", "pytest", "-q", "tests/gpu", "-p", "no:cacheprovider"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TESTS_S)
        return {"exit_code": done.returncode, "tail": done.stdout.splitlines()[-15:]}

    def steps(self) -> dict[str, Any]:
        """Measure steps in a row, by settings and temporal batch."""
        return {
            f"{name}, {batch}": self._in_a_row(batch, *options)
            for name, options in SETTINGS.items()
            for batch in self._sizes.batches
        }

    def recorded_steps(self) -> dict[str, Any]:
        """Measure replays of a recorded step in a row, by temporal batch."""
        return {str(batch): self._in_a_row(batch, recorded=True) for batch in self._sizes.batches}

    def waits(self) -> dict[str, Any]:
        """Count the waits of a step by line, as CUDA reports them."""
        found = {}
        for name, options in SETTINGS.items():
            with assembled_for_one(self._config(self._sizes.batches[1], *options)) as parts:
                step = TrainingStep(parts)
                for number in range(3):
                    with _reported_waits(counting=number == 2) as places:
                        step.run(step.prepare(StepIndex(1, number)))
                found[name] = dict(places)
        return found

    def accuracy(self) -> dict[str, Any]:
        """Train to the validation AP of the goal; note the seconds of training until then."""
        batch = self._sizes.epoch_batches[-1]
        config = self._config(batch, "--training.epochs", str(self._sizes.epochs))
        with tempfile.TemporaryDirectory() as folder:
            results = train(config, Path(folder) / "run")
            lines = (Path(folder) / "run" / METRICS).read_text().splitlines()
        epochs = [record for line in lines if (record := json.loads(line))["kind"] == "epoch"]
        num_events = len(load_data(config, torch.device("cpu")).kept)
        seconds = [num_events / epoch["events_per_second"] for epoch in epochs]
        metrics = [epoch["validation"]["ap"] for epoch in epochs]
        needed = next((num for num, ap in enumerate(metrics, 1) if ap >= GOAL_AP), None)
        return {
            "goal": GOAL_AP,
            "seconds_to_goal": None if needed is None else sum(seconds[:needed]),
            "train_seconds": seconds,
            "validation_ap": metrics,
            "test_ap": results["test"]["ap"],
        }

    def epochs(self) -> dict[str, Any]:
        """Estimate the seconds of an epoch, from steps in the middle of one."""
        found = {}
        for batch in self._sizes.epoch_batches:
            measured = self._in_a_row(batch)
            seconds = measured["num_events"] / measured["events_per_s"]
            found[str(batch)] = measured | {"epoch_seconds": seconds}
        return found

    def large_stream(self) -> dict[str, Any]:
        """Measure steps on a synthetic stream of many nodes."""
        half = self._sizes.nodes // 2
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "synthetic"
            synthesize(SynthesizeConfig(out=out, events=self._sizes.events, users=half, items=half))
            return {
                str(batch): self._in_a_row(batch, "--data.stream", str(out))
                for batch in self._sizes.large_batches
            }

    def _config(self, batch: int, *options: str) -> RunConfig:
        own = ["--data.stream", str(self._stream), "--training.batch_size", str(batch)]
        return load_config(None, [*own, *self._options, *options])

    def _in_a_row(self, batch: int, *options: str, recorded: bool = False) -> dict[str, Any]:
        """Measure steps one after the other."""
        with assembled_for_one(self._config(batch, *options)) as parts:
            run = steps_in_a_row(parts, self._sizes.steps, recorded)
            run()  # warm-up
            start = time.perf_counter()
            events = run()
            seconds = time.perf_counter() - start
            work = measure_device(run, self._sizes.steps, parts.device)
            found = {"events_per_s": events / seconds} if work is None else asdict(work)
            return found | {"num_events": len(parts.data.kept), "batch_events": events}


@contextmanager
def assembled_for_one(config: RunConfig) -> Iterator[Any]:
    """Assemble the parts of a run with one worker, ready to train."""
    config = for_one_worker(config)
    with assembled(config, choose_device(config), World()) as parts:
        parts.model.train()
        yield parts


@contextmanager
def _reported_waits(counting: bool) -> Iterator[Counter[str]]:
    """Count the waits of a block by line, as torch's debug mode reports them on CUDA."""
    places: Counter[str] = Counter()
    if not (counting and torch.cuda.is_available()):
        yield places
        return
    package = str(Path(pres_dist.__file__).parent)

    def note(*_: Any, **__: Any) -> None:
        own = [frame for frame in traceback.extract_stack() if frame.filename.startswith(package)]
        last = own[-1] if own else None
        name = f"{last.filename.removeprefix(package)}:{last.lineno}" if last else "elsewhere"
        places[name] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")


def main() -> None:
    """Run the parts and write what each found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stream", type=Path, help="folder of the wikipedia stream")
    parser.add_argument("--out", type=Path, required=True, help="file to write, as JSON")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--parts", nargs="+", help="only these parts")
    arguments, options = parser.parse_known_args()
    record: dict[str, Any] = {"schema": "gpu", "options": options, "tiny": arguments.tiny}
    record["environment"] = describe_environment(seed=0)
    for name, part in (
        Slot(arguments.stream, options, TINY if arguments.tiny else Sizes()).parts().items()
    ):
        if arguments.parts and name not in arguments.parts:
            continue
        start = time.perf_counter()
        try:
            found = part()
        except Exception:
            found = {"error": traceback.format_exc().splitlines()[-12:]}
        record[name] = found | {"seconds": round(time.perf_counter() - start, 1)}
        print(f"{name}: {record[name]['seconds']} s {found.get('error', '')}", file=sys.stderr)
        write_atomically(arguments.out, json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
