"""PriorBox and DetectionOutput in random configurations: against the Caffe that trains, and OpenCV.

Each must accept the same ones, with the same shapes and values. That Caffe is brocolli-caffe, where
``clip`` is true unless it is said, and DetectionOutput without ``nms_param`` keeps every box; so
the nets say both.
"""

import numpy as np
import pytest
from oracles.training import ABORTED, run_net, top_shape

from resnet_proto.engine import forward, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.errors import NetError, UnknownLayerError
from resnet_proto.layers import Input, make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import to_prototxt
from resnet_proto.words import Word

N_CONFIGURATIONS = 60
OUT = np.finfo(np.float32).max


def maybe(rng, odds=0.5, **fields):
    """Each field or not."""
    return {name: value for name, value in fields.items() if rng.random() < odds}


def floats(rng, low, high, n, digits=2):
    return tuple(float(x) for x in rng.uniform(low, high, n).round(digits))


def prior_box(rng):
    """A map, an image, and fields; now and then some that are refused."""
    n = int(rng.integers(1, 4))
    low = floats(rng, 1, 30, n)
    high = tuple(size + extra for size, extra in zip(low, floats(rng, 1, 20, n), strict=True))
    ratios = (*floats(rng, 0.3, 4, int(rng.integers(1, 4))), 2.0, 2.0, 1.0)
    fields = {"min_size": low, "clip": bool(rng.random() < 0.4)}
    fields |= maybe(
        rng,
        max_size=high,
        aspect_ratio=ratios[: int(rng.integers(1, 7))],
        flip=bool(rng.random() < 0.5),
        variance=floats(rng, 0.05, 0.5, int(rng.choice([1, 4]))),
        offset=float(rng.choice([0, 0.25, 1])),
    )  # fmt: skip
    way = rng.random()
    if way < 0.2:
        fields["img_size"] = int(rng.integers(20, 90))
    elif way < 0.5:
        fields |= {"img_h": int(rng.integers(20, 90)), "img_w": int(rng.integers(20, 90))}
    way = rng.random()
    if way < 0.2:
        fields["step"] = float(rng.uniform(2, 9))
    elif way < 0.5:
        fields |= {"step_h": float(rng.uniform(2, 9)), "step_w": float(rng.uniform(2, 9))}
    fields |= wrong(rng, fields, n)
    rows, columns, height, width = rng.choice(np.arange(1, 60), 4, replace=False)
    shape = (int(rng.integers(1, 3)), 3, rows % 7 + 1, columns % 9 + 1)
    if rng.random() < 0.1:
        shape = shape[:3]
    bottoms = [np.zeros(shape), np.zeros((shape[0], 1, height + 20, width + 20))]
    if "img_w" in fields and rng.random() < 0.3:  # Caffe does not count them
        bottoms = bottoms[:1] if rng.random() < 0.5 else [*bottoms, bottoms[0]]
    return fields, bottoms


def wrong(rng, fields, n):
    """A change that is refused, for one configuration in four."""
    if rng.random() > 0.25:
        return {}
    low = fields["min_size"]
    changes = [
        {"min_size": ()},
        {"min_size": (*low[1:], float(rng.choice([0, -3])))},
        {"max_size": (*(size + 1 for size in low), 90.0)},
        {"max_size": (*(size + 1 for size in low[1:]), low[-1])},
        {"variance": floats(rng, 0.1, 0.2, int(rng.choice([2, 3, 5])))},
        {"variance": (0.1, 0.1, 0.0, 0.2)},
        {"img_size": 30, "img_h": 20, "img_w": 30},
        {"img_size": 0},
        {"step": 3.0, "step_w": 2.0, "step_h": 2.0},
        {"step": -1.0},
    ]
    half = [{"img_w": 20}, {"img_h": 20}, {"step_h": 3.0}, {"step_w": 3.0}]
    if not any(name.startswith(("img", "step")) for name in fields):
        changes += half
    return changes[int(rng.integers(len(changes)))]


def detection_output(rng):
    """Moves, scores and boxes; fields; now and then something that is refused."""
    images, n = int(rng.integers(1, 4)), int(rng.integers(1, 30))
    classes = int(rng.integers(1, 5))
    shared, encoded = bool(rng.random() < 0.6), bool(rng.random() < 0.3)
    fields = {"num_classes": classes, "nms_param": {}}
    fields["nms_param"] |= maybe(
        rng,
        nms_threshold=float(rng.choice([0, 1, *rng.uniform(0, 1, 5)])),
        top_k=int(rng.choice([-2, 0, *rng.integers(1, 20, 4)])),
        eta=float(rng.uniform(0.5, 1)),
    )
    fields |= maybe(
        rng,
        code_type=Word(rng.choice(["CORNER", "CENTER_SIZE", "CORNER_SIZE"])),
        background_label_id=int(rng.integers(-1, classes + 1)),
        keep_top_k=int(rng.choice([-2, -1, 0, *rng.integers(1, 30, 8)])),
    )
    if not shared or rng.random() < 0.5:
        fields["share_location"] = shared
    if encoded or rng.random() < 0.5:
        fields["variance_encoded_in_target"] = encoded
    places = 1 if shared else classes
    low = rng.uniform(0, rng.choice([0.2, 0.7]), (n, 2))
    boxes = np.hstack([low, low + rng.uniform(0.05, 0.6, (n, 2))])
    moves = rng.normal(size=(images, 4 * n * places))
    scores = rng.uniform(size=(images, n * classes))
    if encoded:
        moves *= 0.15
    some = np.float32(scores.flat[rng.integers(scores.size)])  # a score is not above itself
    fields |= maybe(rng, confidence_threshold=float(rng.choice([0, 1.1, some, some, some])))
    if rng.random() < 0.2:  # no number where it should be
        best = scores[0].reshape(n, classes).argmax(axis=0)
        moves[0].reshape(n, -1)[best, rng.integers(4)] = rng.choice([np.nan, np.inf, -np.inf, 300])
        scores.flat[rng.integers(scores.size)] = rng.choice([np.nan, np.inf, -np.inf, -OUT])
    if rng.random() < 0.05:
        boxes[0, 2] = boxes[0, 0]
    priors = np.stack([boxes, np.tile(rng.uniform(0.05, 0.3, 4), (n, 1))]).reshape(1, 2, 4 * n)
    bottoms = [moves, scores, priors]
    if rng.random() < 0.1:
        bottoms[0] = moves.reshape(*moves.shape, 1, 1)
    if rng.random() < 0.15:
        which = rng.integers(4)
        if which == 0:
            del fields["num_classes"]
        elif which == 1:
            fields["nms_param"] = {"nms_threshold": -0.1}
        elif which == 2:
            fields["nms_param"] = {"eta": float(rng.choice([0, 1.1]))}
        else:
            i = int(rng.integers(2))
            bottoms[i] = np.concatenate([bottoms[i], bottoms[i][:, :1]], axis=1)
    return fields, bottoms


CONFIGURATIONS = {
    "PriorBox": ("prior_box_param", prior_box),
    "DetectionOutput": ("detection_output_param", detection_output),
}


def one_layer(type, rng, i=0):
    """A net of one layer, and its inputs; ``i`` is in every name."""
    message, configuration = CONFIGURATIONS[type]
    fields, bottoms = configuration(rng)
    names = tuple(f"{letter}{i}" for letter in "abcd"[: len(bottoms)])
    inputs = {k: v.astype(np.float32) for k, v in zip(names, bottoms, strict=True)}
    layer = make_layer(f"layer{i}", type, names, (f"y{i}",), {message: fields})
    shapes = [Input.of(k, (), k, shape={"dim": v.shape}) for k, v in inputs.items()]
    return Net("one", (*shapes, layer)), inputs


def ours(net, inputs, dtype="float32"):
    """Our top, or why we refuse."""
    try:
        return forward(net, {}, inputs, dtype=dtype)[net.layers[-1].tops[0]]
    except NetError as refusal:
        return refusal


def check(mine, theirs, text):
    """Equal shapes; equal values, the boxes by themselves where there are rows of seven."""
    assert mine.shape == theirs.shape, text
    if mine.shape[-1] == 7:
        np.testing.assert_array_equal(mine[..., :3], theirs[..., :3], text)
        mine, theirs = mine[..., 3:], theirs[..., 3:]
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(mine[~finite], theirs[~finite], text)
    for row in compare({"y": mine[finite]}, {"y": theirs[finite]}):
        assert row.within(TOLERANCE), f"{row}\n{text}"


@pytest.mark.parametrize("type", CONFIGURATIONS)
def test_equal_to_caffe(type, caffe_binary, tmp_path):
    """One process has all layers that we accept, and each of the others one of its own."""
    rng = np.random.default_rng(sum(map(ord, type)))
    accepted, refused, given = [], 0, {}
    for i in range(N_CONFIGURATIONS):
        net, inputs = one_layer(type, rng, i)
        mine = ours(net, inputs)
        if isinstance(mine, NetError):
            folder = tmp_path / str(i)
            folder.mkdir()
            status, log, _ = run_net(caffe_binary, folder, net, inputs)
            text = f"we refuse, Caffe does not: {mine}\n{to_prototxt(net)}"
            assert status == ABORTED, text
            assert "Check failed" in log or "Could not find location predictions" in log, text
            refused += 1
        else:
            accepted.append((net, mine))
            given |= inputs
            exact = ours(net, inputs, "float64")
            assert exact.dtype == np.float64
            if type == "PriorBox":
                check(mine, exact, to_prototxt(net))
    whole = Net("all", tuple(layer for net, _ in accepted for layer in net.layers))

    status, log, blobs = run_net(caffe_binary, tmp_path, whole, given)

    assert status == 0, f"Caffe refuses, we do not: {log[-3000:]}\n{to_prototxt(whole)}"
    assert 5 < refused < N_CONFIGURATIONS / 2
    for net, mine in accepted:
        layer = net.layers[-1]
        theirs = blobs[layer.tops[0]]
        check(mine.reshape(theirs.shape), theirs, to_prototxt(net))
        (step,) = [step for step in net.walk() if step.label == layer.name]
        assert step.tops[0] == top_shape(log, layer.name)
    if type == "DetectionOutput":
        assert any(mine[..., 1].min() == -1 for _, mine in accepted)


def for_opencv(layer, inputs, rng):
    """The fields as OpenCV wants them: it has no defaults, and not all that Caffe has."""
    fields = dict(layer.param)
    if layer.type == "PriorBox":
        for name in ("img_size", "img_h", "img_w"):
            fields.pop(name, None)
        fields["min_size"] = tuple(np.trunc(layer.min_size))
        if layer.max_size:
            fields["max_size"] = tuple(np.trunc(layer.max_size) + 1)
        fields.setdefault("variance", (0.1,))
        return fields, inputs
    nms = {**layer.nms_param, "nms_threshold": layer.nms_param.get("nms_threshold") or 0.3}
    nms.pop("eta", None)
    if nms.get("top_k", -1) == 0:
        del nms["top_k"]
    keep = layer.keep_top_k if layer.keep_top_k > 0 else 9
    code = Word("CENTER_SIZE") if layer.code_type == "CORNER_SIZE" else layer.code_type
    fields |= {"nms_param": nms, "keep_top_k": keep, "code_type": code}
    for name in ("share_location", "background_label_id", "variance_encoded_in_target"):
        fields[name] = getattr(layer, name)
    fields["confidence_threshold"] = layer.confidence_threshold or 0.0
    if layer.variance_encoded_in_target:  # it takes no variances then
        name = layer.bottoms[2]
        inputs = inputs | {name: inputs[name][:, :1]}
    return fields, inputs


@pytest.mark.parametrize("type", CONFIGURATIONS)
def test_equal_to_opencv(type, cv2):
    """It sorts an image's rows by score, whatever their class, and fills up with rows of 0."""
    rng = np.random.default_rng(sum(map(ord, type)))
    compared = 0
    for _ in range(N_CONFIGURATIONS):
        net, inputs = one_layer(type, rng)
        bad = any(not np.isfinite(value).all() for value in inputs.values())
        *_, layer = net.layers
        odd = type == "PriorBox" and (inputs["a0"].ndim == 3 or len(inputs) != 2)
        if isinstance(ours(net, inputs), NetError) or bad or odd:
            continue
        fields, inputs = for_opencv(layer, inputs, rng)
        shapes = [Input.of(k, (), k, shape={"dim": v.shape}) for k, v in inputs.items()]
        layer = make_layer("layer", type, layer.bottoms, layer.tops, {layer.message: fields})
        net = Net("one", (*shapes, layer))
        mine = ours(net, inputs)

        theirs = run("opencv", net, {}, inputs)["y0"]

        if type == "DetectionOutput":
            rest = len(mine[0, 0]) if mine[..., 1].min() >= 0 else 0
            assert not theirs[:, :, rest:].any()
            by_score = np.lexsort((-mine[0, 0, :rest, 2], mine[0, 0, :rest, 0]))
            mine, theirs = mine[:, :, by_score], theirs[:, :, :rest]
        check(mine, theirs, to_prototxt(net))
        compared += 1
    assert compared > N_CONFIGURATIONS / 2


def test_equal_to_onnxruntime(onnxruntime):
    """Row for row: the order, what is kept of several classes, and the rows without any."""
    rng = np.random.default_rng(7)
    compared, alone, empty = 0, 0, 0
    for _ in range(4 * N_CONFIGURATIONS):
        net, inputs = one_layer("DetectionOutput", rng)
        mine = ours(net, inputs)
        if isinstance(mine, NetError) or not all(np.isfinite(x).all() for x in inputs.values()):
            continue
        layer = net.layers[-1]
        lacks = (
            layer.nms_param.get("eta", 1) < 1
            or 0 in (layer.nms_param.get("top_k"), layer.keep_top_k)
            or {*range(layer.num_classes)} <= {layer.background_label_id}
        )
        if lacks:
            with pytest.raises(UnknownLayerError):
                run("onnxruntime", net, {}, inputs)
            continue
        theirs = run("onnxruntime", net, {}, inputs)["y0"]
        check(mine, theirs, to_prototxt(net))
        compared += 1
        alone += not net.layers[-1].share_location
        empty += mine[..., 1].min() == -1
    assert compared > N_CONFIGURATIONS / 2
    assert min(alone, empty) > 3
