"""Layers of the detection forks in random configurations: OpenCV's, and the Caffe's that trains.

That Caffe (brocolli-caffe) computes regions on the GPU only, so ROIPooling and PSROIPooling are
OpenCV's alone. SSD's layers: test_ssd_layers.py.
"""

import numpy as np
import pytest
from oracles.training import run_net

from resnet_proto.engine import forward, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.layers import Input, Proposal, PSROIPooling, ROIPooling
from resnet_proto.net import Net
from resnet_proto.prototxt import to_prototxt

N_CONFIGURATIONS = 60


def one_layer(layer, inputs):
    shapes = [Input.of(name, (), name, shape={"dim": x.shape}) for name, x in inputs.items()]
    return Net("one", (*shapes, layer))


def regions(rng, shape, scale):
    """Some with corners between pixels, some beyond the map, some without an area."""
    n, _, rows, columns = shape
    corners = rng.uniform(-0.1, 1.1, (int(rng.integers(1, 9)), 2, 2)) * (columns, rows) / scale
    corners = np.sort(corners, axis=1)
    corners[::3] = corners[::3].round()
    corners[1::4, 1] = corners[1::4, 0]
    images = rng.integers(0, n, len(corners))
    return np.insert(corners.reshape(-1, 4), 0, images, axis=1).astype(np.float32)


def roi_pooling(rng):
    h, w = rng.choice(np.arange(1, 8), 2, replace=False)
    return ROIPooling, {"pooled_h": int(h), "pooled_w": int(w)}, int(rng.integers(1, 5))


def psroi_pooling(rng):
    outputs, k = rng.choice(np.arange(1, 6), 2, replace=False)
    return PSROIPooling, {"output_dim": int(outputs), "group_size": int(k)}, int(outputs * k * k)


@pytest.mark.parametrize("engine", ["opencv", "onnxruntime"])
@pytest.mark.parametrize("configuration", [roi_pooling, psroi_pooling])
def test_pooling_of_regions(configuration, engine, request):
    request.getfixturevalue("cv2" if engine == "opencv" else engine)
    rng = np.random.default_rng(len(configuration.__name__))
    seen = 0
    for _ in range(N_CONFIGURATIONS):
        cls, fields, channels = configuration(rng)
        scale = float(np.float32(rng.choice([1, 0.5, 0.25, 0.0625, rng.uniform(0.05, 1)])))
        rows, columns = rng.choice(np.arange(4, 16), 2, replace=False)
        maps = rng.normal(size=(int(rng.integers(1, 4)), channels, rows, columns))
        inputs = {"maps": maps.astype(np.float32), "rois": regions(rng, maps.shape, scale)}
        net = one_layer(cls.of("p", ("maps", "rois"), "y", spatial_scale=scale, **fields), inputs)

        ours, theirs = forward(net, {}, inputs), run(engine, net, {}, inputs)

        assert ours["y"].shape == theirs["y"].shape
        text = f"{inputs['rois']}\n{to_prototxt(net)}"
        assert not [row for row in compare(ours, theirs) if not row.within(TOLERANCE)], text
        seen += ours["y"].any()
    assert seen > 0.9 * N_CONFIGURATIONS


def proposal(rng, images):
    """Fields, and inputs for them; scores differ, so that there is one order."""
    n_ratios, n_scales, rows, columns = rng.choice(np.arange(1, 9), 4, replace=False)
    fields = {
        "feat_stride": int(rng.choice([4, 8, 16])),
        "nms_thresh": float(rng.uniform(0.2, 0.9)),
        "pre_nms_topn": int(rng.choice([7, 100, 6000])),
        "post_nms_topn": int(rng.choice([1, 5, 50, 300])),
    }
    anchors, cells = n_ratios * n_scales, (rows, columns)
    scores = rng.permutation(images * 2 * anchors * rows * columns) + 1.0
    moves = rng.normal(size=(images, 4 * anchors, *cells)) * rng.choice([0.1, 0.5])
    size = np.array(cells) * fields["feat_stride"] - rng.integers(0, 5, 2)
    inputs = {
        "scores": (scores / len(scores)).reshape(images, 2 * anchors, *cells),
        "moves": moves,
        "im_info": np.array([[*size, 1]]),
    }
    inputs = {name: value.astype(np.float32) for name, value in inputs.items()}
    return fields, inputs, int(n_ratios), int(n_scales)


def test_proposals(cv2):
    """OpenCV has no min_size and one image, and fills up with rows of 0."""
    rng = np.random.default_rng(0)
    for _ in range(N_CONFIGURATIONS):
        fields, inputs, n_ratios, n_scales = proposal(rng, 1)
        fields["base_size"] = fields["feat_stride"]
        layer = Proposal.of(
            "p", ("scores", "moves", "im_info"), "rois", min_size=1,
            ratio=tuple(rng.uniform(0.3, 3, n_ratios)),
            scale=tuple(rng.uniform(1, 9, n_scales)), **fields,
        )  # fmt: skip
        net = one_layer(layer, inputs)

        ours, theirs = forward(net, {}, inputs), run("opencv", net, {}, inputs)

        n = len(ours["rois"])
        text = to_prototxt(net)
        assert 1 <= n <= layer.post_nms_topn
        np.testing.assert_allclose(ours["rois"], theirs["rois"][:n], 1e-5, 1e-4, err_msg=text)
        assert not theirs["rois"][n:].any(), text


def test_proposals_in_onnxruntime(onnxruntime):
    """Also with several images, and with regions that are too small; and their scores."""
    rng = np.random.default_rng(2)
    several = 0
    for _ in range(N_CONFIGURATIONS):
        fields, inputs, n_ratios, n_scales = proposal(rng, int(rng.integers(1, 4)))
        fields["base_size"] = int(rng.choice([12, 16, 24]))
        layer = Proposal.of(
            "p", ("scores", "moves", "im_info"), ("rois", "best"),
            min_size=int(rng.integers(1, 30)), ratio=tuple(rng.uniform(0.3, 3, n_ratios)),
            scale=tuple(rng.uniform(1, 9, n_scales)), **fields,
        )  # fmt: skip
        net = one_layer(layer, inputs)

        ours, theirs = forward(net, {}, inputs), run("onnxruntime", net, {}, inputs)

        text = to_prototxt(net)
        for row in compare({name: theirs[name] for name in ("rois", "best")}, ours):
            assert row.shape == row.reference, text
            assert row.within(TOLERANCE), f"{row}\n{text}"
        several += len(ours["rois"]) > 10
    assert several > N_CONFIGURATIONS / 4


def test_proposals_of_caffe(caffe_binary, tmp_path):
    """That Caffe rounds anchors once, so here sides are whole; it wants scales in pixels.

    Its order of regions that are too small, with no score, is by chance: those are left out.
    """
    rng = np.random.default_rng(1)
    layers, spelled, given, answers = [], [], {}, []
    for i in range(N_CONFIGURATIONS):
        fields, inputs, n_ratios, n_scales = proposal(rng, int(rng.integers(1, 4)))
        base = fields["base_size"] = int(rng.choice([12, 16, 24]))
        sides = [side for side in range(2, 3 * base) if base**2 % side == 0]
        fields["ratio"] = tuple(base**2 / side**2 for side in rng.choice(sides, n_ratios))
        fields["min_size"] = int(rng.integers(1, 2 * base))
        scales = tuple(float(x) for x in rng.integers(1, 5, n_scales))
        bottoms = tuple(f"{name}{i}" for name in inputs)
        inputs = dict(zip(bottoms, inputs.values(), strict=True))
        tops = (f"rois{i}", f"best{i}")
        layer = Proposal.of(f"p{i}", bottoms, tops, scale=scales, **fields)
        pixels = tuple(base * scale for scale in scales)
        spelled.append(Proposal.of(f"p{i}", bottoms, tops, scale=pixels, **fields))
        layers.append(layer)
        given |= inputs
        answers.append(forward(one_layer(layer, inputs), {}, inputs))

    status, log, blobs = run_net(caffe_binary, tmp_path, Net("all", tuple(spelled)), given)

    assert status == 0, log[-2000:]
    compared = 0
    for i, (layer, ours) in enumerate(zip(layers, answers, strict=True)):
        best, rois = ours[f"best{i}"], ours[f"rois{i}"]
        theirs = {name: blobs[f"{name}{i}"][:, :, 0, 0] for name in ("best", "rois")}
        for image in range(len(given[f"scores{i}"])):
            mine = (rois[:, 0] == image) & (best > 0)
            its = (theirs["rois"][:, 0] == image) & (theirs["best"][:, 0] > 0)
            np.testing.assert_array_equal(best[mine], theirs["best"][its, 0], repr(layer))
            np.testing.assert_allclose(
                rois[mine], theirs["rois"][its], 1e-5, 1e-4, err_msg=repr(layer)
            )
            compared += mine.sum()
        if best.min() > 0:
            assert rois.shape == theirs["rois"].shape
    assert compared > 5 * N_CONFIGURATIONS
