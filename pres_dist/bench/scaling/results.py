"""Aggregate the runs of a scaling bench into points, and choose the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pres_dist.bench.ledger import Ledger
from pres_dist.bench.records import time_to
from pres_dist.bench.scaling.measure import QUANTITIES, Measured, imbalance, measured
from pres_dist.bench.scaling.plan import Round, ScalingPlan, ScalingRun, Setup
from pres_dist.bench.scaling.schema import (
    Candidate,
    Interval,
    Point,
    Reference,
    Run,
    WorkerShare,
)
from pres_dist.bench.statistics import estimate

BySetup = Mapping[Setup, Mapping[Round, Run]]
_LINES_OF_A_FAILURE = 3


@dataclass(frozen=True)
class Results:
    """Results of a bench.

    Attributes:
        environment: environment of the newest finished run; None without any.
    """

    runs: BySetup
    reference: Reference
    targets: Mapping[str, float]
    points: Mapping[Setup, Point]
    environment: Mapping[str, Any] | None


def results(plan: ScalingPlan, ledger: Ledger) -> Results:
    """Read and aggregate every run in the folder."""
    found = {
        setup: {at: _read(plan.run(setup, at), ledger) for at in plan.rounds}
        for setup in plan.modes
    }
    alone = {setup: rounds for setup, rounds in found.items() if setup.workers == 1}
    targets = _targets(plan, alone.values())
    runs = {
        setup: {at: _timed(run, told, targets) for at, (run, told) in rounds.items()}
        for setup, rounds in found.items()
    }
    candidates = {setup: _candidate(setup, runs[setup].values()) for setup in alone}
    best = _fastest(candidates)
    against = runs[best] if best else {}
    return Results(
        runs=runs,
        reference=Reference(
            chosen=candidates[best] if best else None, candidates=list(candidates.values())
        ),
        targets=targets,
        points={setup: _point(plan, setup, runs[setup], against, targets) for setup in plan.modes},
        environment=_newest(told for rounds in found.values() for _, told in rounds.values()),
    )


def _fastest(candidates: Mapping[Setup, Candidate]) -> Setup | None:
    rates = {s: one.events_per_second for s, one in candidates.items() if one.events_per_second}
    return max(rates, key=lambda setup: rates[setup], default=None)


def _newest(runs: Iterable[Measured | None]) -> Mapping[str, Any] | None:
    """Return the environment of the newest run; None without any."""
    environments = [told.environment for told in runs if told is not None]
    return max(environments, key=lambda environment: str(environment["date"]), default=None)


def mean(runs: Iterable[Run], name: str = "events_per_second") -> float | None:
    """Return the mean of a figure over the runs that have it; None without any."""
    found = estimate(run.figures.get(name) for run in runs)
    return None if found is None else found.mean


def interval(values: Iterable[float | None]) -> Interval | None:
    """Return the mean and 95% interval of the values that are not None."""
    known = [value for value in values if value is not None]
    found = estimate(known)
    if found is None:
        return None
    return Interval(**vars(found), lowest=min(known), highest=max(known))


def _read(run: ScalingRun, ledger: Ledger) -> tuple[Run, Measured | None]:
    """Read a run from the folder, with its measurements if it finished successfully."""
    setup, state = run.setup, ledger.state(run)
    described = {
        "launcher": setup.launcher,
        "workers": setup.workers,
        "batch_size": setup.batch_size,
        "changes": dict(setup.changes),
        "seed": run.seed,
        "repeat": run.repeat,
        "state": state,
        "fingerprint": run.fingerprint,
        "error": _last_words(ledger.file(run, ".log")) if state == "failed" else None,
    }
    record = ledger.record(run)
    if record is None or state != "done":
        return Run.model_validate(described), None
    told = measured(ledger.run_dir(run), record)
    figures = {name: quantity.of(told) for name, quantity in QUANTITIES.items()}
    return Run(
        **described,
        date=record["date"],
        git_commit=record["git_commit"],
        backend=told.backend,
        interfaces=told.environment.get("interfaces", {}),
        oversubscribed=told.oversubscribed,
        figures=figures,
        epochs=list(told.epochs),
        shares=list(told.shares),
        staleness=dict(told.staleness),
    ), told


def _timed(run: Run, told: Measured | None, targets: Mapping[str, float]) -> Run:
    if told is None:
        return run
    times = {name: time_to(told.record, ap, "train_seconds") for name, ap in targets.items()}
    return run.model_copy(update={"time_to": times})


def _last_words(log: Path) -> str | None:
    """Return the last lines of a failed run's log."""
    if not log.exists():
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line for line in lines if line.strip()][-_LINES_OF_A_FAILURE:])


def _targets(
    plan: ScalingPlan, alone: Iterable[Mapping[Round, tuple[Run, Measured | None]]]
) -> dict[str, float]:
    """Return the target validation APs by label; relative targets need one-worker results.

    Args:
        plan: bench with the targets.
        alone: runs of each one-worker configuration.
    """
    means = [mean((run for run, _ in rounds.values()), "validation_ap") for rounds in alone]
    best = max((ap for ap in means if ap is not None), default=None)
    targets = {}
    for target in plan.asked.targets:
        if target > 0:
            targets[f"{target:g}"] = target
        elif best is not None:
            targets[f"best{target:+g}" if target else "best"] = best + target
    return targets


def _candidate(setup: Setup, runs: Iterable[Run]) -> Candidate:
    runs = list(runs)
    return Candidate(
        launcher=setup.launcher,
        batch_size=setup.batch_size,
        changes=dict(setup.changes),
        events_per_second=mean(runs),
        test_ap=mean(runs, "test_ap"),
    )


def _point(
    plan: ScalingPlan,
    setup: Setup,
    by_round: Mapping[Round, Run],
    against: Mapping[Round, Run],
    targets: Mapping[str, float],
) -> Point:
    runs = list(by_round.values())
    done = [run for run in runs if run.state == "done"]
    ratios = [_ratio(run, against.get(at)) for at, run in by_round.items()]
    times = {name: [run.time_to.get(name) for run in done] for name in targets}
    shares = _mean_shares([run.shares for run in done])
    return Point(
        launcher=setup.launcher,
        workers=setup.workers,
        batch_size=setup.batch_size,
        changes=dict(setup.changes),
        modes=plan.modes[setup],
        planned=len(runs),
        done=len(done),
        diverged=sum(run.state == "diverged" for run in runs),
        failed=sum(run.state == "failed" for run in runs),
        oversubscribed=any(run.oversubscribed for run in done),
        stands_in=any(share.device == "cpu" for share in shares),
        figures={name: _figure(name, done) for name in QUANTITIES},
        speed_up=interval(ratios),
        efficiency=interval(r / setup.workers for r in ratios if r is not None),
        time_to={name: interval(seconds) for name, seconds in times.items()},
        reached={name: sum(s is not None for s in seconds) for name, seconds in times.items()},
        shares=shares,
        balance_by_range=_balance_by_range(shares),
        staleness=_added_up(run.staleness for run in done),
    )


def _figure(name: str, runs: Sequence[Run]) -> Interval | None:
    """Average a figure over runs.

    Repeats of a seed have equal quality, so figures of quality are averaged over seeds alone.
    """
    if name not in OF_SEEDS:
        return interval(run.figures[name] for run in runs)
    return interval({run.seed: run.figures[name] for run in runs}.values())


OF_SEEDS = (
    *("test_ap", "test_auc", "test_mrr", "validation_ap", "gate", "coherence", "prediction_ratio"),
    *("pending_events_mean", "pending_events_max", "pending_share"),
)
"""Figures that are equal in each repeat of a seed."""


def _ratio(run: Run, other: Run | None) -> float | None:
    """Return the events/s of a run relative to another run."""
    rate = run.figures.get("events_per_second")
    base = other.figures.get("events_per_second") if other else None
    return rate / base if rate and base else None


def _mean_shares(runs: Sequence[Sequence[WorkerShare]]) -> list[WorkerShare]:
    """Average each worker's share over runs."""
    return [_mean_share(shares) for shares in zip(*runs, strict=True)]


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


def _balance_by_range(shares: Sequence[WorkerShare]) -> list[float]:
    ranges = zip(*(share.compute_by_range for share in shares), strict=False)
    return [value for seconds in ranges if (value := imbalance(seconds)) is not None]


def _added_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return dict(sorted(total.items(), key=lambda item: int(item[0])))
