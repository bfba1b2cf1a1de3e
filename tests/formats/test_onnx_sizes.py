"""ONNX models for images of any size: one graph, held against our own forward pass at many."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from nets import ssd

from resnet_proto.build import deploy_net
from resnet_proto.engine import forward, random_inputs
from resnet_proto.engine.compare import TOLERANCE, relative_l2
from resnet_proto.engine.onnx_file import behind_choices, results, save_onnx
from resnet_proto.errors import NetError
from resnet_proto.formats.onnx import OPSETS, to_onnx
from resnet_proto.layers import (
    SPP,
    Concat,
    Convolution,
    Crop,
    InnerProduct,
    Input,
    Interp,
    Pooling,
    PriorBox,
    Proposal,
    PSROIPooling,
    Reshape,
    ROIPooling,
    ShuffleChannel,
    Upsample,
)
from resnet_proto.net import Net
from resnet_proto.presets import PRESETS
from resnet_proto.spec import for_task
from resnet_proto.weights import random_weights

SIZES = [(2, 3, 14, 10), (5, 3, 13, 18), (2, 3, 21, 21), (1, 3, 36, 15), (3, 3, 8, 40)]


def net(*layers, shape=SIZES[0], **others):
    """A net of ``data`` and other inputs by shape."""
    inputs = {"data": shape, **others}
    given = [Input.of(name, (), name, shape=({"dim": s},)) for name, s in inputs.items()]
    return Net("t", (*given, *layers))


def computed(model, inputs, blobs):
    """What onnxruntime makes of a model; any value of it may be asked for."""
    more = onnx.ModelProto()
    more.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    more.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in blobs if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        more.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(blobs, session.run(blobs, inputs), strict=True))


def check(some_net, weights, model, sizes, inputs=None):
    """Every blob that the model has, at each size; those behind choices from its own choices."""
    onnx.checker.check_model(model, full_check=True)
    made = {name for node in model.graph.node for name in node.output}
    blobs = {name for layer in some_net.layers for name in layer.tops} & made
    assert blobs.issuperset(results(some_net))
    given = {value.name for value in model.graph.input}
    for size in sizes:
        resized = some_net.with_input_shapes({"data": size})
        images = random_inputs(resized) | (inputs(size) if inputs else {})
        ours = forward(resized, weights, images, dtype="float64", outputs=sorted(blobs))
        fed = {name: np.asarray(value, np.float32) for name, value in images.items()}
        theirs = computed(model, {k: v for k, v in fed.items() if k in given}, sorted(blobs))
        behind = behind_choices(resized)
        chosen = {name for layer in behind for name in layer.tops} & blobs
        if chosen:
            before = {**images, **ours, **theirs}
            before = {name: before[name] for layer in behind for name in layer.bottoms}
            before = {name: value for name, value in before.items() if name not in chosen}
            shapes = [Input.of(k, (), k, shape=({"dim": v.shape},)) for k, v in before.items()]
            last = Net("behind", (*shapes, *behind))
            ours |= forward(last, weights, before, dtype="float64", outputs=sorted(chosen))
        for name in sorted(blobs):
            assert theirs[name].shape == ours[name].shape, (size, name)
            assert relative_l2(theirs[name], ours[name]) <= TOLERANCE, (size, name)


MAP = Convolution.of("map", "data", "map", num_output=4, kernel_size=3, stride=2)
BOX = {"min_size": (3.7, 9.0), "max_size": (6.0, 11.5), "aspect_ratio": (2.0, 3.0)}
BOXES = (
    PriorBox.of("a", ["map", "data"], "a", **BOX, clip=True),
    PriorBox.of("b", ["data", "map"], "b", **BOX, step_h=4, step_w=3, offset=0.3, flip=False),
    PriorBox.of("c", ["map"], "c", min_size=5.0, img_h=40, img_w=30, variance=(0.1, 0.2, 0.3, 0.4)),
    Concat.of("all", ["a", "b", "c"], "all", axis=2),
)
MAX = Pooling.of("max", "data", ["max", "mask"], kernel_size=2, stride=2)
ONE = {
    "PriorBox": (MAP, *BOXES),
    "Upsample": (MAX, Upsample.of("up", ["max", "mask"], "up")),
    "Upsample to less": (
        Pooling.of("max", "data", ["max", "mask"], kernel_size=3, stride=3),
        Upsample.of("up", ["max", "mask"], "up", scale_h=3, scale_w=4),
    ),
    "SPP, MAX": (
        SPP.of("spp", "data", "spp", pyramid_height=3),
        InnerProduct.of("fc", "spp", "fc", num_output=5),
    ),
    "SPP, AVE": (SPP.of("spp", "data", "spp", pool="AVE", pyramid_height=2),),
    "SPP of one level": (SPP.of("spp", "data", "spp", pyramid_height=1),),
    "Interp by factors": (
        Interp.of("i", "data", "i", shrink_factor=3, zoom_factor=2, pad_beg=-1, pad_end=-2),
        Interp.of("j", "data", "j", zoom_factor=4, pad_beg=-2),
    ),
    "Interp to one size": (
        Interp.of("i", "data", "i", height=7, width=9),
        Convolution.of("c", "i", "c", num_output=2, kernel_size=(7, 9)),
        InnerProduct.of("fc", "c", "fc", num_output=5),
    ),
    "Interp, Crop like another": (
        MAP,
        Interp.of("i", ["map", "data"], "i"),
        Crop.of("crop", ["i", "map"], "crop", offset=(1, 2)),
        Crop.of("channels", ["i", "data"], "channels", axis=1, offset=(1, 0, 0)),
    ),
    "ShuffleChannel": (MAP, ShuffleChannel.of("s", "map", "s", group=2)),
}


@pytest.mark.parametrize("opset", [OPSETS[0], 18, OPSETS[-1]])
@pytest.mark.parametrize("name", ONE)
def test_layers(name, opset):
    """Odd, even, higher and wider; the batch varies too."""
    some_net = net(*ONE[name])
    weights = random_weights(some_net)

    check(some_net, weights, to_onnx(some_net, weights, opset=opset, dynamic="size"), SIZES)


SEGNET = (
    Pooling.of("p1", "data", ["p1", "m1"], kernel_size=2, stride=2),
    Pooling.of("p2", "p1", ["p2", "m2"], kernel_size=2, stride=2),
    Upsample.of("u2", ["p2", "m2"], "u2"),
    Upsample.of("u1", ["u2", "m1"], "u1"),
)


def test_sizes_that_a_net_takes(tmp_path):
    """Maps that are halved and doubled fit again where a size is divisible: that is said."""
    some_net, warnings = net(*SEGNET, shape=(2, 3, 12, 20)), []

    model = written(tmp_path, some_net, {}, warnings)

    (warning,) = warnings
    assert warning.startswith("not every size fits the net, as in Caffe: layer 'u1' (Upsample)")
    check(some_net, {}, model, [(2, 3, 12, 20), (3, 3, 24, 8), (1, 3, 16, 36), (5, 3, 4, 4)])


def test_sizes_that_are_written_down(tmp_path):
    """A Reshape to its own size takes a few more, by rounding; that is none that varies."""
    pool = Pooling.of("pool", "data", "pool", kernel_size=8, stride=8)
    free, own = (
        net(pool, Reshape.of("re", "pool", "re", shape={"dim": dims}))
        for dims in ((0, -1), (0, 3, 2, 2))
    )
    written(tmp_path, free, {})

    with pytest.raises(NetError, match=r"cannot vary: layer 're' \(Reshape\): shape 0x3x2x2 does"):
        written(tmp_path, own, {})


def test_regions_of_a_map(tmp_path):
    """PSROIPooling: what a region covers ends with the map; its batch is that of the net."""
    regions = np.array([[0, 2, 3, 12, 20], [1, 0, 0, 38, 9], [1, 5, 2, 6, 33]], np.float32)
    fields = {"output_dim": 3, "group_size": 2, "spatial_scale": 0.5}
    some_net = net(
        Convolution.of("map", "data", "map", num_output=12, kernel_size=1),
        PSROIPooling.of("p", ["map", "rois"], "p", **fields),
        rois=regions.shape,
    )
    weights, warnings = random_weights(some_net), []

    model = written(tmp_path, some_net, weights, warnings)

    (warning,) = warnings
    assert "the batch is 2 and cannot vary: layer 'p' (PSROIPooling): with another" in warning
    sizes = [size for size in SIZES if size[0] == 2] + [(2, 3, 13, 18)]
    check(some_net, weights, model, sizes, lambda size: {"rois": regions})


def written(tmp_path, some_net, weights, warnings=None):
    """The model that `convert --dynamic size` writes."""
    path = tmp_path / "m.onnx"
    save_onnx(path, some_net, weights, dynamic="size", verify=False, warnings=warnings)
    return onnx.load(path)


def test_ssd(tmp_path):
    """Its boxes are those of the maps that come; so is how many DetectionOutput chooses from."""
    some_net = ssd.net(16)
    weights, warnings = random_weights(some_net), []

    model = written(tmp_path, some_net, weights, warnings)

    assert not warnings
    sizes = [(2, 3, 265, 290), (1, 3, 333, 280), (1, 3, 300, 300), (1, 3, 280, 375)]
    check(some_net, weights, model, sizes)


def test_regions_that_are_proposed(tmp_path):
    """Anchors in every cell there is, often fewer than `pre_nms_topn`."""
    anchors = {"ratio": (0.5, 2.0), "scale": (2.0, 1.0, 4.0), "base_size": 8, "feat_stride": 4}
    some_net = net(
        Convolution.of("map", "data", "map", num_output=5, kernel_size=3, pad=1, stride=4),
        Convolution.of("rpn", "map", "rpn", num_output=12, kernel_size=1),
        Convolution.of("moves", "map", "moves", num_output=24, kernel_size=1),
        Proposal.of(
            "p", ["rpn", "moves", "info"], ["rois", "scores"], **anchors, min_size=2,
            pre_nms_topn=200, post_nms_topn=20,
        ),
        ROIPooling.of(
            "pool", ["map", "rois"], "pool", pooled_h=3, pooled_w=2, spatial_scale=0.25
        ),
        InnerProduct.of("fc", "pool", "fc", num_output=6),
        shape=(2, 3, 30, 22),
        info=(1, 3),
    )  # fmt: skip
    weights, warnings = random_weights(some_net), []

    model = written(tmp_path, some_net, weights, warnings)

    (warning,) = warnings
    assert (
        "the batch is 2 and cannot vary: layer 'p' (Proposal): with another batch it is" in warning
    )
    sizes = [(2, 3, 30, 22), (2, 3, 41, 64), (2, 3, 23, 23), (2, 3, 64, 41), (2, 3, 17, 90)]
    check(some_net, weights, model, sizes, lambda s: {"info": np.array([[*s[2:], 0.8]])})


@pytest.mark.parametrize("task", ["r-fcn", "segmentation"])
def test_tasks(task, tmp_path):
    spec = for_task(PRESETS["resnet-50"].spec, task)
    small = replace(spec, stages=(1, 1, 1, 1), width=(8,), stem_width=8, classes=5, input_size=96)
    some_net = deploy_net(small).upgraded()
    weights = random_weights(some_net)
    about = {"r-fcn": lambda size: {"im_info": np.array([[*size[2:], 1]])}}.get(task)

    model = written(tmp_path, some_net, weights)

    sizes = [(1, 3, 96, 96), (1, 3, 97, 131), (1, 3, 128, 64), (1, 3, 65, 161)]
    check(some_net, weights, model, sizes, about)
