#!/usr/bin/env bash
# The paper's claim on digits: a deeper plain net trains worse than a shallower one, and a deeper
# residual net does not. Four nets, several seeds, the real Caffe, one table and one picture.
#
#     CAFFE=.../caffe bash examples/degradation/run.sh out
#
# The folder is made; a training that is done in it is not done again.
#
#     SEEDS       of the weights' fillers (default: 1 2 3 4 5)
#     ITERATIONS  of each training (default: 3000)
#     JOBS        trainings at a time (default: one for each processor)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export CAFFE=${CAFFE:-$(bash "$here/../build-caffe.sh" --find)}
export OPENBLAS_NUM_THREADS=1 # two trainings at a time are faster than one with two threads
out=${1:?"a folder for data, nets and logs"}
export SEEDS=${SEEDS:-1 2 3 4 5} ITERATIONS=${ITERATIONS:-3000}
mkdir -p "$out"
cd "$out"
[ -d train_lmdb ] || resnet-proto data lmdb digits train_lmdb --gray --pad 1 --split test=0.25

# n units in each of three stages make 6 n + 2 layers: section 4.2
make_net() {
    local name=$1 shortcut=$2 n=$3 seed=$4
    resnet-proto gen --spec "$here/net.toml" --out "$name" --force \
        --set name="$name" --set shortcut="$shortcut" --set stages="$n,$n,$n" \
        --set training.epochs="$(epochs 1)" \
        --set training.drops="$(epochs 0.5),$(epochs 0.75)" > /dev/null 2>&1
    # sums over the last tenth of the training are taken of every line
    sed -i 's/^display: .*/display: 1/; s/^snapshot: .*/snapshot: 1000000/' "$name/solver.prototxt"
    echo "random_seed: $seed" >> "$name/solver.prototxt"
}
epochs() { python3 -c "print($1 * $ITERATIONS * 64 / 1347)"; }

train() {
    local name=$1
    [ -e "$name/done" ] && exit
    echo "$name" >&2
    cd "$name"
    "$CAFFE" train -solver solver.prototxt > train.log 2>&1
    # the error over the training images, as over the others: at phase TEST, by batches of 50
    sed 's/test_lmdb/train_lmdb/' train_val.prototxt > on-train.prototxt
    "$CAFFE" test -model train_val.prototxt -weights ./*.caffemodel -iterations 9 > test-error.log 2>&1
    "$CAFFE" test -model on-train.prototxt -weights ./*.caffemodel -iterations 27 > train-error.log 2>&1
    touch done
}
export -f train

for seed in $SEEDS; do
    for net in "plain-20 none 3" "plain-56 none 9" "resnet-20 A 3" "resnet-56 A 9"; do
        read -r name shortcut n <<< "$net"
        [ -d "$name-seed-$seed" ] || make_net "$name-seed-$seed" "$shortcut" "$n" "$seed"
        echo "$name-seed-$seed"
    done
done | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'set -e; train {}'

first=${SEEDS%% *}
resnet-proto log {plain,resnet}-{20,56}-seed-"$first"/train.log --plot curves.svg > /dev/null
python3 "$here/table.py" . | tee table.txt
