#!/usr/bin/env bash
# Trains on several workers of this machine, each with a time slice of every temporal batch.
#
#   launch/torchrun.sh NUM_WORKERS CONFIG [what else `pres-dist train` takes]
#   launch/torchrun.sh 2 configs/quickstart.yaml --training.epochs 1
#
# When a worker dies, all are started again and go on from the newest checkpoint, MAX_RESTARTS
# times at the most (--training.checkpoint-every N takes one every N steps).
#
# What listens where: everything on 127.0.0.1 alone.
#   - torchrun's rendezvous would be a TCP server on all interfaces; here it is a file.
#   - torchrun would share that server with the workers; TORCH_DISABLE_SHARE_RDZV_TCP_STORE keeps
#     it from doing so, and worker 0 opens one on MASTER_ADDR, which --local-addr makes 127.0.0.1.
#   - gloo's connections between workers are on the interface that GLOO_SOCKET_IFNAME names;
#     NCCL's on NCCL_SOCKET_IFNAME.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
source "$here/environment.sh"
source "$here/workers.sh"

[[ $# -ge 2 ]] || fail "usage: launch/torchrun.sh NUM_WORKERS CONFIG [options of train]"
num_workers="$1"
shift
require_count "$num_workers" NUM_WORKERS
share_cores "$num_workers"
check_config "$@"

export GLOO_SOCKET_IFNAME=lo NCCL_SOCKET_IFNAME=lo
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
torchrun --nnodes=1 --nproc-per-node="$num_workers" --local-addr=127.0.0.1 \
    --rdzv-backend=c10d --rdzv-conf=store_type=file --rdzv-endpoint="$scratch/rendezvous" \
    --rdzv-id="$(hostname)-$$-$(date +%s)" \
    -m pres_dist train "$@"
