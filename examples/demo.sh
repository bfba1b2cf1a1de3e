#!/usr/bin/env bash
# The main job, on a small net that was trained in Caffe: examples/digits.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/examples/digits" "$work"
cd "$work"

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

echo "== generate: spec -> prototxt"
show 9 9 resnet-proto gen --depth 152
show 4 3 resnet-proto summary generated/resnet-152/deploy.prototxt

printf '\n%s\n' "== what a training came to: a ResNet-20 for handwritten digits"
show 9 9 resnet-proto log digits/train.log --plot curve.svg

printf '\n%s\n' "== a forward pass: what is on these images? (their labels: $(head -4 digits/labels.txt | awk '{ printf "%s%s", sep, $2; sep = ", " }'))"
show 24 0 resnet-proto forward digits/deploy.prototxt --weights digits/digits.caffemodel \
    --channels GRAY --mean 78 --scale 0.0125 --input-shape 4,1,8,8 \
    --input digits/images/00.png --input digits/images/01.png \
    --input digits/images/02.png --input digits/images/03.png

printf '\n%s\n' "== convert: weights for numpy, a model for onnxruntime and OpenCV 5"
show 9 9 resnet-proto convert digits/digits.caffemodel digits.safetensors --net digits/deploy.prototxt
show 9 9 resnet-proto convert digits/digits.caffemodel digits.onnx --net digits/deploy.prototxt

printf '\n%s\n' "== verify: every blob against others"
show 4 1 resnet-proto verify digits/deploy.prototxt --weights digits/digits.caffemodel --against float64
show 4 1 resnet-proto verify digits/deploy.prototxt --weights digits.safetensors --against opencv
