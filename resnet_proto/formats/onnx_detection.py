"""Layers that find objects -> nodes of ONNX: boxes, regions, and what is pooled in them.

How many rows DetectionOutput and Proposal give shows when the model runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_proto.errors import UnknownLayerError
from resnet_proto.formats.onnx_graph import BOOL, END, FLOAT, INT64, counting, product, sides
from resnet_proto.layers import Shape, count
from resnet_proto.layers.detection_output import FLOAT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resnet_proto.formats.onnx_graph import Site
    from resnet_proto.layers import (
        DetectionOutput,
        PriorBox,
        Proposal,
        PSROIPooling,
        ROIPooling,
        Shape,
    )


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
    most = at_most(site, "top_k", top_k if top_k > -1 else END, n, scores, 2)
    site.node("TopK", [scores, most], [best, order], axis=2)
    found = (images, len(labels), k)
    if layer.share_location:
        flat = (images, len(labels) * k, 1)
        boxes = site.op("GatherND", [boxes, site.reshape(order, found, flat)], batch_dims=1)
    else:
        boxes = site.op("GatherND", [boxes, site.reshape(order, found, (*found, 1))], batch_dims=2)
        boxes = site.reshape(boxes, (*found, 4), (images, len(labels) * k, 4))

    by_class = site.reshape(best, found, (images * len(labels), 1, k))
    kept = suppressed(site, layer, boxes, by_class, found, most)
    best = site.op("Flatten", [site.reshape(kept, (images * len(labels), 1, k), found)], axis=1)
    if layer.keep_top_k > -1 and (site.graph.any_size or layer.keep_top_k < len(labels) * k):
        values, places = site.between("kept"), site.between("places")
        keep = at_most(site, "keep_top_k", layer.keep_top_k, len(labels) * k, best, 1)
        site.node("TopK", [best, keep], [values, places], axis=1)
        best = site.op("ScatterElements", [lowest(site, best), places, values], axis=1)
    rows(site, best, boxes, labels, most)


def at_most(site: Site, name: str, most: int, size: int, x: str, axis: int) -> str:
    """A number, or the size of an axis of ``x``, now ``size``, if that is less."""
    if site.graph.any_size:
        return site.op("Min", [site.sizes(name, (most,)), sides(site, x, axis, axis + 1)])
    return site.sizes(name, (min(most, size),))


def decoded(site: Site, layer: DetectionOutput, images: int, n: int) -> str:
    """The boxes, (N, P, 4) where classes share them, or (N, classes, P, 4): its ``decoded``.

    Caffe refuses a box before the net that has no area; a model does not look.
    """
    (_, _, shape), places = site.step.bottoms[:3], layer.n_places
    moves = site.reshape(site.bottoms[0], site.step.bottoms[0], (images, n, places, 4))
    encoded = layer.variance_encoded_in_target
    if len(shape) == 3 and shape[::2] == (1, 4 * n):  # as PriorBox has them
        part: Shape = (1, 1, 4 * n)
        priors, *variances = site.split(site.bottoms[2], (1,) * shape[1], 1)
    else:
        part = (4 * n,)
        flat = site.reshape(site.bottoms[2], shape, (count(shape),))
        parts = [4 * n] * (1 if encoded else 2)
        rest = count(shape) - sum(parts)
        priors, *variances = site.split(flat, [*parts, *([rest] if rest else [])], 0)
    boxes = site.reshape(priors, part, (1, n, 1, 4))
    if not encoded:
        factor = site.reshape(variances[0], part, (1, n, 1, 4))
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
    site: Site,
    layer: DetectionOutput,
    boxes: str,
    scores: str,
    found: tuple[int, int, int],
    most: str,
) -> str:
    """The scores, (N C, 1, k), where a box is kept, and else -FLT_MAX; ``most`` is k.

    Caffe's box whose corners are the wrong way round shares nothing with others; ONNX would turn
    it, so here it gets no area.
    """
    import numpy as np

    images, labels, k = found
    low, high = site.split(boxes, (2, 2), 2)
    boxes = site.op("Concat", [low, site.op("Max", [low, high])], axis=2)
    boxes = site.reshape(boxes, (images, labels * k, 4), (images, labels, k * 4))
    boxes = site.op("Flatten", [boxes], axis=2)
    boxes = site.reshape(boxes, (images * labels, k * 4), (images * labels, k, 4))
    least = layer.confidence_threshold
    threshold = min(np.float32(layer.nms_param.get("nms_threshold", 0.3)), np.float32(1))
    limits = [
        site.constant("nms_threshold", np.array([threshold], np.float32)),
        site.constant(
            "confidence_threshold",
            np.array([-FLOAT_MAX if least is None else least], np.float32),
        ),
    ]
    chosen = site.op("NonMaxSuppression", [boxes, scores, most, *limits])
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


def rows(site: Site, scores: str, boxes: str, labels: Iterable[int], most: str) -> None:
    """The rows of seven; without any, one for each image: its number, and six times -1.

    ``scores`` are (N, M), -FLT_MAX where nothing is found, and ``boxes`` (N, M, 4); each of the
    ``labels`` has ``most`` of the M places.
    """
    import numpy as np

    least = site.number("lowest", -FLOAT_MAX)
    places = site.op("NonZero", [site.op("Greater", [scores, least])])
    places = site.op("Transpose", [places], perm=(1, 0))
    image, place = site.split(places, (1, 1), 1)
    number = site.constant("label", np.array(list(labels), np.float32))
    values = site.op("Concat", [unsqueezed(site, scores, 2), boxes], axis=2)
    first = [
        site.op("Cast", [image], to=FLOAT),
        site.op("Gather", [number, site.op("Div", [place, most])]),
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
    """An initializer: the boxes of these sizes. At any size they are made when it runs."""
    import numpy as np

    if site.graph.any_size and all(len(shape) == 4 for shape in site.step.bottoms):
        boxes_of_cells(site, layer)
        return
    zeros = [np.zeros(shape, np.float32) for shape in site.step.bottoms]
    site.op("Identity", [site.constant("boxes", layer.forward(zeros, [])[0])], site.tops[0])


def boxes_of_cells(site: Site, layer: PriorBox) -> None:
    """Around the middle of each cell, the boxes of each form; in parts of the image."""
    import numpy as np

    def pair(name: str, value: tuple[float, float]) -> str:
        return site.constant(name, np.array(value[::-1] * 2, np.float32))

    def sides_of(x: str) -> str:
        """Columns, rows, columns, rows: as x1, y1, x2, y2 need them."""
        order = site.sizes("order", (3, 2) * 2)
        return site.op("Cast", [site.op("Gather", [site.op("Shape", [x]), order])], to=FLOAT)

    size, step = layer.pair("img_size"), layer.pair("step")
    image = pair("img_size", size) if size else sides_of(site.bottoms[1])
    steps = pair("step", step) if step else site.op("Div", [image, sides_of(site.bottoms[0])])
    middle = site.op("Add", [placed(site, site.bottoms[0]), site.number("offset", layer.offset)])
    half = layer.sides() / 2
    around = site.constant("around", np.hstack([-half, half]).astype(np.float32))
    corners = site.op("Add", [site.op("Mul", [middle, steps]), around])  # (H, W, K, 4)
    corners = site.op("Div", [corners, image])
    if layer.clip:
        corners = site.op("Clip", [corners, site.number("zero", 0), site.number("one", 1)])
    variance = np.broadcast_to(np.array(layer.variance or 0.1, np.float32), 4)
    variances = site.constant("variance", variance)
    variances = site.op("Expand", [variances, site.op("Shape", [corners])])
    flat = site.sizes("flat", (1, 1, -1))
    rows = [site.op("Reshape", [x, flat]) for x in (corners, variances)]
    site.op("Concat", rows, site.tops[0], axis=1)


def placed(site: Site, x: str) -> str:
    """Columns, rows, columns, rows of each cell of a map when it runs, (H, W, 1, 4)."""
    import numpy as np

    each = []
    for axis, along, which in ((3, (-1, 1, 1), (1, 0)), (2, (-1, 1, 1, 1), (0, 1))):
        place = counting(site, sides(site, x, axis, axis + 1))
        place = site.op("Reshape", [place, site.sizes("along", along)])
        place = site.op("Cast", [place], to=FLOAT)
        each.append(site.op("Mul", [place, site.constant("which", np.array(which * 2, "f"))]))
    return site.op("Add", each)


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
    row = within(site, layer, y1, y2, 2)  # (R, k, H)
    column = within(site, layer, x1, x2, 3)
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
    if site.graph.any_size:
        rest = product(site, sides(site, seen, 3, 6))
        flat = site.op("Concat", [site.sizes("bins_regions", (k * k, -1)), rest], axis=0)
        seen = site.op("Reshape", [seen, flat])
    else:
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


def within(site: Site, layer: PSROIPooling, first: str, last: str, axis: int) -> str:
    """1 where a bin covers a place along an axis of the map, (R, k, size): the layer's ``bins``."""
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
    if site.graph.any_size:
        places = counting(site, sides(site, site.bottoms[0], axis, axis + 1))
        places = site.op("Cast", [places], to=FLOAT)
    else:
        n = site.step.bottoms[0][axis]
        places = site.constant("places", np.arange(n, dtype=np.float32))
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
    anchors = layer.cells(1, 1) if site.graph.any_size else layer.cells(rows, columns)
    low, high = np.split(anchors, 2, axis=3)
    size = site.constant("size", (high - low + 1).astype(np.float32))
    middle = site.constant("middle", (low + (high - low + 1) / 2).astype(np.float32))
    if site.graph.any_size:
        places, _ = site.split(placed(site, site.bottoms[0]), (2, 2), 3)
        stride = site.number("feat_stride", layer.feat_stride)
        middle = site.op("Add", [middle, site.op("Mul", [places, stride])])

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
        by, log_size = site.split(moves, (2, 2), 3)
        centre = site.op("Add", [middle, site.op("Mul", [by, size])])
        half = site.op("Mul", [size, site.op("Exp", [log_size])])
        half = site.op("Div", [half, site.number("two", 2)])
        ends = [site.op(op, [centre, half]) for op in ("Sub", "Add")]
        boxes = site.op("Concat", ends, axis=3)
        boxes = site.reshape(boxes, (rows, columns, n_anchors, 4), (n, 4))
        boxes = site.op("Min", [boxes, last])
        boxes = site.op("Max", [boxes, site.number("zero", 0)])
        corners = site.split(boxes, (2, 2), 1)
        lengths = sizes_of(site, corners[0], corners[1], one)
        shortest = site.reduce("ReduceMin", lengths, (1,), keepdims=0)
        large = site.op("Not", [site.op("Less", [shortest, smallest])])
        score = site.op("Mul", [score, site.op("Cast", [large], to=FLOAT)])
        best, order = site.between("best"), site.between("order")
        most = at_most(site, "pre_nms_topn", layer.pre_nms_topn, n, score, 0)
        site.node("TopK", [score, most], [best, order], axis=0)
        boxes = site.op("Gather", [boxes, order])
        chosen = apart(site, layer, boxes, k, most, one)
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


def apart(site: Site, layer: Proposal, boxes: str, k: int, most: str, one: str) -> str:
    """Which of (k, 4) are kept, the best first: in each turn of a Loop the first that is left."""
    import numpy as np
    from onnx import helper

    low, high = site.split(boxes, (2, 2), 1)
    area = site.reduce("ReduceProd", sizes_of(site, low, high, one), (1,), keepdims=0)
    places = counting(site, most) if site.graph.any_size else site.sizes("places", range(k))
    threshold = site.number("nms_thresh", layer.nms_thresh)
    zero = site.number("zero", 0)
    left = site.op("Less", [places, most])

    body = site.within()
    turn, go, before = (body.between(name) for name in ("turn", "go", "before"))
    first = body.op("ArgMax", [body.op("Cast", [before], to=FLOAT)], axis=0, keepdims=0)
    its_low, its_high, its_area = (body.op("Gather", [x, first]) for x in (low, high, area))
    shared_low, shared_high = body.op("Max", [its_low, low]), body.op("Min", [its_high, high])
    shared_sides = body.op("Sub", [shared_high, shared_low])
    least = body.reduce("ReduceMin", shared_sides, (1,), keepdims=0)
    shared = body.reduce("ReduceProd", body.op("Add", [shared_sides, one]), (1,), keepdims=0)
    shared = body.op("Where", [body.op("Less", [least, zero]), zero, shared])
    covered = body.op("Sub", [body.op("Add", [its_area, area]), shared])
    much = body.op("Greater", [shared, body.op("Mul", [covered, threshold])])
    behind = body.op("Greater", [places, first])
    after = body.op("And", [before, body.op("And", [behind, body.op("Not", [much])])])
    more = body.reduce("ReduceMax", body.op("Cast", [after], to=FLOAT), (0,), keepdims=0)
    again = body.op("Cast", [more], to=BOOL)

    info, size = helper.make_tensor_value_info, None if site.graph.any_size else k
    graph = helper.make_graph(
        body.graph.nodes,
        body.between("turns"),
        [info(turn, INT64, ()), info(go, BOOL, ()), info(before, BOOL, (size,))],
        [info(again, BOOL, ()), info(after, BOOL, (size,)), info(first, INT64, ())],
    )
    turns = site.constant("post_nms_topn", np.array(layer.post_nms_topn, np.int64))
    rest, chosen = site.between("rest"), site.between("chosen")
    site.node("Loop", [turns, "", left], [rest, chosen], body=graph)
    return chosen
