"""`pres-dist bench scaling CONFIG`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pres_dist.bench.scaling.scaling_config import Launcher, Mode, Positive, ScalingConfig
from pres_dist.cli.options import (
    Argument,
    BenchOptions,
    ConfigOptions,
    Listed,
    parse_with_settings,
)
from pres_dist.config.base import Seed
from pres_dist.exit_codes import UNFINISHED


class ScalingOptions(ConfigOptions, BenchOptions):
    """Measure speed, efficiency and accuracy by number of workers.

    Both strong and weak scaling are measured, with several seeds. Every field of the configuration
    is also an option.
    """

    workers: Annotated[Listed[Positive], Argument("N,...")] = Field(default=[1, 2])
    """Numbers of workers."""
    launcher: Annotated[Listed[Launcher], Argument("NAME,...")] = Field(default=["torchrun"])
    """Launchers of the workers."""
    mode: Annotated[Listed[Mode], Argument("NAME,...")] = Field(default=["strong", "weak"])
    """strong: the configured temporal batch for all workers together; weak: for each worker."""
    seeds: Annotated[Listed[Seed], Argument("N,...")] = Field(default=[0, 1])
    """Values of training.seed."""
    repeats: Positive = 1
    """Number of runs of each seed."""
    reference: Annotated[list[str], Argument("NAME=VALUE,...", many=True)] = Field(default=[])
    """Another one-worker configuration to try; may be repeated. Efficiency is relative to the
    fastest of all."""
    targets: Annotated[Listed[float], Argument("AP,...")] = Field(default=[-0.01])
    """Validation AP to time; 0 or below is relative to the best of one worker (write
    --targets=-0.01)."""
    nice: int = Field(0, ge=0)
    """Niceness of the runs."""


def main(argv: list[str]) -> int:
    """Measure speed, efficiency and accuracy by number of workers."""
    options, settings = parse_with_settings("bench scaling", ScalingOptions, argv)

    from pres_dist.bench.ledger import Ledger
    from pres_dist.bench.runner import Runner, Watch
    from pres_dist.bench.scaling.scaling_report import write_scaling_reports
    from pres_dist.bench.scaling.scaling_spec import ScalingSpec
    from pres_dist.launchers.ray_cluster import require_ray

    if "ray" in options.launcher:
        require_ray("--launcher ray")
    asked = ScalingConfig(
        workers=sorted(options.workers),
        modes=options.mode,
        launchers=options.launcher,
        seeds=options.seeds,
        repeats=options.repeats,
        targets=options.targets,
        references=options.reference,
    )
    spec = ScalingSpec(asked, options.config, settings)
    runs = list(spec.runs())
    ledger = Ledger(options.out or Path("runs") / f"scaling-{spec.base.name}")
    if options.dry_run:
        for run in runs:
            print(f"{ledger.state(run):<9}{run.label}")
        return 0
    ledger.create()
    watch = Watch(ledger, lambda: runs, partial(print, flush=True))
    try:
        if not options.report_only:
            # One at a time: two runs would compete for the cores.
            Runner(ledger, 1, options.nice, watch).run(runs)
    finally:
        for path in write_scaling_reports(spec, ledger):
            print(f"report: {path}")
    return 0 if options.report_only or watch.all_finished() else UNFINISHED
