#!/bin/sh
# healthcheck.sh RUNS MINUTES: whether the newest run in the folder RUNS gets on.
# It does where it has written metrics in the last MINUTES, or has its results, or where
# there is no run yet (the container may serve another purpose).
set -eu

# Names of run folders hold neither spaces nor line ends.
# shellcheck disable=SC2012
newest=$(ls -t "$1"/*/metrics.jsonl 2>/dev/null | head -n 1)
[ -n "$newest" ] || exit 0
[ ! -e "$(dirname "$newest")/results.json" ] || exit 0
if [ -z "$(find "$newest" -mmin "-$2")" ]; then
    echo "$newest: nothing written for $2 minutes"
    exit 1
fi
