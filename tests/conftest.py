"""What all tests share."""

from __future__ import annotations

import signal

from hypothesis import settings

# A busy machine is no defect: examples have no time of their own, tests have pytest's timeout.
settings.register_profile("pres_dist", deadline=None)
settings.load_profile("pres_dist")

# Test runs in the background inherit ignored signals, and hand them on to the processes that they
# start: tests of signals need the usual handling.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
