# Sourced by the torchrun scripts, after environment.sh: what they have in common.
#
#   MAX_RESTARTS     how often workers are started again after one of them died (default: 3)
#   OMP_NUM_THREADS  threads of one worker (default: the cores of the machine shared out evenly)

max_restarts="${MAX_RESTARTS:-3}"

# The interpreter that has pres_dist: that of the virtual environment if there is one.
if [[ -x "$venv/bin/python" ]]; then
    python="$venv/bin/python"
else
    python="$(command -v "${PYTHON:-python3}")" || fail "Python was not found; set PYTHON or PRES_DIST_VENV"
fi

# Holds torchrun's own files; gone when the script ends. A script that is killed leaves it: the
# next one removes it once nobody has its lock, which the agent inherits.
scratch="$(mktemp -d "${TMPDIR:-/tmp}/pres-dist-launch-XXXXXXXXXX")"
trap 'rm -rf "$scratch"' EXIT
if command -v flock >/dev/null; then
    exec 9<"$scratch"
    flock 9
    # One that is younger may belong to a script that has not locked it yet.
    find "${TMPDIR:-/tmp}" -maxdepth 1 -type d -name 'pres-dist-launch-??????????' \
        -user "$(id -u)" -mmin +1 -exec flock --nonblock {} rm -rf {} \; 2>/dev/null || true
fi

require_count() {
    [[ "$1" =~ ^[1-9][0-9]*$ ]] || fail "$2 must be a whole number >= 1, got '$1'"
}

share_cores() {
    local threads=$(($(nproc) / $1))
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}"
}

# A wrong configuration should be told once, and not by every worker at every restart.
check_config() {
    "$python" -m pres_dist train "$@" --print-config >"$scratch/config.yaml" || exit $?
}

# How long workers have after SIGTERM to finish their step and leave a checkpoint, before SIGKILL:
# a little less than the thirty seconds that clouds and Kubernetes give. So long it takes, too,
# until a worker that was stopped, and hears no SIGTERM, is replaced.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-25}"

# Runs torchrun and hands signals on to it, which ends all workers; its exit code is ours. Where this
# script is killed, the agent ends the workers by itself, and removes the folder.
torchrun() {
    local launcher=$BASHPID
    PRES_DIST_LAUNCHER="$launcher" "$python" -m pres_dist.parallel.agent \
        --max-restarts="$max_restarts" --log-dir="$scratch" "$@" &
    local agent=$! code=0
    trap 'kill -TERM "$agent" 2>/dev/null' TERM HUP
    trap 'kill -INT "$agent" 2>/dev/null' INT
    wait "$agent" || code=$?
    while kill -0 "$agent" 2>/dev/null; do # a signal ended the wait, not the agent
        code=0
        wait "$agent" || code=$?
    done
    return "$code"
}
