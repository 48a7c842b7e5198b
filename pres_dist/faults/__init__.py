"""Faults on purpose: to rehearse on one's own cluster what happens when something dies.

    plan = FaultPlan().kill(rank=1, step=7).stall(shard=0, ms=500)
    subprocess.run(["torchrun", ...], env=os.environ | plan.environment(folder))

The processes of the launch read the plan from PRES_DIST_FAULTS. Each fault happens once in
a launch, although processes are started again: a file in the folder notes that it has.
"""

from pres_dist.faults.inject import failpoint, set_identity
from pres_dist.faults.plan import VARIABLE, Fault, FaultPlan

__all__ = ["VARIABLE", "Fault", "FaultPlan", "failpoint", "set_identity"]
