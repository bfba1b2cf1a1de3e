"""Layers that find objects -> nodes of ONNX: boxes, regions, and what is pooled in them.

How many rows DetectionOutput and Proposal give shows when the model runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import UnknownLayerError
from resnet_proto.formats.onnx_graph import BOOL, FLOAT, INT64
from resnet_proto.layers import count
from resnet_proto.layers.detection_output import FLOAT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resnet_proto.formats.onnx_graph import Site
    from resnet_proto.layers import DetectionOutput, PriorBox, Proposal, PSROIPooling, ROIPooling


def cannot(layer: DetectionOutput | Proposal, reason: str) -> UnknownLayerError:
    """The refusal of a layer, with what to do."""
    return UnknownLayerError(
        f"layer '{layer.name}' ({layer.type}): {reason}, which cannot be written as ONNX; end the "
        f"net before it: its bottoms are {', '.join(map(repr, layer.bottoms))}"
    )


# ---- DetectionOutput


def detection_output(site: Site, layer: DetectionOutput) -> None:
    """Boxes by arithmetic, TopK, NonMaxSuppression, TopK and GatherND.

    Each class of each image is a batch of NonMaxSuppression by itself, of its ``top_k`` best boxes:
    so each has boxes of its own, and what is not kept does not count. Then the best of an image
    stay in a map of scores, at their places, in which NonZero finds them in Caffe's order.

    Raises:
        UnknownLayerError: an overlap that adapts (``eta``), or nothing to be found.
        ShapeError: no place for a class.
    """
    import numpy as np

    nms = layer.nms_param
    if np.float32(nms.get("eta", 1.0)) < 1:
        raise cannot(layer, f"with eta {nms['eta']:g} the overlap that is allowed changes")
    layer.check_background()
    images = site.step.bottoms[0][0]
    n = site.step.bottoms[2][2] // 4
    labels = [c for c in range(layer.num_classes) if c != layer.background_label_id]
    top_k = nms.get("top_k", -1)
    k = min(top_k, n) if top_k > -1 else n
    if not labels or not k or not layer.keep_top_k:
        raise cannot(layer, "by num_classes, top_k and keep_top_k it finds nothing")

    scores = site.reshape(site.bottoms[1], site.step.bottoms[1], (images, n, layer.num_classes))
    scores = site.op("Transpose", [scores], perm=(0, 2, 1))
    boxes = decoded(site, layer, images, n)
    if len(labels) < layer.num_classes:
        chosen = site.sizes("labels", labels)
        scores = site.op("Gather", [scores, chosen], axis=1)
        if not layer.share_location:
            boxes = site.op("Gather", [boxes, chosen], axis=1)
    # (N, C, k), the best first; of equal ones the first box, as ours
    best, order = site.between("best"), site.between("order")
    site.node("TopK", [scores, site.sizes("top_k", (k,))], [best, order], axis=2)
    found = (images, len(labels), k)
    if layer.share_location:
        flat = (images, len(labels) * k, 1)
        boxes = site.op("GatherND", [boxes, site.reshape(order, found, flat)], batch_dims=1)
    else:
        boxes = site.op("GatherND", [boxes, site.reshape(order, found, (*found, 1))], batch_dims=2)
        boxes = site.reshape(boxes, (*found, 4), (images, len(labels) * k, 4))

    by_class = site.reshape(best, found, (images * len(labels), 1, k))
    kept = suppressed(site, layer, boxes, by_class, found)
    best = site.reshape(kept, (images * len(labels), 1, k), (images, len(labels) * k))
    if -1 < layer.keep_top_k < len(labels) * k:
        values, places = site.between("kept"), site.between("places")
        keep = site.sizes("keep_top_k", (layer.keep_top_k,))
        site.node("TopK", [best, keep], [values, places], axis=1)
        best = site.op("ScatterElements", [lowest(site, best), places, values], axis=1)
    rows(site, best, boxes, np.repeat(labels, k))


def decoded(site: Site, layer: DetectionOutput, images: int, n: int) -> str:
    """The boxes, (N, P, 4) where classes share them, or (N, classes, P, 4): its ``decoded``.

    Caffe refuses a box before the net that has no area; a model does not look.
    """
    (_, _, shape), places = site.step.bottoms[:3], layer.n_places
    moves = site.reshape(site.bottoms[0], site.step.bottoms[0], (images, n, places, 4))
    flat = site.reshape(site.bottoms[2], shape, (count(shape),))
    encoded = layer.variance_encoded_in_target
    parts = [4 * n] * (1 if encoded else 2)
    rest = count(shape) - sum(parts)
    priors, *variances = site.split(flat, [*parts, *([rest] if rest else [])], 0)
    boxes = site.reshape(priors, (4 * n,), (1, n, 1, 4))
    if not encoded:
        factor = site.reshape(variances[0], (4 * n,), (1, n, 1, 4))
        moves = site.op("Mul", [factor, moves])
    if layer.code_type == "CORNER":
        corners = site.op("Add", [boxes, moves])
    else:
        low, high = site.split(boxes, (2, 2), 3)
        size = site.op("Sub", [high, low])
        if layer.code_type == "CORNER_SIZE":
            twice = site.op("Concat", [size, size], axis=3)
            corners = site.op("Add", [boxes, site.op("Mul", [moves, twice])])
        else:
            two = site.number("two", 2)
            by, log_size = site.split(moves, (2, 2), 3)
            middle = site.op("Div", [site.op("Add", [low, high]), two])
            middle = site.op("Add", [site.op("Mul", [by, size]), middle])
            half = site.op("Mul", [site.op("Exp", [log_size]), size])
            half = site.op("Div", [half, two])
            ends = [site.op(op, [middle, half]) for op in ("Sub", "Add")]
            corners = site.op("Concat", ends, axis=3)
    if places == 1 and layer.share_location:
        return site.reshape(corners, (images, n, 1, 4), (images, n, 4))
    return site.op("Transpose", [corners], perm=(0, 2, 1, 3))


def suppressed(
    site: Site, layer: DetectionOutput, boxes: str, scores: str, found: tuple[int, int, int]
) -> str:
    """The scores, (N C, 1, k), where a box is kept, and else -FLT_MAX.

    Caffe's box whose corners are the wrong way round shares nothing with others; ONNX would turn
    it, so here it gets no area.
    """
    import numpy as np

    images, labels, k = found
    low, high = site.split(boxes, (2, 2), 2)
    boxes = site.op("Concat", [low, site.op("Max", [low, high])], axis=2)
    boxes = site.reshape(boxes, (images, labels * k, 4), (images * labels, k, 4))
    least = layer.confidence_threshold
    threshold = min(np.float32(layer.nms_param.get("nms_threshold", 0.3)), np.float32(1))
    limits = [
        site.sizes("most", (k,)),
        site.constant("nms_threshold", np.array([threshold], np.float32)),
        site.constant(
            "confidence_threshold",
            np.array([-FLOAT_MAX if least is None else least], np.float32),
        ),
    ]
    chosen = site.op("NonMaxSuppression", [boxes, scores, *limits])
    values = site.op("GatherND", [scores, chosen])
    return site.op("ScatterND", [lowest(site, scores), chosen, values])


def lowest(site: Site, like: str) -> str:
    """-FLT_MAX everywhere."""
    return filled(site, site.op("Shape", [like]), -FLOAT_MAX)


def filled(site: Site, shape: str, value: float) -> str:
    """One number everywhere."""
    import numpy as np
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.array([value], np.float32))
    return site.op("ConstantOfShape", [shape], value=tensor)


def rows(site: Site, scores: str, boxes: str, labels: Iterable[int]) -> None:
    """The rows of seven; without any, one for each image: its number, and six times -1.

    ``scores`` are (N, M), -FLT_MAX where nothing is found, and ``boxes`` (N, M, 4); ``labels`` are
    those of the M places.
    """
    import numpy as np

    least = site.number("lowest", -FLOAT_MAX)
    places = site.op("NonZero", [site.op("Greater", [scores, least])])
    places = site.op("Transpose", [places], perm=(1, 0))
    image, place = site.split(places, (1, 1), 1)
    number = site.constant("label_of_place", np.array(list(labels), np.float32))
    values = site.op("Concat", [unsqueezed(site, scores, 2), boxes], axis=2)
    first = [
        site.op("Cast", [image], to=FLOAT),
        site.op("Gather", [number, place]),
        site.op("GatherND", [values, places]),
    ]
    found = site.op("Concat", first, axis=1)

    zero = site.sizes("zero", (0,))
    shape = site.op("Shape", [scores])
    images = site.op("Slice", [shape, zero, site.sizes("one", (1,))])
    numbers = site.op("NonZero", [filled(site, images, 1)])
    numbers = site.op("Cast", [site.op("Transpose", [numbers], perm=(1, 0))], to=FLOAT)
    pads = site.sizes("pads", (0, 0, 0, 6))
    none = site.op("Pad", [numbers, pads, site.number("none", -1)], mode="constant")
    n_found = site.op("Slice", [site.op("Shape", [found]), zero, site.sizes("one", (1,))])
    n_rows = site.op("Where", [site.op("Equal", [n_found, zero]), images, n_found])
    both = site.op("Concat", [found, none], axis=0)
    taken = site.op("Slice", [both, zero, n_rows])
    site.op("Reshape", [taken, site.sizes("rows", (1, 1, -1, 7))], site.tops[0])


def unsqueezed(site: Site, x: str, axis: int) -> str:
    """With an axis of 1 more; which has been an input since opset 13."""
    return site.op("Unsqueeze", [x, site.sizes("axis", (axis,))])


# ---- PriorBox, ROIPooling, PSROIPooling


def prior_box(site: Site, layer: PriorBox) -> None:
    """An initializer: the boxes of these sizes."""
    import numpy as np

    zeros = [np.zeros(shape, np.float32) for shape in site.step.bottoms]
    site.op("Identity", [site.constant("boxes", layer.forward(zeros, [])[0])], site.tops[0])


def roi_pooling(site: Site, layer: ROIPooling) -> None:
    """MaxRoiPool, which is Fast R-CNN's."""
    maps, regions = site.bottoms
    shape = site.step.bottoms[1]
    site.op(
        "MaxRoiPool",
        [maps, site.reshape(regions, shape, (shape[0], 5))],
        site.tops[0],
        pooled_shape=(layer.pooled_h, layer.pooled_w),
        spatial_scale=layer.spatial_scale,
    )


def psroi_pooling(site: Site, layer: PSROIPooling) -> None:
    """Sums over rows and columns that are 1 within a bin, as one MatMul for each bin."""
    import numpy as np

    (images, _, height, width), shape = site.step.bottoms
    k, outputs, regions = layer.group_size, layer.output_dim, shape[0]
    image, *corners = site.split(site.reshape(site.bottoms[1], shape, (regions, 5)), (1,) * 5, 1)
    x1, y1, x2, y2 = (away_from_zero(site, corner) for corner in corners)
    row = within(site, layer, y1, y2, height)  # (R, k, H)
    column = within(site, layer, x1, x2, width)
    n = site.op("Cast", [site.op("Cast", [image], to=INT64)], to=FLOAT)  # C++ cuts the rest off
    every = site.constant("images", np.arange(images, dtype=np.float32))
    of_image = site.op("Cast", [site.op("Equal", [n, every])], to=FLOAT)  # (R, N)

    # (k, 1, R, N, H, 1) and (1, k, R, 1, 1, W): what each bin sees of all images
    row_of = site.op(
        "Mul", [unsqueezed(site, row, 2), unsqueezed(site, unsqueezed(site, of_image, 1), 3)]
    )
    row_of = site.op("Transpose", [row_of], perm=(1, 0, 2, 3))  # (k, R, N, H)
    row_of = unsqueezed(site, unsqueezed(site, row_of, 1), 5)
    column_of = site.op("Transpose", [column], perm=(1, 0, 2))  # (k, R, W)
    column_of = unsqueezed(site, unsqueezed(site, unsqueezed(site, column_of, 0), 3), 3)
    seen = site.op("Mul", [row_of, column_of])
    area = images * height * width
    seen = site.reshape(seen, (k, k, regions, images, height, width), (k * k, regions, area))
    maps = site.reshape(
        site.bottoms[0], site.step.bottoms[0], (images, outputs, k * k, height * width)
    )
    maps = site.op("Transpose", [maps], perm=(2, 0, 3, 1))  # (k k, N, H W, outputs)
    maps = site.reshape(maps, (k * k, images, height * width, outputs), (k * k, area, outputs))
    total = site.op("MatMul", [seen, maps])  # (k k, R, outputs)
    total = site.op("Transpose", [total], perm=(1, 2, 0))
    total = site.reshape(total, (regions, outputs, k * k), (regions, outputs, k, k))

    sizes = [site.reduce("ReduceSum", mask, (2,), keepdims=0) for mask in (row, column)]
    size = site.op("Mul", [unsqueezed(site, sizes[0], 2), unsqueezed(site, sizes[1], 1)])
    size = site.op("Max", [size, site.number("one", 1)])  # an empty bin is 0
    site.op("Div", [total, unsqueezed(site, size, 1)], site.tops[0])


def away_from_zero(site: Site, x: str) -> str:
    """C's ``round``, exact: x + 0.5 is not."""
    size = site.op("Abs", [x])
    whole = site.op("Floor", [size])
    rest = site.op("Sub", [size, whole])
    up = site.op("Not", [site.op("Less", [rest, site.number("half", 0.5)])])
    whole = site.op("Add", [whole, site.op("Cast", [up], to=FLOAT)])
    return site.op("Mul", [whole, site.op("Sign", [x])])


def within(site: Site, layer: PSROIPooling, first: str, last: str, size: int) -> str:
    """1 where a bin covers a row or column of the map, (R, k, size): the layer's ``bins``."""
    import numpy as np

    k = layer.group_size
    scale, one = site.number("spatial_scale", layer.spatial_scale), site.number("one", 1)
    start = site.op("Mul", [first, scale])
    end = site.op("Mul", [site.op("Add", [last, one]), scale])
    step = site.op("Max", [site.op("Sub", [end, start]), site.number("least", 0.1)])
    step = site.op("Div", [step, site.number("group_size", k)])
    low, high = (
        site.op(op, [site.op("Add", [site.op("Mul", [step, site.constant("bins", bins)]), start])])
        for op, bins in (
            ("Floor", np.arange(k, dtype=np.float32)),
            ("Ceil", np.arange(1, k + 1, dtype=np.float32)),
        )
    )
    places = site.constant("places", np.arange(size, dtype=np.float32))
    behind = site.op("Not", [site.op("Less", [places, unsqueezed(site, low, 2)])])
    before = site.op("Less", [places, unsqueezed(site, high, 2)])
    return site.op("Mul", [site.op("Cast", [x], to=FLOAT) for x in (behind, before)])


# ---- Proposal


def proposal(site: Site, layer: Proposal) -> None:
    """The anchors of every cell, moved; TopK; and a Loop that takes the best one that is left.

    NonMaxSuppression has no last pixel that counts. With the boxes made larger by one it would find
    that boxes overlap which lie a part of a pixel apart.

    Raises:
        UnknownLayerError: nothing to be found.
    """
    import numpy as np

    (images, channels, rows, columns), _, shape = site.step.bottoms
    n_anchors = channels // 2
    n = rows * columns * n_anchors
    k = min(layer.pre_nms_topn, n)
    if k < 1:
        raise cannot(layer, "by pre_nms_topn it finds nothing")
    flat = site.reshape(site.bottoms[2], shape, (count(shape),))
    rest = count(shape) - 3
    height, width, scale, *_ = site.split(flat, (1, 1, 1, *([rest] if rest else [])), 0)
    one = site.number("one", 1)
    last = site.op("Sub", [site.op("Concat", [width, height] * 2, axis=0), one])
    smallest = site.op("Mul", [scale, site.number("min_size", layer.min_size)])
    low, high = np.split(layer.cells(rows, columns).reshape(-1, 4), 2, axis=1)
    size = site.constant("size", (high - low + 1).astype(np.float32))
    middle = site.constant("middle", (low + (high - low + 1) / 2).astype(np.float32))

    _, scores = site.split(site.bottoms[0], (n_anchors, n_anchors), 1)
    regions, kept = [], []
    each = (1,) * images
    for i, (score, moves) in enumerate(
        zip(site.split(scores, each, 0), site.split(site.bottoms[1], each, 0), strict=True)
    ):
        score = site.op("Transpose", [score], perm=(0, 2, 3, 1))
        score = site.reshape(score, (1, rows, columns, n_anchors), (n,))
        moves = site.reshape(
            moves, (1, 4 * n_anchors, rows, columns), (n_anchors, 4, rows, columns)
        )
        moves = site.op("Transpose", [moves], perm=(2, 3, 0, 1))
        moves = site.reshape(moves, (rows, columns, n_anchors, 4), (n, 4))
        by, log_size = site.split(moves, (2, 2), 1)
        centre = site.op("Add", [middle, site.op("Mul", [by, size])])
        half = site.op("Mul", [size, site.op("Exp", [log_size])])
        half = site.op("Div", [half, site.number("two", 2)])
        ends = [site.op(op, [centre, half]) for op in ("Sub", "Add")]
        boxes = site.op("Min", [site.op("Concat", ends, axis=1), last])
        boxes = site.op("Max", [boxes, site.number("zero", 0)])
        corners = site.split(boxes, (2, 2), 1)
        sides = sizes_of(site, corners[0], corners[1], one)
        shortest = site.reduce("ReduceMin", sides, (1,), keepdims=0)
        large = site.op("Not", [site.op("Less", [shortest, smallest])])
        score = site.op("Mul", [score, site.op("Cast", [large], to=FLOAT)])
        best, order = site.between("best"), site.between("order")
        site.node("TopK", [score, site.sizes("pre_nms_topn", (k,))], [best, order], axis=0)
        boxes = site.op("Gather", [boxes, order])
        chosen = apart(site, layer, boxes, k, one)
        pads = site.sizes("pads", (0, 1, 0, 0))
        boxes = site.op("Gather", [boxes, chosen])
        image = site.number("image", i)
        regions.append(site.op("Pad", [boxes, pads, image], mode="constant"))
        kept.append(site.op("Gather", [best, chosen]))
    for top, parts in zip(site.tops, (regions, kept), strict=False):
        site.op("Concat", parts, top, axis=0)


def sizes_of(site: Site, low: str, high: str, one: str) -> str:
    """Sides of boxes, whose last pixel counts."""
    return site.op("Add", [site.op("Sub", [high, low]), one])


def apart(site: Site, layer: Proposal, boxes: str, k: int, one: str) -> str:
    """Which of (k, 4) are kept, the best first: in each turn of a Loop the first that is left."""
    import numpy as np
    from onnx import helper

    low, high = site.split(boxes, (2, 2), 1)
    area = site.reduce("ReduceProd", sizes_of(site, low, high, one), (1,), keepdims=0)
    places = site.sizes("places", range(k))
    threshold = site.number("nms_thresh", layer.nms_thresh)
    zero = site.number("zero", 0)
    left = site.op("Less", [places, site.sizes("k", (k,))])

    body = site.within()
    turn, go, before = (body.between(name) for name in ("turn", "go", "before"))
    first = body.op("ArgMax", [body.op("Cast", [before], to=FLOAT)], axis=0, keepdims=0)
    its_low, its_high, its_area = (body.op("Gather", [x, first]) for x in (low, high, area))
    shared_low, shared_high = body.op("Max", [its_low, low]), body.op("Min", [its_high, high])
    sides = body.op("Sub", [shared_high, shared_low])
    least = body.reduce("ReduceMin", sides, (1,), keepdims=0)
    shared = body.reduce("ReduceProd", body.op("Add", [sides, one]), (1,), keepdims=0)
    shared = body.op("Where", [body.op("Less", [least, zero]), zero, shared])
    covered = body.op("Sub", [body.op("Add", [its_area, area]), shared])
    much = body.op("Greater", [shared, body.op("Mul", [covered, threshold])])
    behind = body.op("Greater", [places, first])
    after = body.op("And", [before, body.op("And", [behind, body.op("Not", [much])])])
    most = body.reduce("ReduceMax", body.op("Cast", [after], to=FLOAT), (0,), keepdims=0)
    again = body.op("Cast", [most], to=BOOL)

    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        body.graph.nodes,
        body.between("turns"),
        [info(turn, INT64, ()), info(go, BOOL, ()), info(before, BOOL, (k,))],
        [info(again, BOOL, ()), info(after, BOOL, (k,)), info(first, INT64, ())],
    )
    turns = site.constant("post_nms_topn", np.array(layer.post_nms_topn, np.int64))
    rest, chosen = site.between("rest"), site.between("chosen")
    site.node("Loop", [turns, "", left], [rest, chosen], body=graph)
    return chosen
