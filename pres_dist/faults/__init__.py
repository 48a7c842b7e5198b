"""Fault injection: test on your own cluster how a run handles failures.

    plan = FaultPlan().kill(rank=1, step=7).stall(shard=0, ms=500)
    subprocess.run(["torchrun", ...], env=os.environ | plan.environment(folder))

The processes of the launch read the plan from PRES_DIST_FAULTS. Each fault happens once in
a launch, even if processes restart: a file in the folder records that it has happened.
"""

from pres_dist.faults.inject import failpoint, set_identity
from pres_dist.faults.plan import VARIABLE, Fault, FaultPlan

__all__ = ["VARIABLE", "Fault", "FaultPlan", "failpoint", "set_identity"]
