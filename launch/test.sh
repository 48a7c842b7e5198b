#!/usr/bin/env bash
# Installs pres_dist with its development tools and runs every check.
# Arguments go to pytest, e.g. launch/test.sh tests/config, or launch/test.sh --nightly for the full
# matrix.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# Tests compute on small tensors, several processes at a time: threads only wait for each other.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

prepare dev
cd "$repository"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
# import-linter has no release for Python 3.10.
if [[ -x "$venv/bin/lint-imports" ]]; then "$venv/bin/lint-imports"; fi
# A process for each core; one that has no tests left takes half of another's.
exec "$venv/bin/python" -m pytest -n auto --dist worksteal "$@"
