"""`python -m pres_dist` is `pres-dist`."""

from pres_dist.cli.main import entry

entry()
