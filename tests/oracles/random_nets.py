"""Random nets of a few layers: what reads what, in-place, rules, repeated names, old inputs.

Layers are simple, since ``configurations`` tries each type by itself. Now and then one thing is
wrong, and then both engines must refuse the net.
"""

from resnet_proto.errors import NetError
from resnet_proto.layers import Input, make_layer
from resnet_proto.net import Net
from resnet_proto.words import Word


def conv(rng, shape):
    return {"num_output": int(rng.integers(1, 5)), "kernel_size": (int(rng.integers(1, 3)),)}


def reshape(rng, shape):
    dim = (0, -1) if rng.integers(2) else (0, 0, -1)
    return {"shape": {"dim": dim}}


# Type -> its fields for a bottom of this shape; how many bottoms, of one shape; how many tops.
PIECES = {
    "AbsVal": (lambda rng, shape: {}, 1, 1),
    "ArgMax": (lambda rng, shape: {"axis": 1}, 1, 1),
    "BatchNorm": (lambda rng, shape: {}, 1, 1),
    "Bias": (lambda rng, shape: {}, 1, 1),
    "Concat": (lambda rng, shape: {"axis": int(rng.integers(3))}, 2, 1),
    "Convolution": (conv, 1, 1),
    "Crop": (lambda rng, shape: {"axis": 1}, 2, 1),
    "Deconvolution": (conv, 1, 1),
    "Dropout": (lambda rng, shape: {}, 1, 1),
    "Eltwise": (lambda rng, shape: {"operation": Word(rng.choice(["SUM", "PROD", "MAX"]))}, 2, 1),
    "EuclideanLoss": (lambda rng, shape: {}, 2, 1),
    "Flatten": (lambda rng, shape: {}, 1, 1),
    "InnerProduct": (lambda rng, shape: {"num_output": int(rng.integers(1, 5))}, 1, 1),
    "LRN": (lambda rng, shape: {"local_size": 3}, 1, 1),
    "PReLU": (lambda rng, shape: {}, 1, 1),
    "Pooling": (lambda rng, shape: {"kernel_size": 2, "stride": int(rng.integers(1, 3))}, 1, 1),
    "Power": (lambda rng, shape: {"scale": -0.5, "shift": 2.0}, 1, 1),
    "ReLU": (lambda rng, shape: {}, 1, 1),
    "Reduction": (lambda rng, shape: {"axis": int(rng.integers(3))}, 1, 1),
    "Reshape": (reshape, 1, 1),
    "Scale": (lambda rng, shape: {"bias_term": bool(rng.integers(2))}, 1, 1),
    "Sigmoid": (lambda rng, shape: {}, 1, 1),
    "Silence": (lambda rng, shape: {}, 1, 0),
    "Slice": (lambda rng, shape: {"axis": len(shape) - 1, "slice_point": (1,)}, 1, 2),
    "Softmax": (lambda rng, shape: {}, 1, 1),
    "Split": (lambda rng, shape: {}, 1, 2),
    "TanH": (lambda rng, shape: {}, 1, 1),
    "Tile": (lambda rng, shape: {"tiles": 2}, 1, 1),
}
WEIGHTED = "BatchNorm Bias Convolution Deconvolution InnerProduct PReLU Scale".split()
"""Their names are their own: Caffe loads no caffemodel with another layer of such a name."""
RULES = (
    {"include": ({"phase": Word("TEST")},)},
    {"include": ({"phase": Word("TRAIN")},)},
    {"include": ({"stage": ("a",)}, {"max_level": 0})},
    {"include": ({"stage": ("a", "b")},)},
    {"include": ({},)},
    {"exclude": ({},)},
    {"exclude": ({"min_level": 1}, {"not_stage": ("a",)})},
    {"exclude": ({"phase": Word("TRAIN")},)},
    {"include": ({},), "exclude": ({"phase": Word("TRAIN")},)},
)
OTHERS = (
    {"loss_weight": (1.0,)},
    {"loss_weight": (0.0,)},
    {"loss_weight": (1.0,)},
    {"loss_weight": (2.0, 0.0)},
    {"propagate_down": (False,)},
    {"param": ({"lr_mult": 0.0},)},
    {"phase": Word("TEST")},
)


def inputs(rng):
    """Input layers or old fields; the shapes are different, or all the same."""
    n = int(rng.integers(1, 4))
    shapes = [tuple(int(x) for x in rng.integers(1, 6, 4)) for _ in range(n)]
    if rng.random() < 0.6:
        shapes = shapes[:1] * n
    names = tuple(f"in{i}" for i in range(n))
    way = int(rng.integers(4))
    dims = tuple({"dim": shape} for shape in shapes)
    if way == 0:
        return (), {"input": names, "input_dim": sum(shapes, ())}
    if way == 1:
        return (), {"input": names, "input_shape": dims}
    if way == 2:
        return (Input("data", "Input", (), names, {"input_param": {"shape": dims}}),), {}
    layers = zip(names, dims, strict=True)
    return tuple(Input.of(name, (), name, shape=dim) for name, dim in layers), {}


def random_net(rng):
    """A net that both take, or whose last layer both refuse."""
    layers, fields = inputs(rng)
    if rng.random() < 0.2:
        fields["state"] = {"stage": ("a",), "level": int(rng.integers(3))}
    for i in range(int(rng.integers(2, 8, endpoint=True))):
        net = Net("few", layers, fields)
        try:
            shapes = {}
            for step in net.walk():
                shapes |= dict(zip(step.layer.tops, step.tops, strict=True))
        except NetError:
            break
        layers = (*layers, random_layer(rng, i, layers, shapes))
    return Net("few", layers, fields), {}


def random_layer(rng, i, layers, shapes):
    """A layer that reads what there is; now and then what there is not."""
    type = str(rng.choice(list(PIECES)))
    piece, n_bottoms, n_tops = PIECES[type]
    names = list(shapes)
    first = names[-1] if rng.random() < 0.6 else str(rng.choice(names))
    same = [name for name in names if shapes[name] == shapes[first]]
    if type in ("Concat", "Eltwise") and rng.random() < 0.2:
        n_bottoms, same = 3, names
    bottoms = (first, *(str(rng.choice(same)) for _ in range(n_bottoms - 1)))
    tops = tuple(f"b{i}.{k}" for k in range(n_tops))
    if type == "EuclideanLoss" and rng.random() < 0.3:
        tops = ()
    mistake = rng.random()
    if mistake < 0.02:
        bottoms = (*bottoms[1:], "nobody")
    elif mistake < 0.04 and tops:
        tops = (*tops[1:], str(rng.choice(names)))
    own = piece(rng, shapes[first])
    message = {make_layer("", type).message: own} if own else {}
    layer = make_layer(f"l{i}", type, bottoms, tops, message)
    if rng.random() < 0.25 and tops and layer.may_work_in_place():
        layer = make_layer(layer.name, type, bottoms, (bottoms[0], *tops[1:]), message)
    name, more = layer.name, {}
    if rng.random() < 0.15 and type not in WEIGHTED:
        names = [other.name for other in layers if other.type not in WEIGHTED]
        name = str(rng.choice(names or ["input"]))
    if rng.random() < 0.12:
        more |= RULES[int(rng.integers(len(RULES)))]
    if rng.random() < 0.1:
        more |= OTHERS[int(rng.integers(len(OTHERS)))]
    return make_layer(name, type, layer.bottoms, layer.tops, message | more)
