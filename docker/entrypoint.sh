#!/bin/sh
# What the image runs: pres-dist with the arguments, or another program where the first one names it.
#   docker run pres-dist:cpu train /opt/pres_dist/configs/quickstart.yaml
#   docker run pres-dist:cpu torchrun --standalone --nproc-per-node=2 -m pres_dist train CONFIG
# Warns of what a container is often started without. PRES_DIST_SHM and PRES_DIST_GPU name
# other places than /dev/shm and /dev/nvidiactl (tests do).
set -eu

shm="${PRES_DIST_SHM:-/dev/shm}"
if [ -d "$shm" ]; then
    mebibytes=$(($(df -Pk "$shm" | awk 'NR == 2 { print $2 }') / 1024))
    if [ "$mebibytes" -lt 1024 ]; then
        echo "warning: $shm has $mebibytes MiB, and Ray wants more: docker run --shm-size=4g" >&2
    fi
fi
if [ "${PRES_DIST_VARIANT:-cpu}" = gpu ] && [ ! -e "${PRES_DIST_GPU:-/dev/nvidiactl}" ]; then
    echo "warning: no GPU can be seen, and training will use the CPU: docker run --gpus all" >&2
fi

case "${1:-}" in
    torchrun | ray | python | bash | sh) exec "$@" ;;
    *) exec pres-dist "$@" ;;
esac
