"""Aggregate the runs of a scaling bench into points, and write its reports."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pres_dist.bench.estimates import estimate
from pres_dist.bench.ledger import Ledger
from pres_dist.bench.run_records import time_to
from pres_dist.bench.scaling.report_schema import (
    Candidate,
    Interconnect,
    Interval,
    Point,
    Reference,
    Run,
    ScalingReport,
    WorkerShare,
)
from pres_dist.bench.scaling.run_figures import (
    OF_SEEDS,
    QUANTITIES,
    Measured,
    imbalance,
    measured,
)
from pres_dist.bench.scaling.scaling_config import Mode
from pres_dist.bench.scaling.scaling_fits import fits
from pres_dist.bench.scaling.scaling_page import write_scaling_page
from pres_dist.bench.scaling.scaling_spec import Round, ScalingRun, ScalingSpec, Setup
from pres_dist.bench.sweep_report import HTML, JSON
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment

_LINES_OF_A_FAILURE = 3


def write_scaling_reports(spec: ScalingSpec, ledger: Ledger) -> list[Path]:
    """Write report.json and report.html from the bench's folder.

    Returns:
        Paths of the written files: report.html only with plotly and jinja2.
    """
    report = scaling_report(spec, ledger)
    path, page = ledger.folder / JSON, ledger.folder / HTML
    write_atomically(path, report.model_dump_json(indent=1) + "\n")
    return [path, page] if write_scaling_page(page, report) else [path]


def scaling_report(spec: ScalingSpec, ledger: Ledger) -> ScalingReport:
    """Build the complete report from the runs in the folder."""
    found = {
        setup: {at: _read(spec.run(setup, at), ledger) for at in spec.rounds}
        for setup in spec.modes
    }
    alone = [setup for setup in found if setup.workers == 1]
    aps = [_mean((run for run, _ in found[setup].values()), "validation_ap") for setup in alone]
    targets = _targets(spec.asked.targets, [ap for ap in aps if ap is not None])
    runs = {
        setup: {at: _timed(run, told, targets) for at, (run, told) in rounds.items()}
        for setup, rounds in found.items()
    }
    candidates = {setup: _candidate(setup, list(runs[setup].values())) for setup in alone}
    rates = {s: one.events_per_second for s, one in candidates.items() if one.events_per_second}
    # The fastest of all, or speed-up would grow with the inefficiency of the baseline.
    best = max(rates, key=lambda setup: rates[setup], default=None)
    against = runs[best] if best else {}
    points = [
        _point(setup, spec.modes[setup], rounds, against, targets) for setup, rounds in runs.items()
    ]
    environments = [
        told.environment for rounds in found.values() for _, told in rounds.values() if told
    ]
    written = dict(describe_environment(spec.asked.seeds[0]))
    all_runs = [run for rounds in runs.values() for run in rounds.values()]
    return ScalingReport(
        name=spec.base.name,
        asked=spec.asked,
        config=spec.base.model_dump(mode="json"),
        environment=dict(
            max(environments, key=lambda one: str(one["date"])) if environments else written
        ),
        written=written,
        interconnect=Interconnect(
            backends=sorted({run.backend for run in all_runs if run.backend}),
            hosts=sorted({share.host for run in all_runs for share in run.shares}),
            interfaces=sorted({f"{n}={v}" for run in all_runs for n, v in run.interfaces.items()}),
            gpu_topology=_gpu_topology(),
        ),
        targets=targets,
        reference=Reference(
            chosen=candidates[best] if best else None, candidates=list(candidates.values())
        ),
        points=points,
        fits=fits(points, spec.asked.launchers),
        runs=[run for run in all_runs if run.state != "new"],
    )


def _gpu_topology() -> str | None:
    command = ["nvidia-smi", "topo", "-m"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _read(run: ScalingRun, ledger: Ledger) -> tuple[Run, Measured | None]:
    """Read a run from the folder, with its measurements if it finished successfully."""
    setup, state = run.setup, ledger.state(run)
    error, log = None, ledger.file(run, ".log")
    if state == "failed" and log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        error = "\n".join([line for line in lines if line.strip()][-_LINES_OF_A_FAILURE:])
    fields = {
        **vars(setup),
        "changes": dict(setup.changes),
        "seed": run.seed,
        "repeat": run.repeat,
        "state": state,
        "fingerprint": run.fingerprint,
        "error": error,
    }
    record = ledger.record(run)
    if record is None or state != "done":
        return Run(**fields), None
    told = measured(ledger.run_dir(run), record)
    fields |= {
        "date": record["date"],
        "git_commit": record["git_commit"],
        "backend": told.backend,
        "interfaces": told.environment.get("interfaces", {}),
        "oversubscribed": told.oversubscribed,
        "figures": {name: quantity.of(told) for name, quantity in QUANTITIES.items()},
        "epochs": list(told.epochs),
        "shares": list(told.shares),
        "staleness": dict(told.staleness),
    }
    return Run(**fields), told


def _timed(run: Run, told: Measured | None, targets: Mapping[str, float]) -> Run:
    if told is None:
        return run
    times = {name: time_to(told.record, ap, "train_seconds") for name, ap in targets.items()}
    return run.model_copy(update={"time_to": times})


def _targets(asked: Sequence[float], aps: Sequence[float]) -> dict[str, float]:
    """Return the target validation APs by label; relative ones need APs of one worker."""
    targets = {}
    for target in asked:
        if target > 0:
            targets[f"{target:g}"] = target
        elif aps:
            targets[f"best{target:+g}" if target else "best"] = max(aps) + target
    return targets


def _mean(runs: Iterable[Run], name: str) -> float | None:
    """Return the mean of a figure over the runs that have it; None without any."""
    found = estimate(run.figures.get(name) for run in runs)
    return None if found is None else found.mean


def _candidate(setup: Setup, runs: Sequence[Run]) -> Candidate:
    return Candidate(
        launcher=setup.launcher,
        batch_size=setup.batch_size,
        changes=dict(setup.changes),
        events_per_second=_mean(runs, "events_per_second"),
        test_ap=_mean(runs, "test_ap"),
    )


def _point(
    setup: Setup,
    modes: Sequence[Mode],
    by_round: Mapping[Round, Run],
    against: Mapping[Round, Run],
    targets: Mapping[str, float],
) -> Point:
    runs = list(by_round.values())
    done = [run for run in runs if run.state == "done"]
    speed_ups = []  # by round, in which other load on the machine affects both runs
    for at, run in by_round.items():
        rate = run.figures.get("events_per_second")
        base = against[at].figures.get("events_per_second") if at in against else None
        speed_ups.append(rate / base if rate and base else None)
    times = {name: [run.time_to.get(name) for run in done] for name in targets}
    shares = [_mean_share(own) for own in zip(*(run.shares for run in done), strict=True)]
    staleness: Counter[str] = Counter()
    for run in done:
        staleness.update(run.staleness)
    ranges = zip(*(share.compute_by_range for share in shares), strict=False)
    balance = [imbalance(seconds) for seconds in ranges]
    return Point(
        **vars(setup) | {"changes": dict(setup.changes)},
        modes=list(modes),
        planned=len(runs),
        done=len(done),
        diverged=sum(run.state == "diverged" for run in runs),
        failed=sum(run.state == "failed" for run in runs),
        oversubscribed=any(run.oversubscribed for run in done),
        stands_in=any(share.device == "cpu" for share in shares),
        figures={name: _figure(name, done) for name in QUANTITIES},
        speed_up=_interval(speed_ups),
        efficiency=_interval(r / setup.workers for r in speed_ups if r is not None),
        time_to={name: _interval(seconds) for name, seconds in times.items()},
        reached={name: sum(s is not None for s in seconds) for name, seconds in times.items()},
        shares=shares,
        balance_by_range=[value for value in balance if value is not None],
        staleness=dict(sorted(staleness.items(), key=lambda item: int(item[0]))),
    )


def _figure(name: str, runs: Sequence[Run]) -> Interval | None:
    """Average a figure over runs.

    Repeats of a seed have equal quality, so figures of quality are averaged over seeds alone.
    """
    if name not in OF_SEEDS:
        return _interval(run.figures[name] for run in runs)
    return _interval({run.seed: run.figures[name] for run in runs}.values())


def _interval(values: Iterable[float | None]) -> Interval | None:
    """Return the mean and 95% interval of the values that are not None."""
    known = [value for value in values if value is not None]
    found = estimate(known)
    if found is None:
        return None
    return Interval(**vars(found), lowest=min(known), highest=max(known))


def _mean_share(shares: Sequence[WorkerShare]) -> WorkerShare:
    """Average one worker's share over several runs."""
    first = shares[0]
    ranges = zip(*(share.compute_by_range for share in shares), strict=False)
    devices = [s.peak_device_bytes for s in shares if s.peak_device_bytes is not None]
    averaged = ("local_bytes", "remote_bytes", "gradient_bytes", "peak_host_bytes")
    return first.model_copy(
        update={
            "seconds": {
                stage: fmean(share.seconds[stage] for share in shares) for stage in first.seconds
            },
            "compute_by_range": [fmean(seconds) for seconds in ranges],
            **{name: fmean(getattr(share, name) for share in shares) for name in averaged},
            "peak_device_bytes": fmean(devices) if devices else None,
        }
    )
