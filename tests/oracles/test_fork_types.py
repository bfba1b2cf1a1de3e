"""Layer types of forks for segmentation, SSD and small nets: our definition against others'.

Random configurations, of which some are refused, go to whoever has the type: the Caffe that trains
(Normalize, Permute, Pooling with ``ceil_mode``, ReLU6; Upsample, which it calls MaxUnPool), OpenCV,
onnxruntime and torch. Where mainline has the same in other words, the real Caffe for inference is
asked in those. Interp has no Caffe here.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
from oracles.training import ABORTED, run_caffe

from resnet_proto.engine import forward, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.engine.planned import Plan
from resnet_proto.errors import NetError, ResNetProtoError
from resnet_proto.formats import save
from resnet_proto.formats.onnx_layers import WRITERS
from resnet_proto.layers import REGISTRY, Input, make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import to_prototxt
from resnet_proto.words import Word

N_CONFIGURATIONS = 60


def sizes(rng, least, most, n):
    """Sizes of which no two are equal."""
    return tuple(int(x) for x in rng.choice(np.arange(least, most + 1), n, replace=False))


def some(rng, **fields):
    """Each field or not."""
    return {name: value for name, value in fields.items() if rng.random() < 0.5}


def sides(rng, name, least, most):
    """Rows and columns, or one value for both."""
    short = name.removesuffix("_size")
    rows, columns = (int(x) for x in rng.integers(least, most, 2, endpoint=True))
    return {f"{short}_h": rows, f"{short}_w": columns} if rng.random() < 0.6 else {name: rows}


# Each gives the fields of the type's own message and the bottoms' shapes; now and then they are
# refused.


def axpy(rng):
    x = sizes(rng, 1, 9, int(rng.choice([2, 3, 4, 4, 4])))
    a = x[:2] + (1,) * (0 if rng.random() < 0.3 else 2)
    other = x
    if rng.random() < 0.15:
        a = (a[0], a[1] + 1, *a[2:]) if rng.random() < 0.5 else (*x[:2], 1, 2)
    if rng.random() < 0.1:
        other = (*x[:-1], x[-1] + 1)
    return {}, [a, x, other]


def batch_norm(rng):
    """With gamma inside."""
    forms = [
        {"scale_bias": True},
        {"scale_filler": {"value": 1.0}},
        {"use_weight_bias": True, "bias_term": bool(rng.random() < 0.5)},
        {"filler": {"value": 1.0}},
        {"bias_filler": {"value": 0.0}, "use_weight_bias": False},
    ]
    fields = {**forms[int(rng.integers(len(forms)))], **some(rng, eps=1e-3, use_global_stats=True)}
    return fields, [sizes(rng, 2, 7, int(rng.integers(2, 5)))]


def bn(rng):
    fields = [
        {"slope_filler": {"value": 1.0}, "frozen": True, "momentum": 0.95, **some(rng, eps=0.01)},
        {"moving_average": True, "decay": 0.05, **some(rng, var_eps=0.02)},
        {"scale_filler": {"value": 1.0}, "bn_mode": Word("INFERENCE")},
        {},
    ][int(rng.integers(4))]
    return fields, [sizes(rng, 2, 7, 4)]


def convolution_depthwise(rng):
    n, channels, rows, columns = sizes(rng, 2, 11, 4)
    fields = {
        "num_output": channels + (rng.random() < 0.1),
        **sides(rng, "kernel_size", 1, 4),
        **some(rng, bias_term=False, group=channels),
    }
    for name, least, most in (("stride", 1, 3), ("pad", 0, 2)):
        if rng.random() < 0.7:
            fields |= sides(rng, name, least, most)
    for name in {"kernel_size", "stride", "pad"} & fields.keys():
        fields[name] = (fields[name],)
    if rng.random() < 0.3:
        fields["dilation"] = (2,)
    return fields, [(n, channels, rows, columns)]


def depthwise_convolution(rng):
    fields, (shape,) = convolution_depthwise(rng)
    return {**fields, "group": shape[1]}, [shape]


def interp(rng):
    shape = sizes(rng, 1, 12, 4)
    height, width = sizes(rng, 1, 15, 2)
    way = rng.integers(6)
    bottoms = [shape]
    if way == 0:
        fields = {"zoom_factor": int(rng.integers(0, 5))}
    elif way == 1:
        fields = {"shrink_factor": int(rng.integers(1, 4))}
    elif way == 2:
        fields = {"shrink_factor": 2, "zoom_factor": 3}
    elif way == 3:
        bottoms.append((*sizes(rng, 1, 9, 2), height, width))
        fields = some(rng, use_blob_size=True)
    else:
        fields = {"height": height, "width": width}
        if rng.random() < 0.1:
            del fields["width"]
    if rng.random() < 0.3:
        fields |= some(rng, pad_beg=-int(rng.integers(0, 3)), pad_end=-int(rng.integers(-1, 3)))
    return fields, bottoms


def normalize(rng):
    shape = sizes(rng, 2, 9, int(rng.choice([1, 2, 3, 4, 4, 4, 4, 5])))
    return some(rng, across_spatial=False, channel_shared=False, eps=0.5), [shape]


def permute(rng):
    shape = sizes(rng, 1, 9, int(rng.integers(1, 6)))
    order = rng.permutation(len(shape))[: int(rng.integers(len(shape) + 1))].tolist()
    if rng.random() < 0.1:
        order.append(int(rng.choice([len(shape), *order])))
    return {"order": tuple(order)} if order else {}, [shape]


def pooling(rng):
    fields = {
        **sides(rng, "kernel_size", 1, 4),
        **some(rng, pool=Word("AVE"), ceil_mode=bool(rng.random() < 0.3)),
    }
    for name, least, most in (("stride", 1, 3), ("pad", 0, 2)):
        if rng.random() < 0.7:
            fields |= sides(rng, name, least, most)
    return fields, [sizes(rng, 2, 12, 4)]


def relu6(rng):
    slope = float(rng.normal())
    return some(rng, negative_slope=slope), [sizes(rng, 1, 9, int(rng.integers(1, 6)))]


def shuffle_channel(rng):
    group, each = sizes(rng, 1, 5, 2)
    n, *size = sizes(rng, 1, 7, int(rng.choice([1, 2, 3, 3, 3])))
    channels = group * each + (rng.random() < 0.1)
    return {"group": group} if group > 1 or rng.random() < 0.5 else {}, [(n, channels, *size)]


CONFIGURATIONS = {
    "Axpy": axpy,
    "BN": bn,
    "BatchNorm": batch_norm,
    "ConvolutionDepthwise": convolution_depthwise,
    "DepthwiseConvolution": depthwise_convolution,
    "Interp": interp,
    "Normalize": normalize,
    "Permute": permute,
    "Pooling": pooling,
    "ReLU6": relu6,
    "ShuffleChannel": shuffle_channel,
}


class Case:
    """A net of inputs and one layer, what goes in, and our answer or ``refusal``."""

    def __init__(self, layer, shapes, rng):
        names = [f"in{i}" for i in range(len(shapes))]
        self.layer = replace(layer, bottoms=tuple(names))
        named = list(zip(names, shapes, strict=True))
        inputs = [Input.of(name, (), name, shape={"dim": shape}) for name, shape in named]
        self.net = Net("one", (*inputs, self.layer))
        self.inputs = {k: (4 * rng.normal(size=v)).astype(np.float32) for k, v in named}
        self.weights, self.blobs, self.refusal = {}, {}, None
        try:
            for step in self.net.walk():
                for name, shape in step.blobs.items():
                    value = rng.normal(size=shape).astype(np.float32)
                    value = abs(value) + 0.1 if name == "variance" else value
                    value = np.full(shape, 2.5, np.float32) if name == "scale_factor" else value
                    self.weights[f"{step.label}.{name}"] = np.asarray(value)
            self.blobs = forward(self.net, self.weights, self.inputs)
        except NetError as refusal:
            self.refusal = refusal

    @classmethod
    def of(cls, type, rng):
        """A random one."""
        fields, shapes = CONFIGURATIONS[type](rng)
        message = REGISTRY[type].message
        return cls(
            make_layer("layer", type, (), ("out",), {message: fields} if fields else {}),
            shapes,
            rng,
        )

    def agrees(self, theirs):
        """Hold blobs of others against ours."""
        assert self.refusal is None, f"we refuse: {self}"
        for row in compare({"out": theirs["out"]}, {"out": self.blobs["out"]}):
            assert row.shape == row.reference, self
            assert row.within(TOLERANCE), f"{row}\n{self}"

    def __str__(self):
        return f"{self.refusal}\n{to_prototxt(self.net)}"


def cases(type, n=N_CONFIGURATIONS):
    rng = np.random.default_rng(sum(map(ord, type)))
    return [Case.of(type, rng) for _ in range(n)]


# ---- the real Caffe, in mainline's words


def in_mainline(case):
    """Layers of mainline Caffe that compute the same, and their weights."""
    layer, weights = case.layer, dict(case.weights)
    (bottom, *others), (top,) = layer.bottoms, layer.tops
    if layer.type in ("ConvolutionDepthwise", "DepthwiseConvolution"):
        fields = {"convolution_param": {**layer.param, "group": layer.num_output}}
        return [make_layer("layer", "Convolution", layer.bottoms, layer.tops, fields)], weights
    if layer.type == "Axpy":
        factor = case.inputs[bottom]
        flat = {"reshape_param": {"shape": {"dim": factor.shape[:2]}}}
        return [
            make_layer("flat", "Reshape", (bottom,), ("flat",), flat),
            make_layer(
                "scale", "Scale", (others[0], "flat"), ("ax",), {"scale_param": {"axis": 0}}
            ),
            make_layer("sum", "Eltwise", ("ax", others[1]), (top,)),
        ], weights
    if layer.type == "ShuffleChannel":
        shape = case.inputs[bottom].shape
        groups = (shape[0], layer.group, shape[1] // layer.group, *shape[2:])
        return [
            make_layer("groups", "Reshape", (bottom,), ("groups",),
                       {"reshape_param": {"shape": {"dim": groups}}}),
            make_layer("turn", "Permute", ("groups",), ("turned",),
                       {"permute_param": {"order": (0, 2, 1)}}),
            make_layer("back", "Reshape", ("turned",), (top,),
                       {"reshape_param": {"shape": {"dim": shape}}}),
        ], weights  # fmt: skip
    if layer.type == "Permute":  # this Caffe has it
        return [layer], weights
    stored = [value.reshape(-1) for value in weights.values()]
    eps = layer.param.get("eps", 1e-5)
    if layer.type == "BN":
        slope, bias, *statistics = stored
        if not statistics:  # SegNet's INFERENCE
            return [
                make_layer(
                    "scale", "Scale", (bottom,), (top,), {"scale_param": {"bias_term": True}}
                )
            ], {"scale.weight": slope, "scale.bias": bias}
        if "moving_average" in layer.param:
            eps = layer.param.get("var_eps", 1e-10)
        stored = [*statistics, np.ones(1, np.float32), slope, bias]
    names = ("norm.mean", "norm.variance", "norm.scale_factor", "scale.weight", "scale.bias")
    given = dict(zip(names, stored, strict=False))
    norm = make_layer("norm", "BatchNorm", (bottom,), ("norm",), {"batch_norm_param": {"eps": eps}})
    if len(stored) == 3:
        return [replace(norm, tops=(top,))], given
    scale = {"scale_param": {"bias_term": len(stored) == 5}}
    return [norm, make_layer("scale", "Scale", ("norm",), (top,), scale)], given


MAINLINE = ("Axpy", "BN", "BatchNorm", "ConvolutionDepthwise", "DepthwiseConvolution", "Permute",
            "ShuffleChannel")  # fmt: skip


@pytest.mark.parametrize("type", MAINLINE)
def test_equal_to_caffe_in_mainlines_words(type, caffe_python, tmp_path):
    """Of Permute, which this Caffe has, what it refuses too."""
    given = [case for case in cases(type) if case.refusal is None or type == "Permute"]
    folders = []
    for i, case in enumerate(given):
        layers, weights = in_mainline(case)
        net = replace(case.net, layers=(*case.net.layers[:-1], *layers))
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "net.prototxt").write_text(to_prototxt(net))
        model = folder / "net.caffemodel" if weights else None
        if model:
            save(model, weights, net)
        write_job(folder, folder / "net.prototxt", model, case.inputs)
        folders.append(folder)

    run_jobs(caffe_python, folders)

    refused = 0
    for case, folder in zip(given, folders, strict=True):
        if case.refusal is not None:
            with pytest.raises(ResNetProtoError, match="Caffe refuses the net"):
                read_job(folder)
            refused += 1
        else:
            case.agrees(read_job(folder))
    assert (refused > 0) == (type == "Permute")
    assert len(given) - refused > N_CONFIGURATIONS / 2


# ---- the Caffe that trains


def measure(binary, folder, cases_and_layers):
    """Have Caffe run layers on what goes into ours and compare its tops with ours.

    Values go in and ours go along as weights of Parameter layers; what comes out is in the log:
    for each case the squared length of Caffe's top, and of its difference to ours, which Eltwise
    does not take if their shapes differ. (The tops themselves it prints with six digits.)

    Returns:
        The status, and the relative L2 of each case.
    """
    layers, weights = [], {}

    def parameter(name, value):
        shape = {"parameter_param": {"shape": {"dim": value.shape}}}
        layers.append(make_layer(name, "Parameter", (), (name,), shape))
        weights[f"{name}.weight"] = value

    for i, (case, own) in enumerate(cases_and_layers):
        for name, value in case.inputs.items():
            parameter(f"{i}/{name}", value)
        for layer in own:
            blobs = {k: v for k, v in case.weights.items() if k.startswith(f"{layer.name}.")}
            weights |= {f"{i}/{k}": v for k, v in blobs.items()}
            layers.append(
                replace(
                    layer,
                    name=f"{i}/{layer.name}",
                    bottoms=tuple(f"{i}/{name}" for name in layer.bottoms),
                    tops=tuple(f"{i}/{name}" for name in layer.tops),
                )
            )
        if case.refusal is None:
            parameter(f"{i}/ours", case.blobs["out"])
            both = (f"{i}/out", f"{i}/ours")
            less = {"eltwise_param": {"coeff": (1.0, -1.0)}}
            square = {"reduction_param": {"operation": Word("SUMSQ")}}
            layers += [
                make_layer(f"{i}/less", "Eltwise", both, (f"{i}/less",), less),
                make_layer(f"{i}/far", "Reduction", (f"{i}/less",), (f"{i}/far",), square),
                make_layer(f"{i}/long", "Reduction", (f"{i}/out",), (f"{i}/long",), square),
            ]
    net = Net("many", tuple(layers))
    (folder / "net.prototxt").write_text(to_prototxt(net))
    stored = tuple(layer for layer in layers if f"{layer.name}.weight" in weights)
    save(folder / "net.caffemodel", weights, replace(net, layers=stored))
    status, log = run_caffe(
        binary, folder, "test", "-model", "net.prototxt", "-weights", "net.caffemodel",
        "-iterations", "1",
    )  # fmt: skip
    found = {
        (int(i), what): float(value)
        for i, what, value in re.findall(r"Batch 0, (\d+)/(far|long) = (\S+)", log)
    }
    numbers = sorted({i for i, _ in found})
    return status, [(found[i, "far"] / (found[i, "long"] or 1)) ** 0.5 for i in numbers]


def trained(type, binary, tmp_path, given, layers_of):
    """Hold all cases that we take against Caffe in one run, and each other one in its own."""
    taken = [case for case in given if case.refusal is None]
    status, errors = measure(binary, tmp_path, [(case, layers_of(case)) for case in taken])
    assert status == 0
    assert len(errors) == len(taken) > len(given) / 2
    for case, error in zip(taken, errors, strict=True):
        assert error <= TOLERANCE, f"{error}\n{case}"
    refused = [case for case in given if case.refusal is not None]
    for i, case in enumerate(refused):
        folder = tmp_path / str(i)
        folder.mkdir()
        assert measure(binary, folder, [(case, layers_of(case))])[0] == ABORTED, case
    return len(refused)


@pytest.mark.parametrize("type", ["Normalize", "Permute", "ReLU6"])
def test_equal_to_the_caffe_that_trains(type, caffe_binary, tmp_path):
    refused = trained(type, caffe_binary, tmp_path, cases(type), lambda case: [case.layer])

    assert (refused > 0) == (type != "ReLU6")


def test_ceil_mode_of_the_caffe_that_trains(caffe_binary, tmp_path):
    """A window outside the image is left out: tests/layers/test_pooling.py."""
    given = [x for x in cases("Pooling") if "no sensible value" not in str(x.refusal)]

    assert trained("Pooling", caffe_binary, tmp_path, given, lambda case: [case.layer])
    floors = [case for case in given if case.refusal is None and case.layer.floor]
    assert any(case.blobs["out"].shape != ceiled(case) for case in floors)


def ceiled(case):
    """The shape if ``ceil_mode`` were true."""
    fields = {"pooling_param": {**case.layer.param, "ceil_mode": True}}
    (shape,) = replace(case.layer, fields=fields).top_shapes([case.inputs["in0"].shape])
    return shape


def upsamples(rng):
    """A Pooling with a mask, and where it found its maxima other values, put back there."""
    kernel, stride = (sides(rng, name, 1, 3) for name in ("kernel_size", "stride"))
    shape = sizes(rng, 3, 11, 4)
    pool = make_layer("pool", "Pooling", ("in0",), ("max", "mask"),
                      {"pooling_param": kernel | stride})  # fmt: skip
    turned = make_layer("turn", "Power", ("max",), ("turned",),
                        {"power_param": {"scale": -1.5, "shift": 0.25}})  # fmt: skip
    size = {"upsample_h": shape[2], "upsample_w": shape[3]}
    layer = make_layer("up", "Upsample", ("turned", "mask"), ("out",), {"upsample_param": size})
    net = Net("up", (Input.of("in0", (), "in0", shape={"dim": shape}), pool, turned, layer))
    case = Case(layer, [], rng)
    case.net, case.inputs = net, {"in0": rng.normal(size=shape).astype(np.float32)}
    case.refusal = None
    try:
        case.blobs = forward(net, {}, case.inputs)
    except NetError as refusal:
        case.refusal = refusal
    return case


def test_upsample_is_max_un_pool(caffe_binary, tmp_path):
    """With the mask of Caffe's own Pooling. Where windows overlap the last one's value stays."""
    rng = np.random.default_rng(1)
    given = [case for case in (upsamples(rng) for _ in range(120)) if case.refusal is None]

    def theirs(case):
        pool, turned, layer = case.net.layers[1:]
        size = {f"dst_{side}": (Word(str(layer.param[f"upsample_{side}"])),) for side in "hw"}
        fields = {"max_unpool_param": (size,)}
        return [pool, turned, make_layer("up", "MaxUnPool", layer.bottoms, layer.tops, fields)]

    assert trained("Upsample", caffe_binary, tmp_path, given, theirs) == 0


def test_upsample_in_onnxruntime(onnxruntime):
    """With the mask of the model's own MaxPool, where windows overlap too."""
    rng = np.random.default_rng(2)
    given = [case for case in (upsamples(rng) for _ in range(40)) if case.refusal is None]

    for case in given:
        theirs = run("onnxruntime", case.net, {}, case.inputs)
        np.testing.assert_array_equal(theirs["mask"], case.blobs["mask"], str(case.net))
        case.layer = case.net.layers[-1]
        case.agrees(theirs)

    assert len(given) > 20


# ---- engines


def opencv_lacks(case):
    """Whether OpenCV has no answer, or another one, and why."""
    layer, shapes = case.layer, [value.shape for value in case.inputs.values()]
    if len(shapes[0]) == 1:
        return True  # it makes two axes of it
    if layer.type == "ConvolutionDepthwise":  # a kernel larger than its bottom gives it nothing
        return layer.end_pad(shapes[0][2:]) != layer.windows(2)[2]
    if layer.type == "Interp":
        # It has neither shrink_factor nor pads, and does not take a second bottom's size.
        return bool(layer.param.keys() - {"height", "width", "zoom_factor"} or len(shapes) == 2)
    if layer.type == "Normalize":  # it does not read a scalar blob, nor scale what is across
        return len(shapes[0]) != 4 or layer.channel_shared or layer.across_spatial
    if layer.type == "Permute":  # it wants the whole order
        return len(layer.order) != len(shapes[0])
    if layer.type == "ReLU6":
        return bool(layer.negative_slope)  # it does not look at it
    if layer.type == "ShuffleChannel":
        return len(shapes[0]) != 4
    return False


@pytest.mark.parametrize(
    "type", ["ConvolutionDepthwise", "Interp", "Normalize", "Permute", "ReLU6", "ShuffleChannel"]
)
def test_equal_to_opencv(type, cv2):
    given = [
        case
        for case in cases(type, 2 * N_CONFIGURATIONS)
        if case.refusal is None and not opencv_lacks(case)
    ]

    for case in given:
        case.agrees(run("opencv", case.net, case.weights, case.inputs))

    assert len(given) > 10


@pytest.mark.parametrize("seed", range(6))
def test_axpy_of_opencv(seed, cv2):
    """One image. Its importer takes bottom[2] times a plus bottom[1], SENet's fork the other way
    round (axpy_layer.cpp: the top begins as bottom[2]); so we hand in the other order.
    """
    rng = np.random.default_rng(seed)
    channels, *size = sizes(rng, 2, 9, 3)
    shape = (1, channels, *size)
    case = Case(make_layer("layer", "Axpy", (), ("out",)), [(1, channels, 1, 1), shape, shape], rng)

    turned = replace(case.layer, bottoms=("in0", "in2", "in1"))
    net = replace(case.net, layers=(*case.net.layers[:-1], turned))

    case.agrees(run("opencv", net, {}, case.inputs))


@pytest.mark.parametrize("type", sorted(CONFIGURATIONS.keys()))
@pytest.mark.parametrize("engine", ["onnxruntime", "torch", "planned"])
def test_equal_to_other_engines(engine, type, request):
    if engine != "planned":
        request.getfixturevalue(engine)
    compared = 0
    for case in cases(type):
        if case.refusal is not None:
            continue
        if engine == "planned":
            theirs = Plan(case.net, case.weights).run(case.inputs)
        else:
            theirs = run(engine, case.net, case.weights, case.inputs)
        case.agrees(theirs)
        compared += 1
    assert compared > N_CONFIGURATIONS / 3


def test_types_of_engines(torch):
    from resnet_proto.engine.torch_layers import FUNCTIONS

    own = CONFIGURATIONS.keys() | {"Upsample"}

    assert not own - WRITERS.keys()
    assert own - FUNCTIONS.keys() == {"Upsample"}
