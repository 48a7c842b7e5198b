"""`pres-dist bench step CONFIG`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pres_dist.cli.options import Argument, ConfigOptions, OutputFile, parse_with_settings

if TYPE_CHECKING:
    from pres_dist.bench.step.step_profile import StepReport


class StepOptions(ConfigOptions):
    """Measure a training step by stage, and compare it with the limits of the machine.

    Time, floating point operations and bytes of each stage are those of one worker on one thread
    or a GPU. Every field of the configuration is also an option.
    """

    steps: int = Field(20, ge=1)
    """Number of steps, from the middle of an epoch, whose medians are reported."""
    json_file: Annotated[OutputFile | None, Argument("FILE", name="--json")] = None
    """Also write the results to this file."""


def main(argv: list[str]) -> int:
    """Measure a training step by stage, and compare it with the limits of the machine."""
    options, settings = parse_with_settings("bench step", StepOptions, argv)

    from pres_dist.bench.step.step_profile import measure
    from pres_dist.config.load import load_config
    from pres_dist.files import write_atomically

    config = load_config(options.config, settings)
    report = measure(config, options.steps, lambda text: print(f"{text} ...", file=sys.stderr))
    print("\n".join(lines(report)))
    if options.json_file is not None:
        write_atomically(options.json_file, json.dumps(report.as_record(), indent=1) + "\n")
    return 0


def lines(report: StepReport) -> list[str]:
    """Return the report as lines of a Markdown table."""
    whole, limits, work = report.whole, report.limits, report.device
    rows = [
        ("stage", "ms", "share", "GFLOP", "GB", "GFLOP/s", "GB/s", "ms at the limit", "of limit")
    ]
    for stage in (*report.stages, whole):
        seconds = stage.seconds or float("inf")
        rows.append(
            (
                stage.name,
                f"{stage.seconds * 1e3:.2f}",
                f"{stage.seconds / whole.seconds:.1%}",
                f"{stage.flops / 1e9:.3f}",
                f"{stage.bytes / 1e9:.3f}",
                f"{stage.flops / seconds / 1e9:.1f}",
                f"{stage.bytes / seconds / 1e9:.1f}",
                f"{stage.limit_seconds * 1e3:.2f}",
                f"{stage.of_limit:.0%}",
            )
        )
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    text = [
        f"{report.name}: {report.events:,.0f} events and {report.nodes:,.0f} distinct nodes "
        f"a step, medians of {report.steps} steps",
        "",
        head,
        "|---" * len(rows[0]) + "|",
        *body,
        "",
        f"limits: products of the step's shapes {limits.gemm_flops / 1e9:.1f} GFLOP/s, copies "
        f"{limits.copy_bytes / 1e9:.1f} GB/s, rows of memory at random "
        f"{limits.gather_bytes / 1e9:.1f} GB/s",
    ]
    if work is not None:
        text.append(
            f"GPU: {work.events_per_s:,.0f} events/s in steps one after the other, "
            f"{work.kernels:,.0f} kernels a step, busy {work.busy:.0%} of the time, at most "
            f"{work.peak_bytes / 2**20:,.0f} MiB of its memory"
        )
    return text
