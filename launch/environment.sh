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

# prepare EXTRAS: makes the environment if need be and installs this checkout into it.
prepare() {
    local python
    if [[ ! -x "$venv/bin/python" ]]; then
        python="$(require_python)"
        "$python" -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet \
        -c "$repository/requirements/constraints.txt" -e "$repository[$1]"
}
