#!/usr/bin/env bash
# Train ResNet-101 with Caffe, from the latest snapshot if there is one.
#
#   ./train.sh            the GPUs that the solver is for
#   ./train.sh 2,3        these GPUs; each takes a batch
#   ./train.sh all        all that are there
#
# CAFFE names the binary.
set -euo pipefail
caffe=${CAFFE:-caffe}
case $caffe in
    /*) ;;
    */*) caffe=$PWD/$caffe ;;
esac
cd "$(dirname "$0")"
if ! command -v "$caffe" >/dev/null; then
    echo "$caffe: no such program; CAFFE=FILE names the caffe binary" >&2
    exit 127
fi
for file in train_lmdb val_lmdb; do
    if [ ! -e "$file" ]; then
        echo "$file: no such file or folder; the nets read it, as seen from $PWD" >&2
        exit 1
    fi
done
mkdir -p logs

latest() {
    ls resnet-101_iter_*.solverstate* 2>/dev/null | sort -V | tail -n 1
}

train() {
    local solver=$1
    shift
    local log
    log=logs/$(date +%Y%m%d-%H%M%S)-$solver.log
    "$caffe" train --solver "$solver.prototxt" --gpu "$gpus" "$@" 2>&1 | tee "$log" || {
        local status=$?
        if grep -q "CPU-only Caffe" "$log"; then
            echo "this Caffe is for CPUs: write the files with training.solver_mode=CPU and training.gpus=1" >&2
        fi
        return $status
    }
}

go_on() {
    local state
    state=$(latest || true)
    if [ -n "$state" ]; then
        echo "going on from $state" >&2
        train "$1" --snapshot "$state"
    else
        train "$1"
    fi
}

gpus=${1:-0,1,2,3,4,5,6,7}
go_on solver
