"""Exit codes of the `pres-dist` command."""

WORKER_LOST = 1
UNFINISHED = 1
"""A benchmark with a run that has not finished."""
NO_LAYOUT = 1
"""A plan for which no layout fits: a result, not an error of the user."""
DIVERGED = 3
INTERRUPTED = 130
BROKEN_PIPE = 141
