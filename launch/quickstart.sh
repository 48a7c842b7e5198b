#!/usr/bin/env bash
# Installs pres_dist into a virtual environment and trains the quickstart configuration on a Ray
# cluster of this machine alone, with two workers.
# Arguments go to `pres-dist ray`, e.g. launch/quickstart.sh --training.epochs 1
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare run
exec "$venv/bin/pres-dist" ray "$repository/configs/quickstart.yaml" --num-workers 2 "$@"
