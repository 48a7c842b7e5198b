#!/usr/bin/env bash
# Installs pres_dist into a virtual environment and trains the quickstart configuration.
# Arguments go to `pres-dist train`, e.g. launch/quickstart.sh --training.epochs 1
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare data,report
exec "$venv/bin/pres-dist" train "$repository/configs/quickstart.yaml" "$@"
