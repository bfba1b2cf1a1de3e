"""DetectionOutput against nested loops. Caffe and OpenCV: tests/oracles/test_ssd_layers.py."""

import math

import numpy as np
import pytest

from resnet_proto.engine import forward
from resnet_proto.engine.planned import Plan
from resnet_proto.errors import ShapeError
from resnet_proto.layers import DetectionOutput, Input
from resnet_proto.layers.detection_output import BLOCK, overlaps
from resnet_proto.net import Net
from resnet_proto.prototxt import read_prototxt, to_prototxt

N, P, CLASSES = 2, 7, 3
BOTTOMS = ("moves", "scores", "priors")
SHAPES = [(N, 4 * P), (N, CLASSES * P), (1, 2, 4 * P)]


def layer(**fields):
    return DetectionOutput.of("d", BOTTOMS, "y", **{"num_classes": CLASSES, **fields})


def bottoms(rng, places=1, n=P):
    low = rng.uniform(0, 0.4, (n, 2))
    boxes = np.hstack([low, low + rng.uniform(0.2, 0.5, (n, 2))])
    variances = np.tile([0.1, 0.15, 0.2, 0.25], (n, 1))
    return [
        rng.normal(size=(N, 4 * n * places)),
        rng.uniform(size=(N, CLASSES * n)),
        np.stack([boxes, variances]).reshape(1, 2, 4 * n),
    ]


def decode(code, box, variance, move):
    """One box, as the paper has it."""
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    a, b, c, d = (v * m for v, m in zip(variance, move, strict=True))
    if code == "CORNER":
        return [x1 + a, y1 + b, x2 + c, y2 + d]
    if code == "CORNER_SIZE":
        return [x1 + a * w, y1 + b * h, x2 + c * w, y2 + d * h]
    x, y = (x1 + x2) / 2 + a * w, (y1 + y2) / 2 + b * h
    w, h = w * math.exp(c), h * math.exp(d)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def jaccard(a, b):
    """What two boxes share, of what they cover."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0
    shared = w * h
    sizes = [(x2 - x1) * (y2 - y1) if x2 >= x1 and y2 >= y1 else 0 for x1, y1, x2, y2 in (a, b)]
    return shared / (sum(sizes) - shared)


def find(moves, scores, priors, code="CORNER", shared=True, least=-math.inf, most=0.3, eta=1.0,
         top_k=-1, keep=-1, background=0):  # fmt: skip
    """Loops over images, classes and boxes."""
    boxes, variances = priors.reshape(2, -1, 4)
    n = len(boxes)
    rows = []
    for image in range(N):
        found = []
        for label in range(CLASSES):
            if label == background:
                continue
            place = moves[image].reshape(n, -1, 4)[:, 0 if shared else label]
            places = [decode(code, *row) for row in zip(boxes, variances, place, strict=True)]
            score = scores[image].reshape(n, CLASSES)[:, label]
            order = sorted((i for i in range(n) if score[i] > least), key=lambda i: -score[i])
            kept, allowed = [], most
            for i in order if top_k < 0 else order[:top_k]:
                if all(jaccard(places[i], places[k]) <= allowed for k in kept):
                    kept.append(i)
                    allowed *= eta if allowed > 0.5 else 1
            found += [(image, label, score[i], *places[i]) for i in kept]
        if keep >= 0:
            best = sorted(found, key=lambda row: -row[2])[:keep]
            found = [row for row in found if row in best]
        rows += found
    return rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("fields", "loops"),
    [
        ({}, {}),
        ({"code_type": "CENTER_SIZE"}, {"code": "CENTER_SIZE"}),
        ({"code_type": "CORNER_SIZE", "share_location": False},
         {"code": "CORNER_SIZE", "shared": False}),
        ({"nms_param": {"nms_threshold": 0.95, "eta": 0.7}}, {"most": 0.95, "eta": 0.7}),
        ({"nms_param": {"nms_threshold": 0.5, "top_k": 4}}, {"most": 0.5, "top_k": 4}),
        ({"keep_top_k": 3, "background_label_id": 2}, {"keep": 3, "background": 2}),
        ({"confidence_threshold": 0.6, "background_label_id": CLASSES},
         {"least": 0.6, "background": CLASSES}),
        ({"background_label_id": -1, "share_location": False},
         {"background": -1, "shared": False}),
    ],
)  # fmt: skip
def test_what_is_found(fields, loops, dtype):
    counts = set()
    for seed in range(6):
        values = bottoms(np.random.default_rng(seed), 1 if loops.get("shared", True) else CLASSES)

        (top,) = layer(**fields).forward([x.astype(dtype) for x in values], [])

        expected = find(*values, **loops)
        assert top.dtype == dtype
        assert top.shape == (1, 1, len(expected), 7)
        np.testing.assert_allclose(top[0, 0], expected, rtol=1e-5, atol=1e-6)
        counts.add(len(expected))
    assert max(counts) > 2
    assert len(counts) > 1 or "keep" in loops


@pytest.mark.parametrize(
    ("fields", "loops"),
    [
        ({"nms_param": {"nms_threshold": 0.6}, "keep_top_k": 90}, {"most": 0.6, "keep": 90}),
        ({"nms_param": {"nms_threshold": 0.9, "eta": 0.99}}, {"most": 0.9, "eta": 0.99}),
    ],
)
def test_more_than_a_block(fields, loops):
    """Boxes are held against each other in blocks, and what is left over makes the last."""
    values = bottoms(np.random.default_rng(0), n=2 * BLOCK + 5)

    (top,) = layer(**fields).forward(values, [])

    expected = find(*values, **loops)
    assert top.shape == (1, 1, len(expected), 7)
    np.testing.assert_allclose(top[0, 0], expected, rtol=1e-12)
    assert BLOCK < len(expected) < N * 2 * len(values[2][0, 0]) // 4


def test_variance_in_the_moves():
    """Then the second half of the boxes is not needed; OpenCV's has none."""
    moves, scores, priors = bottoms(np.random.default_rng(0))
    variances = np.tile(priors[0, 1], (N, 1))

    (outside,) = layer().forward([moves, scores, priors], [])
    encoded = layer(variance_encoded_in_target=True)
    (inside,) = encoded.forward([moves * variances, scores, priors[:, :1]], [])

    np.testing.assert_allclose(inside, outside)


def test_nothing_found():
    """A row for each image; where some are found, none for those without."""
    moves, scores, priors = bottoms(np.random.default_rng(0))
    strict = layer(confidence_threshold=2)

    (top,) = strict.forward([moves, scores, priors], [])
    scores[1, 1] = 3
    (one,) = strict.forward([moves, scores, priors], [])

    np.testing.assert_array_equal(top, [[[[0, *[-1] * 6], [1, *[-1] * 6]]]])
    assert one.shape == (1, 1, 1, 7)
    assert one[0, 0, 0, :3].tolist() == [1, 1, 3]


def test_thresholds():
    """A score has to be above its own; the first box is always kept, and one that is no number."""
    moves, scores, priors = bottoms(np.random.default_rng(0))
    scores = scores.astype(np.float32)
    best = scores.max()
    for least, found in ((best, False), (np.nextafter(best, np.float32(0)), True)):
        strict = layer(confidence_threshold=float(least), background_label_id=CLASSES)
        (top,) = strict.forward([moves, scores, priors], [])
        assert (top[0, 0, 0, 2] == best) == found
    for none in ({"keep_top_k": 0}, {"nms_param": {"top_k": 0}}):
        (top,) = layer(**none).forward([moves, scores, priors], [])
        assert top[0, 0, :, 1].tolist() == [-1, -1]
    moves[:] = 0
    moves[0, :4] = np.nan
    scores[0] = np.repeat(np.arange(P, 0, -1), CLASSES)

    (top,) = layer(background_label_id=1, keep_top_k=3).forward([moves, scores, priors], [])

    # nothing is kept apart from a box that is no number
    assert top[0, 0, :2, 1:3].tolist() == [[0, 7], [2, 7]]
    assert np.isnan(top[0, 0, :2, 3:]).all()
    assert top[0, 0, 2, 0] == 1


def test_overlaps():
    """Squares on a grid; two that touch share nothing, and neither does one that is none."""
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [1, 1, 1, 1], [2, 2, 0, 0.0]])

    np.testing.assert_allclose(overlaps(boxes.T, boxes[0]), [1, 1 / 3, 0, 0, 0])


def test_equal_scores_keep_their_order():
    moves, scores, priors = bottoms(np.random.default_rng(0))
    scores[:] = 0.5
    wide = layer(nms_param={"nms_threshold": 1.0}, keep_top_k=9)

    (top,) = wide.forward([moves, scores, priors], [])

    assert [row[:2] for row in top[0, 0].tolist()] == [
        [i, c] for i in (0, 1) for c in [1] * 7 + [2] * 2
    ]
    boxes = priors[0, 0].reshape(P, 4) + moves[0].reshape(P, 4) * priors[0, 1].reshape(P, 4)
    np.testing.assert_allclose(top[0, 0, :7, 3:], boxes)


def test_in_a_net():
    """Its shape shows when it runs; before that it is Caffe's, one row."""
    values = dict(zip(BOTTOMS, bottoms(np.random.default_rng(0)), strict=True))
    inputs = [Input.of(k, (), k, shape={"dim": v.shape}) for k, v in values.items()]
    net = Net("n", (*inputs, layer()))

    blobs = forward(net, {}, values)

    *_, step = net.walk()
    assert step.tops == ((1, 1, 1, 7),)
    assert blobs["y"].shape[2] > 1
    np.testing.assert_array_equal(Plan(net, {}).run(values)["y"], blobs["y"])


def test_text():
    """What the public nets say, files among it, which are not written here."""
    text = """
layer { name: "d" type: "DetectionOutput" bottom: "moves" bottom: "scores" bottom: "priors" top: "y"
  detection_output_param { num_classes: 3 code_type: CENTER_SIZE nms_param { top_k: 400 }
    save_output_param { output_directory: "/nowhere" output_format: "VOC" num_test_image: 2
      resize_param { prob: 1 resize_mode: WARP height: 3 width: 5 interp_mode: LINEAR } }
    visualize: true visualize_threshold: 0.5 save_file: "/nowhere/film" } }
"""
    net = read_prototxt(text)

    assert read_prototxt(to_prototxt(net)) == net
    assert len(net.layers[0].forward(bottoms(np.random.default_rng(0)), [])[0][0, 0]) > 1


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ({"nms_param": {"nms_threshold": -0.1}}, SHAPES, "nms_threshold is -0.1 and eta 1"),
        ({"nms_param": {"eta": 0.0}}, SHAPES, "above 0 and at most 1"),
        ({"nms_param": {"eta": 1.5}}, SHAPES, "above 0 and at most 1"),
        ({}, [(N, 4 * P + 1), *SHAPES[1:]], r"7 boxes in 1x2x28 take \(N, 28\) and \(N, 21\)"),
        ({}, [SHAPES[0], (N + 1, CLASSES * P), SHAPES[2]], "have 2x28 and 3x21"),
        ({"share_location": False}, SHAPES, r"take \(N, 84\)"),
        ({}, [*SHAPES[:2], (1, 1, 4 * P)], "takes boxes and their variances"),
        ({}, [(N, 0), (N, 0), (1, 2, 3)], "takes one box before the net or more"),
    ],
)
def test_refused(fields, shapes, message):
    with pytest.raises(ShapeError, match=message):
        layer(**fields).top_shapes(shapes)
    assert layer().top_shapes(SHAPES) == [(1, 1, 1, 7)]


def test_no_classes():
    with pytest.raises(ShapeError, match="has no num_classes"):
        DetectionOutput.of("d", BOTTOMS, "y").top_shapes(SHAPES)


def test_refused_when_it_runs():
    """As in Caffe, which shapes the layer."""
    moves, scores, priors = bottoms(np.random.default_rng(0))
    flat = priors.copy()
    flat[0, 0, 2] = flat[0, 0, 0]

    with pytest.raises(ShapeError, match="takes boxes whose x2 is above x1"):
        layer(code_type="CENTER_SIZE").forward([moves, scores, flat], [])
    assert layer().forward([moves, scores, flat], [])
    with pytest.raises(ShapeError, match="set background_label_id: 3"):
        layer(background_label_id=-1).forward([moves, scores, priors], [])
    assert layer(background_label_id=3).forward([moves, scores, priors], [])
