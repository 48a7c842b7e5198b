"""Exit codes of the `pres-dist` command."""

WORKER_LOST = 1
DIVERGED = 3
INTERRUPTED = 130
BROKEN_PIPE = 141
