# Sourced by the other launch scripts: a virtual environment with pres_dist in it.
#
#   PRES_DIST_VENV  where the virtual environment is (default: .venv in the repository)
#   PYTHON          the interpreter that makes it (default: python3)

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${PRES_DIST_VENV:-$repository/.venv}"

fail() {
    echo "error: $1" >&2
    exit 2
}

require_python() {
    local python="${PYTHON:-python3}"
    command -v "$python" >/dev/null || fail "Python 3.10 or newer is needed; $python was not found"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "Python 3.10 or newer is needed, $python is $("$python" --version 2>&1); set PYTHON"
    echo "$python"
}

# prepare run|dev: makes the environment if need be and installs this checkout into it, with what
# requirements/lock-run.txt or lock-dev.txt names: exact versions, and files by their hashes.
prepare() {
    local python locks="$repository/requirements"
    if [[ ! -x "$venv/bin/python" ]]; then
        python="$(require_python)"
        "$python" -m venv "$venv"
    fi
    echo "installing the locked packages into $venv" >&2
    install --require-hashes -r "$locks/lock-build.txt"
    # Built without isolation, which would fetch a build backend that no lock names.
    install --require-hashes --no-build-isolation --use-pep517 -r "$locks/lock-$1.txt"
    # PyPI has no build of torch for CPUs: it is taken where pip is told of a place that has it.
    has_torch || install --require-hashes -r "$locks/lock-torch-cpu.txt" ||
        echo "pip finds no build of torch for CPUs; taking PyPI's, with CUDA on Linux" >&2
    has_torch || install --require-hashes -r "$locks/lock-torch-gpu.txt"
    install --no-build-isolation -e "$repository"
    "$venv/bin/python" -m pip check >&2
}

# The locks name everything, so that nothing is resolved. What pip does is shown, line by line.
install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps "$@" |
        sed -u '/^Requirement already satisfied/d; s/ (from -r .*//' >&2
}

# Whether the locked version of torch is installed, in either build.
has_torch() {
    "$venv/bin/python" - "$repository/requirements/lock-torch-cpu.txt" <<'END'
import re, sys
from importlib.metadata import PackageNotFoundError, version
locked = re.search(r"^torch==([^ +]+)", open(sys.argv[1]).read(), re.MULTILINE)
try:
    sys.exit(version("torch").partition("+")[0] != locked[1])
except PackageNotFoundError:
    sys.exit(1)
END
}
