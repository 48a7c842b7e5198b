"""`pres-dist bench step CONFIG`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from pres_dist.cli.bench_options import Commands, positive
from pres_dist.config.options import add_overrides
from pres_dist.config.run import RunConfig
from pres_dist.files import user_path

if TYPE_CHECKING:
    from pres_dist.bench.step.device import DeviceWork
    from pres_dist.bench.step.measure import Stage, StepReport

SUMMARY = "a training step by stage, beside what the machine can do"


def add_to(commands: Commands) -> None:
    """Add the subcommand to `pres-dist bench`."""
    parser = commands.add_parser(
        "step",
        help=SUMMARY,
        description=f"{SUMMARY.capitalize()}: time, floating point operations and bytes of each "
        "stage, of one worker on one thread or a GPU. Every field of the configuration is also an "
        "option.",
        usage="pres-dist bench step CONFIG [--steps N] [--json FILE] [--SECTION.FIELD VALUE ...]",
    )
    parser.set_defaults(action=_step, takes_settings=True)
    parser.add_argument("config", metavar="CONFIG", type=user_path, help="YAML configuration file")
    parser.add_argument(
        "--steps",
        metavar="N",
        type=positive,
        default=20,
        help="steps from the middle of an epoch, of which medians are taken (default 20)",
    )
    parser.add_argument(
        "--json", metavar="FILE", type=user_path, help="also write the figures there"
    )
    add_overrides(parser, RunConfig)


def _step(arguments: argparse.Namespace) -> int:
    from pres_dist.bench.step.measure import measure
    from pres_dist.config.load import load_config
    from pres_dist.files import write_atomically

    config = load_config(arguments.config, arguments.overrides)
    report = measure(config, arguments.steps, lambda text: print(f"{text} ...", file=sys.stderr))
    for line in lines(report):
        print(line)
    if arguments.json is not None:
        write_atomically(arguments.json, json.dumps(report.as_record(), indent=1) + "\n")
    return 0


def lines(report: StepReport) -> list[str]:
    """Return the report as lines of a Markdown table."""
    limits = report.limits
    head = ("stage", "ms", "share", "GFLOP", "GB", "GFLOP/s", "GB/s", "ms at the limit", "of limit")
    whole = report.whole
    rows = [_row(stage, whole.seconds) for stage in (*report.stages, whole)]
    return [
        f"{report.name}: {report.events:,.0f} events and {report.nodes:,.0f} distinct nodes "
        f"a step, medians of {report.steps} steps",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *rows,
        "",
        f"limits: products of the step's shapes {limits.gemm_flops / 1e9:.1f} GFLOP/s, copies "
        f"{limits.copy_bytes / 1e9:.1f} GB/s, rows of memory at random "
        f"{limits.gather_bytes / 1e9:.1f} GB/s",
        *([] if report.device is None else [_on_device(report.device)]),
    ]


def _on_device(work: DeviceWork) -> str:
    return (
        f"GPU: {work.events_per_s:,.0f} events/s in steps one after the other, {work.kernels:,.0f} "
        f"kernels a step, busy {work.busy:.0%} of the time, at most {work.peak_bytes / 2**20:,.0f} "
        "MiB of its memory"
    )


def _row(stage: Stage, whole: float) -> str:
    seconds = stage.seconds or float("inf")
    cells = [
        stage.name,
        f"{stage.seconds * 1e3:.2f}",
        f"{stage.seconds / whole:.1%}",
        f"{stage.flops / 1e9:.3f}",
        f"{stage.bytes / 1e9:.3f}",
        f"{stage.flops / seconds / 1e9:.1f}",
        f"{stage.bytes / seconds / 1e9:.1f}",
        f"{stage.limit_seconds * 1e3:.2f}",
        f"{stage.of_limit:.0%}",
    ]
    return f"| {' | '.join(cells)} |"
