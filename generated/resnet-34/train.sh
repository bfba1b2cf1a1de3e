#!/usr/bin/env bash
# Train ResNet-34 with Caffe, from the latest snapshot if there is one.
#
#   ./train.sh            all GPUs
#   ./train.sh 0,1        these GPUs
#
# CAFFE names the binary, MPIRUN what starts several nodes.
set -euo pipefail
cd "$(dirname "$0")"
caffe=${CAFFE:-caffe}
mkdir -p logs

latest() {
    ls resnet-34_iter_*.solverstate* 2>/dev/null | sort -V | tail -n 1
}

train() {
    local solver=$1
    shift
    local log
    log=logs/$(date +%Y%m%d-%H%M%S)-$solver.log
    "$caffe" train --solver "$solver.prototxt" "${gpus[@]}" "$@" 2>&1 | tee "$log"
}

gpus=(--gpu "${1:-all}")
state=$(latest || true)
if [ -n "$state" ]; then
    echo "going on from $state" >&2
    train solver --snapshot "$state"
else
    train solver
fi
