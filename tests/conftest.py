"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no defect: examples have no time of their own, tests have pytest's timeout.
settings.register_profile("pres_dist", deadline=None)
settings.load_profile("pres_dist")
