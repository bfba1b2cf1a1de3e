"""Layers of the detection forks, against OpenCV's: random maps and regions."""

import numpy as np
import pytest

from resnet_proto.engine import forward, run
from resnet_proto.engine.compare import TOLERANCE, compare
from resnet_proto.layers import Input, Proposal, PSROIPooling, ROIPooling
from resnet_proto.net import Net

pytestmark = pytest.mark.usefixtures("cv2")


def ours_and_theirs(layer, inputs):
    net = Net(
        "one",
        (*(Input.of(name, (), name, shape={"dim": x.shape}) for name, x in inputs.items()), layer),
    )
    return forward(net, {}, inputs), run("opencv", net, {}, inputs)


def regions(rng, rows, columns):
    """Of one image, some with corners between pixels, some beyond the map."""
    corners = np.sort(rng.uniform(0, 17, (6, 2, 2)), axis=1) * (columns, rows)
    boxes = corners.reshape(6, 4)
    boxes[:3] = boxes[:3].round()
    return np.insert(boxes, 0, 0, axis=1).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "layer",
    [
        ROIPooling.of("p", ("maps", "rois"), "y", pooled_h=4, pooled_w=3, spatial_scale=0.0625),
        PSROIPooling.of("p", ("maps", "rois"), "y", output_dim=2, group_size=3,
                        spatial_scale=0.0625),
    ],
    ids=["ROIPooling", "PSROIPooling"],
)  # fmt: skip
def test_pooling_of_regions(layer, seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.choice(np.arange(5, 16), 2, replace=False)
    maps = rng.normal(size=(1, 18, rows, columns)).astype(np.float32)

    ours, theirs = ours_and_theirs(layer, {"maps": maps, "rois": regions(rng, rows, columns)})

    assert not [row for row in compare(ours, theirs) if not row.within(TOLERANCE)]
    assert abs(ours["y"]).sum() > 0


@pytest.mark.parametrize("seed", range(6))
def test_proposals(seed):
    """OpenCV has no min_size, and fills up with rows of 0."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.choice(np.arange(4, 12), 2, replace=False)
    layer = Proposal.of(
        "p", ("scores", "moves", "im_info"), "rois", ratio=(0.5, 1.0, 2.0),
        scale=(8.0, 16.0, 32.0), min_size=1, post_nms_topn=(5, 50)[seed % 2],
    )  # fmt: skip

    ours, theirs = ours_and_theirs(
        layer,
        {
            "scores": rng.uniform(size=(1, 18, rows, columns)).astype(np.float32),
            "moves": (0.2 * rng.normal(size=(1, 36, rows, columns))).astype(np.float32),
            "im_info": np.array([[16 * rows - 3, 16 * columns - 5, 1]], np.float32),
        },
    )

    n = len(ours["rois"])
    assert 5 <= n <= layer.post_nms_topn
    np.testing.assert_allclose(ours["rois"], theirs["rois"][:n], rtol=1e-5, atol=1e-4)
    assert not theirs["rois"][n:].any()
