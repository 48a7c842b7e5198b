#!/usr/bin/env bash
# Does outside of Docker what the image's build and start do, for the CPU.
#   docker/check.sh [FOLDER]     a scratch folder; a temporary one that is removed, unless named
set -euo pipefail

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [[ $# -gt 0 ]]; then
    scratch="$1" && mkdir -p "$scratch"
else
    scratch="$(mktemp -d)" && trap 'rm -rf "$scratch"' EXIT
fi

"${PYTHON:-python3.11}" -m venv "$scratch/venv"
pip=("$scratch/venv/bin/pip" --quiet --disable-pip-version-check)
"${pip[@]}" install --require-hashes --only-binary :all: \
    ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} \
    -r "$repository/docker/requirements-cpu.txt"
"${pip[@]}" install --require-hashes --no-deps --no-build-isolation \
    -r "$repository/docker/requirements-source.txt"
mkdir -p "$scratch/src" "$scratch/work"
cp -r "$repository"/{setup.py,pyproject.toml,README.md,pres_dist} "$scratch/src/"
"${pip[@]}" install --no-deps --no-build-isolation "$scratch/src"
"$scratch/venv/bin/pip" check

export PATH="$scratch/venv/bin:$PATH" PRES_DIST_VARIANT=cpu DGLBACKEND=pytorch
cd "$scratch/work"
"$repository/docker/healthcheck.sh" runs 15
"$repository/docker/entrypoint.sh" train "$repository/configs/quickstart.yaml" \
    --data.max-events 20000 --training.epochs 1
"$repository/docker/entrypoint.sh" python -c "import dgl, ray, torch; print(torch.__version__, ray.__version__, dgl.__version__)"
"$repository/docker/healthcheck.sh" runs 15
echo "the image's environment works"
