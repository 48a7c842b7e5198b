#!/usr/bin/env bash
# Trains on the workers of several machines. Run the same command on every one of them:
#
#   HEAD=node1 NNODES=2 RUN_ID=try-1 launch/torchrun_nodes.sh NUM_WORKERS CONFIG --run-dir DIR ...
#
# NUM_WORKERS is the number on each machine. CONFIG, the stream and DIR must be found under the
# same path everywhere: after a restart the workers read the checkpoint that one of them wrote.
#
#   HEAD       host name or address of the machine that holds the rendezvous, :PORT if not 29400
#   NNODES     number of machines
#   RUN_ID     a name that no other launch has, the same on all machines
#   INTERFACE  network interface between the machines, e.g. eth1 (default: chosen by gloo and NCCL)
#   LOCAL_ADDR address of this machine for the others (default: its host name)
#   IS_HEAD    1 on HEAD and 0 elsewhere (default: found out from HEAD and the host name)
#
# What listens where: on HEAD, torchrun's TCP store, on PORT of *all* interfaces; beside worker 0
# the workers' own store, on a free port of all interfaces; in every worker the connections of
# gloo or NCCL, on INTERFACE. None of them asks for a password: use a private network, or a
# firewall that lets in only the machines of the run.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
source "$here/environment.sh"
source "$here/workers.sh"

[[ $# -ge 2 ]] || fail "usage: HEAD=host NNODES=N RUN_ID=NAME launch/torchrun_nodes.sh NUM_WORKERS CONFIG --run-dir DIR [options of train]"
for name in HEAD NNODES RUN_ID; do
    [[ -n "${!name:-}" ]] || fail "$name must be set; the comment at the top of $0 says to what"
done
num_workers="$1"
shift
require_count "$num_workers" NUM_WORKERS
require_count "$NNODES" NNODES
[[ " $*" == *" --run-dir"[=\ ]* ]] ||
    fail "--run-dir is needed on several machines: a folder that all of them see"
share_cores "$num_workers"
check_config "$@"

if [[ -n "${INTERFACE:-}" ]]; then
    export GLOO_SOCKET_IFNAME="$INTERFACE" NCCL_SOCKET_IFNAME="$INTERFACE"
fi
# Torchrun's own store outlives a restart, and workers would read the addresses of dead ones.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
[[ "$HEAD" == *:* ]] || HEAD="$HEAD:29400"
torchrun --nnodes="$NNODES" --nproc-per-node="$num_workers" \
    --rdzv-backend=c10d --rdzv-endpoint="$HEAD" --rdzv-id="$RUN_ID" \
    ${IS_HEAD:+--rdzv-conf="is_host=$IS_HEAD"} ${LOCAL_ADDR:+--local-addr="$LOCAL_ADDR"} \
    -m pres_dist train "$@"
