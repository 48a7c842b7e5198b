#!/usr/bin/env bash
# Does outside of Docker what the image's build and start do, for the CPU.
#   docker/check.sh [FOLDER]     a scratch folder; a temporary one that is removed, unless named
#
# The commands are those of the Dockerfile's first stage, with FOLDER for the root of the image.
set -euo pipefail

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [[ $# -gt 0 ]]; then
    mkdir -p "$1" && scratch="$(cd "$1" && pwd)"
else
    scratch="$(mktemp -d)" && trap 'rm -rf "$scratch"' EXIT
fi
export PIP_QUIET=1

# stage NUMBER: a stage of the Dockerfile, an instruction a line, with paths below FOLDER.
stage() {
    sed -e ':join' -e '/\\$/{N;s/\\\n//;b join' -e '}' "$repository/docker/Dockerfile" |
        awk -v number="$1" '/^FROM / { seen++ } seen == number' |
        sed -E "s#(^|[ \"=])/(opt|tmp|src)#\1$scratch/\2#g"
}

# The image's python; the stage makes the environment with it.
python() {
    "${PYTHON:-python3.11}" "$@"
}

mkdir -p "$scratch"/{opt,tmp,work}
rm -rf "$scratch/src" && mkdir "$scratch/src"
build="$(stage 1 | sed -nE \
    -e 's/^RUN //p' \
    -e 's/^COPY /cp -r /p' \
    -e 's/^ENV /export /p' \
    -e 's/^ARG ([A-Z_]+)=(.*)/: "${\1=\2}"/p')"
cd "$repository"
eval "$build"

eval "$(stage 2 | sed -nE 's/^ENV /export /p')"
export PRES_DIST_VARIANT=cpu
cd "$scratch/work"
"$repository/docker/healthcheck.sh" runs 15
"$repository/docker/entrypoint.sh" train "$repository/configs/quickstart.yaml" \
    --data.max-events 20000 --training.epochs 1
"$repository/docker/entrypoint.sh" python -c "import dgl, ray, torch; print(torch.__version__, ray.__version__, dgl.__version__)"
"$repository/docker/healthcheck.sh" runs 15
echo "the image's environment works"
