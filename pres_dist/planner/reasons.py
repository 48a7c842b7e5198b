"""Text that explains why a plan is recommended, or why none fits."""

from __future__ import annotations

from pres_dist.planner.choice import Bounds, Choice
from pres_dist.planner.units import duration


def why(best: Choice, fitting: list[Choice], fewer: list[Choice], bounds: Bounds) -> list[str]:
    """Return the reasons for the recommended plan, one per line."""
    fastest, plan = fitting[0], best.plan
    fit = "1 plan fits" if len(fitting) == 1 else f"{len(fitting)} plans fit"
    lines = [
        f"{fit}; {plan} is the fastest"
        if fastest is best
        else f"{fit}; {plan} takes {best.epoch_s / fastest.epoch_s - 1:.1%} "
        f"longer than the fastest, {fastest.plan}, and costs less accuracy"
    ]
    if plan.batch == bounds.batch:
        lines.append(f"its temporal batch is the largest that accuracy allows, {bounds.batch:,}")
    if plan.replicas > 1:
        lines.append(
            f"{plan.replicas} memory replicas give each step {plan.replicas} times the events; "
            "two cost 0.3 to 0.7 points of AP on wikipedia (docs/distributed.md)"
        )
    if plan.epochs > 1:
        lines.append(
            f"{plan.epochs} groups draw negatives of their own, at hardly any time: slices of "
            f"{plan.local_batch:,.1f} events are too small to gain by being cut further"
        )
    cost = best.cost
    shares = {
        "computing": cost.compute_s,
        "exchanging rows": cost.exchange_s,
        "adding up gradients": cost.reduce_s,
        "waiting for the slowest": cost.wait_s,
    }
    told = ", ".join(f"{part / cost.step_s:.0%} {name}" for name, part in shares.items())
    lines.append(f"of a step: {told}")
    quicker = min(fewer, key=lambda choice: choice.epoch_s, default=best)
    if quicker.epoch_s < best.epoch_s:
        lines.append(
            f"{_workers_are(quicker.plan.workers)} faster than {plan.workers:,}: an epoch takes "
            f"{duration(quicker.epoch_s)} and not {duration(best.epoch_s)}"
        )
    return lines


def _workers_are(number: int) -> str:
    return "1 worker is" if number == 1 else f"{number:,} workers are"


def _nearest(refused: list[Choice]) -> Choice:
    """Return the fastest of the plans with the fewest problems."""
    return min(refused, key=lambda choice: len(choice.problems))


def why_none(workers: int, refused: list[Choice], bounds: Bounds) -> list[str]:
    """Return the reasons why no plan fits, one per line."""
    if not refused:
        return [
            f"no plan: {workers:,} workers cannot be laid out as slices x epochs x replicas "
            f"with at most {bounds.epochs} epochs, {bounds.replicas} replicas and an event for "
            f"each slice of {bounds.batch:,}; --largest-batch, --largest-epochs and "
            "--largest-replicas allow more, fewer workers need less"
        ]
    nearest = _nearest(refused)
    return [
        f"the only plan, {nearest.plan}, does not fit because"
        if len(refused) == 1
        else f"none of {len(refused)} plans fits; {nearest.plan} does not because",
        *nearest.problems,
        "--spread PART,... tells what would be the plan if such parts were spread over workers, "
        "which this version does not do",
    ]
