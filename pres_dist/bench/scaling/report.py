"""Write the reports of a scaling bench: JSON by its schema, and a page."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pres_dist.bench.ledger import Ledger
from pres_dist.bench.report import HTML, JSON
from pres_dist.bench.scaling.fit import fits
from pres_dist.bench.scaling.page import write_scaling_page
from pres_dist.bench.scaling.plan import ScalingPlan
from pres_dist.bench.scaling.results import results
from pres_dist.bench.scaling.schema import Interconnect, Run, ScalingReport
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment


def write_scaling_reports(plan: ScalingPlan, ledger: Ledger) -> list[Path]:
    """Write report.json and report.html from the bench's folder.

    Returns:
        Paths of the written files: report.html only with plotly and jinja2.
    """
    report = scaling_report(plan, ledger)
    path, page = ledger.folder / JSON, ledger.folder / HTML
    write_atomically(path, report.model_dump_json(indent=1) + "\n")
    return [path, page] if write_scaling_page(page, report) else [path]


def scaling_report(plan: ScalingPlan, ledger: Ledger) -> ScalingReport:
    """Build the complete report from the runs in the folder."""
    found = results(plan, ledger)
    runs = [run for by_round in found.runs.values() for run in by_round.values()]
    points = list(found.points.values())
    written = describe_environment(plan.asked.seeds[0])
    return ScalingReport(
        name=plan.base.name,
        asked=plan.asked,
        config=plan.base.model_dump(mode="json"),
        environment=dict(found.environment or written),
        written=written,
        interconnect=_interconnect(runs),
        targets=dict(found.targets),
        reference=found.reference,
        points=points,
        fits=fits(points, plan.asked.launchers),
        runs=[run for run in runs if run.state != "new"],
    )


def _interconnect(runs: list[Run]) -> Interconnect:
    return Interconnect(
        backends=sorted({run.backend for run in runs if run.backend}),
        hosts=sorted({share.host for run in runs for share in run.shares}),
        interfaces=sorted({f"{n}={v}" for run in runs for n, v in run.interfaces.items()}),
        gpu_topology=_gpu_topology(),
    )


def _gpu_topology() -> str | None:
    command = ["nvidia-smi", "topo", "-m"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
