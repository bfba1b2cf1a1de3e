"""Random configurations of each layer type, and random nets of one layer.

``rng`` is a Generator of numpy, or a ``drawn.Drawn``, which hypothesis can shrink.
"""

from dataclasses import replace

import numpy as np

from resnet_proto import schema
from resnet_proto.layers import REGISTRY, Input, make_layer
from resnet_proto.net import Net
from resnet_proto.words import Word


def sizes(rng, least, most, n):
    """Sizes of which no two are equal."""
    return tuple(int(x) for x in rng.choice(np.arange(least, most + 1), n, replace=False))


def some(rng, **fields):
    """Each field or not."""
    return {name: value for name, value in fields.items() if rng.random() < 0.5}


def spatial(rng, name, least, most, n_axes, *, repeated):
    """A size for each axis, in one of the ways to spell it."""
    way = rng.integers(3)
    if way == 0 and n_axes == 2:
        short = name.removesuffix("_size")
        rows, columns = (int(x) for x in rng.integers(least, most, 2, endpoint=True))
        return {f"{short}_h": rows, f"{short}_w": columns}
    if way == 1 and repeated:
        return {name: tuple(int(x) for x in rng.integers(least, most, n_axes, endpoint=True))}
    value = int(rng.integers(least, most, endpoint=True))
    return {name: (value,) if repeated else value}


def any_shape(rng):
    """One to five axes."""
    return sizes(rng, 1, 7, int(rng.integers(1, 5, endpoint=True)))


class Whole(dict):
    """A layer's fields, all messages by name, where those of its own message are not enough."""


def labels(rng, shape, n):
    """Values for a bottom of whole numbers below n."""
    return rng.integers(0, n, shape)


def axis_of(rng, shape, beyond=0.2):
    """An axis, from the front or the back; now and then there is no such axis."""
    return int(rng.integers(-len(shape), len(shape) + (rng.random() < beyond)))


# Each gives the fields of the type's own message, or the whole layer's; the bottoms' shapes, or
# their values where not any will do; and the number of tops.


def neuron(**values):
    """Types that compute each value by itself; a field is set or not."""

    def configuration(rng):
        return some(rng, **{k: v(rng) for k, v in values.items()}), [any_shape(rng)], 1

    return configuration


def normal(rng):
    return float(rng.normal())


def caffes_engine(rng):
    return Word("CAFFE")


def scores_and_labels(rng, behind=0):
    """Scores, labels, the axis of the classes, and a label to ignore."""
    shape = any_shape(rng)
    while len(shape) <= behind:
        shape = any_shape(rng)
    axis = axis_of(rng, shape, 0.1)
    if axis % len(shape) < behind and rng.random() < 0.9:
        axis = behind
    n = shape[min(axis, len(shape) - 1)]
    places = [size for i, size in enumerate(shape) if i != axis % len(shape)] or [1]
    if rng.random() < 0.2:
        places = [places[0], int(np.prod(places[1:]))]
    if rng.random() < 0.1:
        places[int(rng.integers(len(places)))] += 1
    scores = 4 * rng.normal(size=shape)
    if rng.random() < 0.2:
        scores = np.round(scores)  # so that some are equal
    return scores, labels(rng, places, n), axis, int(rng.integers(n))


def accuracy(rng):
    scores, label, axis, ignored = scores_and_labels(rng)
    fields = {"axis": axis} | some(rng, top_k=int(rng.integers(1, 5)), ignore_label=ignored)
    return fields, [scores, label], int(rng.integers(1, 3))


def loss_param(rng, ignored):
    modes = ("FULL", "VALID", "BATCH_SIZE", "NONE")
    fields = some(rng, ignore_label=ignored, normalization=Word(rng.choice(modes)))
    if rng.random() < 0.3:
        fields["normalize"] = bool(rng.random() < 0.5)
    return {"loss_param": fields} if fields else {}


def softmax_with_loss(rng):
    scores, label, axis, ignored = scores_and_labels(rng, behind=1)
    fields = {"softmax_param": {"axis": axis, **some(rng, engine=Word("CAFFE"))}}
    n_tops = int(rng.choice([0, 1, 1, 1, 1, 1, 2]))
    n_weights = n_tops or 1
    if rng.random() < 0.6:
        n_weights = n_weights if rng.random() < 0.9 else 2
        fields["loss_weight"] = (1.0, 0.0)[:n_weights]
    return Whole(fields | loss_param(rng, ignored)), [scores * 10, label], n_tops


def euclidean_loss(rng):
    shape = any_shape(rng)
    other = shape if rng.random() < 0.6 else (shape[0], int(np.prod(shape[1:])))
    if rng.random() < 0.15:
        other = any_shape(rng)
    return {}, [shape, other], int(rng.integers(2))


def sigmoid_cross_entropy_loss(rng):
    _, (shape, other), n_tops = euclidean_loss(rng)
    targets = rng.uniform(0, 1, other)
    if rng.random() < 0.5:
        targets = rng.integers(-1, 2, other)
    fields = loss_param(rng, int(rng.integers(-1, 2)))
    return Whole(fields), [shape, targets], n_tops


def argmax(rng):
    shape = any_shape(rng)
    fields = some(rng, out_max_val=True, top_k=int(rng.integers(1, 4)), axis=axis_of(rng, shape))
    values = rng.normal(size=shape)
    return fields, [np.round(values) if rng.random() < 0.3 else values], 1


def batch_reindex(rng):
    shape = any_shape(rng)
    places = labels(rng, int(rng.integers(1, 9)), shape[0])
    if rng.random() < 0.15:
        places[0] = rng.choice([-1, shape[0]])
    return {}, [shape, places[:, None] if rng.random() < 0.1 else places], 1


def batch_norm(rng):
    fields = some(rng, use_global_stats=True, eps=1e-3, moving_average_fraction=0.9)
    return fields, [sizes(rng, 2, 7, int(rng.integers(2, 5, endpoint=True)))], 1


def concat(rng):
    shape = any_shape(rng)
    axis = axis_of(rng, shape)
    bottoms = [list(shape) for _ in range(int(rng.integers(1, 4)))]
    for bottom in bottoms:
        bottom[min(axis, len(shape) - 1)] = int(rng.integers(1, 8))
    if rng.random() < 0.15:
        bottoms[-1][int(rng.integers(len(shape)))] += 1
    if rng.random() < 0.1:
        bottoms[-1].append(1)
    fields = {"axis": axis} if axis != 1 or rng.random() < 0.5 else {}
    if axis >= 0 and rng.random() < 0.4:
        fields = {"concat_dim": axis} | (fields if rng.random() < 0.2 else {})
    return fields, [tuple(bottom) for bottom in bottoms], 1


def convolution(rng):
    n_axes = int(rng.choice([1, 2, 2, 2, 3]))
    group = int(rng.choice([1, 1, 2, 3]))
    n, channels, out, *shape = sizes(rng, 2, 9, 3 + n_axes)
    n_bottoms = int(rng.choice([1, 1, 1, 2]))
    fields = {
        "num_output": out * group,
        **spatial(rng, "kernel_size", 1, 4, n_axes, repeated=True),
        **some(rng, bias_term=False, group=group, engine=Word("CAFFE"), force_nd_im2col=True),
    }
    for name, least, most in (("stride", 1, 3), ("pad", 0, 2)):
        if rng.random() < 0.6:
            fields |= spatial(rng, name, least, most, n_axes, repeated=True)
    if rng.random() < 0.3:
        fields["dilation"] = (int(rng.integers(0, 3)),)  # 0: all taps see one value
    if rng.random() < 0.2:
        fields["axis"] = int(rng.choice([1, 2, -n_axes - 1]))
    bottom = (n, channels * (group if rng.random() < 0.9 else 1), *shape)
    return fields, [bottom] * n_bottoms, n_bottoms


def contrastive_loss(rng):
    n, c = sizes(rng, 2, 7, 2)
    similar = rng.integers(0, 2, n)
    ones = (1,) * int(rng.integers(3))
    other = (n, c) if rng.random() < 0.9 else (n, c + 1)
    if rng.random() < 0.1:
        ones = (1, 2)
    bottoms = [rng.normal(size=(n, c, *ones)), rng.normal(size=other), similar]
    fields = some(rng, margin=float(rng.uniform(1, 5)), legacy_version=True)
    return fields, bottoms, int(rng.integers(2))


def crop(rng):
    shape = any_shape(rng)
    axis = int(rng.integers(len(shape)))
    offset = [int(rng.integers(0, max(1, size // 2))) for size in shape[axis:]]
    if rng.random() < 0.3:
        offset = offset[:1] if rng.random() < 0.7 else offset[1:]
    first = (offset or [0]) * (len(shape) if len(offset) < 2 else 1)
    like = list(sizes(rng, 1, 9, len(shape)))
    for i, start in zip(range(axis, len(shape)), first, strict=False):
        like[i] = int(rng.integers(1, max(2, shape[i] - start + (rng.random() < 0.9))))
    if rng.random() < 0.2:
        like = [*like, 2] if rng.random() < 0.5 else like[:-1]
    fields = {"axis": axis - (len(shape) if rng.random() < 0.3 else 0)}
    return fields | ({"offset": tuple(offset)} if offset else {}), [shape, tuple(like)], 1


def deconvolution(rng):
    fields, bottoms, n_tops = convolution(rng)
    return fields, bottoms, n_tops if rng.random() < 0.95 else n_tops + 1


def dummy_data(rng):
    n = int(rng.integers(1, 3, endpoint=True))
    several = n if rng.random() < 0.7 else int(rng.integers(1, 3, endpoint=True))
    fillers = ({"value": normal(rng)}, {"type": "constant"}, {"value": 2.0})[:several]
    fields = some(rng, data_filler=fillers)
    if rng.random() < 0.5:
        sides = ("num", "channels", "height", "width")
        fields |= {name: tuple(sizes(rng, 1, 7, n)) for name in sides}
        fields["height"] = fields["height"][:several]
    else:
        fields["shape"] = tuple({"dim": any_shape(rng)} for _ in range(several))
    return fields, [], n


def eltwise(rng):
    n = int(rng.integers(2, 4, endpoint=True))
    bottoms = [any_shape(rng)] * n
    if rng.random() < 0.15:
        bottoms[-1] = any_shape(rng)
    fields = some(rng, operation=Word(rng.choice(["PROD", "SUM", "MAX"])), stable_prod_grad=False)
    if rng.random() < 0.4:
        fields["coeff"] = tuple(float(x) for x in rng.normal(size=n - int(rng.random() < 0.2)))
    return fields, bottoms, 1


def embed(rng):
    shape, n = any_shape(rng), int(rng.integers(1, 6))
    fields = {"num_output": int(rng.integers(1, 6)), "input_dim": n, **some(rng, bias_term=False)}
    if rng.random() < 0.15:
        fields.pop(str(rng.choice(["num_output", "input_dim"])))
    return fields, [labels(rng, shape, n)], 1


def filter_(rng):
    n = int(rng.integers(2, 7))
    selector = rng.integers(0, 2, n) * 2.5
    selector[0] = 1
    shape = (n, *any_shape(rng)[:3])
    bottoms = [shape, (n, 3), (n,)][: int(rng.integers(1, 4))]
    if rng.random() < 0.1:
        bottoms[-1] = (n + 1, 2)
    if rng.random() < 0.2:
        selector = np.repeat(selector[:, None], rng.choice([1, 1, 2]), axis=1)
    return {}, [*bottoms, selector], len(bottoms) + int(rng.random() < 0.1)


def flatten(rng):
    shape = any_shape(rng)
    return some(rng, axis=axis_of(rng, shape), end_axis=axis_of(rng, shape)), [shape], 1


def hdf5_output(rng):
    a, b = any_shape(rng), any_shape(rng)
    return {"file_name": "FOLDER/out.h5"}, [a, (a[0], *b[1:]) if rng.random() < 0.8 else b], 0


def hinge_loss(rng):
    shape = any_shape(rng)
    n = int(np.prod(shape[1:]))
    places = (shape[0] + int(rng.random() < 0.1), *any_shape(rng)[: int(rng.integers(0, 3))])
    return some(rng, norm=Word("L2")), [shape, labels(rng, places, n)], int(rng.integers(2))


def im2col(rng):
    fields, bottoms, _ = convolution(rng)
    return fields, bottoms[:1], 1


def infogain_loss(rng):
    scores, label, axis, ignored = scores_and_labels(rng, behind=1)
    n = scores.shape[min(axis, scores.ndim - 1)]
    fields = {"infogain_loss_param": {"axis": axis}} | loss_param(rng, ignored)
    gains = (n, n) if rng.random() < 0.9 else (n, n + 1)
    gains = (1, n * n) if rng.random() < 0.2 else gains
    n_tops = int(rng.choice([0, 1, 1, 2]))
    if n_tops == 2 and rng.random() < 0.8:
        fields["loss_weight"] = (1.0, 0.0)
    bottoms = [scores, label, gains][: 3 if rng.random() < 0.95 else 2]
    if rng.random() < 0.7:
        fields.get("loss_param", {}).pop("normalize", None)
    return Whole(fields), bottoms, n_tops


def inner_product(rng):
    shape = any_shape(rng)
    axis = int(rng.integers(-len(shape), len(shape) + (rng.random() < 0.2)))
    fields = {"num_output": int(rng.integers(1, 9)), **some(rng, bias_term=False, transpose=True)}
    return fields | some(rng, axis=axis), [shape], 1


def input_(rng):
    n = int(rng.integers(1, 3, endpoint=True))
    n_shapes = n if rng.random() < 0.5 else int(rng.integers(1, 3, endpoint=True))
    return {"shape": tuple({"dim": any_shape(rng)} for _ in range(n_shapes))}, [], n


def pooling(rng):
    n, channels, rows, columns = sizes(rng, 2, 12, 4)
    fields = some(rng, pool=Word("AVE"), round_mode=Word(rng.choice(["CEIL", "FLOOR"])))
    if rng.random() < 0.15:
        fields["global_pooling"] = True
        if rng.random() < 0.3:
            fields["stride"] = 2
    if "global_pooling" not in fields or rng.random() < 0.2:
        fields |= spatial(rng, "kernel_size", 1, 4, 2, repeated=False)
        if rng.random() < 0.7:
            fields |= spatial(rng, "stride", 1, 3, 2, repeated=False)
        if rng.random() < 0.6:
            fields |= spatial(rng, "pad", 0, 2, 2, repeated=False)
    if rng.random() < 0.1:
        fields["kernel_h"] = 2
    shape = (n, channels, rows, columns) if rng.random() < 0.95 else (n, channels, rows)
    return fields, [shape], 1 if fields.get("pool") else int(rng.choice([1, 1, 2]))


def lrn(rng):
    shape = any_shape(rng) if rng.random() < 0.1 else sizes(rng, 1, 9, 4)
    size = int(rng.choice([1, 3, 3, 5, 7, 4]))
    return (
        some(
            rng,
            local_size=size,
            alpha=float(rng.uniform(0, 3)),
            beta=float(rng.uniform(0, 2)),
            k=float(rng.uniform(0.5, 3)),
            norm_region=Word(rng.choice(["ACROSS_CHANNELS", "WITHIN_CHANNEL"])),
            engine=Word("CAFFE"),
        ),
        [shape],
        1,
    )


def recurrent(rng):
    steps, streams, values, outputs = sizes(rng, 1, 6, 4)
    expose = rng.random() < 0.4
    fields = {"num_output": outputs} | ({"expose_hidden": True} if expose else {})
    cont = rng.integers(0, 2, (steps, streams))
    bottoms = [(steps, streams, values), cont]
    if rng.random() < 0.3:
        bottoms[0] = (*bottoms[0], 2)
    if rng.random() < 0.4:
        bottoms.append((streams, 3, *((2,) if rng.random() < 0.3 else ())))
    state = (1, streams, outputs)
    change = rng.random()
    if change < 0.06:
        bottoms[0] = bottoms[0][:2]
    elif change < 0.12:
        bottoms[1] = cont[:, :-1] if streams > 1 else cont[:-1]
    elif change < 0.18:
        state = (1, streams, outputs + 1)
    elif change < 0.22:
        fields.pop("num_output")
    return fields, bottoms, state, expose


def rnn(rng):
    fields, bottoms, state, expose = recurrent(rng)
    return fields, bottoms + [state] * expose, 1 + expose


def lstm(rng):
    fields, bottoms, state, expose = recurrent(rng)
    n_tops = 1 + 2 * expose - int(rng.random() < 0.05)
    return fields, bottoms + [state] * 2 * expose, n_tops


def lstm_unit(rng):
    streams, outputs = sizes(rng, 1, 6, 2)
    bottoms = [[1, streams, outputs], [1, streams, 4 * outputs], [1, streams]]
    if rng.random() < 0.3:
        bottoms[int(rng.integers(3))][int(rng.integers(2))] += 1
    c, gates, cont = map(tuple, bottoms)
    return {}, [c, gates, labels(rng, cont, 2)], 2


def multinomial_logistic_loss(rng):
    shape = any_shape(rng)
    n = int(np.prod(shape[1:]))
    places = (shape[0] + int(rng.random() < 0.1), *([1] * int(rng.integers(3))))
    if rng.random() < 0.1:
        places += (2,)
    probabilities = rng.uniform(0, 1, shape) ** 4
    return {}, [probabilities, labels(rng, places, n)], int(rng.integers(2))


def mvn(rng):
    fields = some(rng, normalize_variance=False, across_channels=True, eps=float(rng.uniform(0, 1)))
    return fields, [any_shape(rng)], 1


def parameter(rng):
    return some(rng, shape={"dim": any_shape(rng)}), [], 1


def log_and_exp(rng, **fields):
    bases = [-1, 2, 10, 0.5, 1, 0, -2]
    base = float(rng.choice(bases, p=[0.2, 0.2, 0.2, 0.2, 0.1, 0.05, 0.05]))
    return some(rng, base=base, **fields)


def exp(rng):
    fields = log_and_exp(rng, scale=normal(rng), shift=normal(rng))
    return fields, [rng.normal(size=any_shape(rng))], 1


def log(rng):
    fields = log_and_exp(rng, scale=float(rng.uniform(0.5, 2)), shift=float(rng.uniform(0, 1)))
    return fields, [rng.uniform(0.1, 9, any_shape(rng))], 1


def reduction(rng):
    shape = any_shape(rng)
    operation = Word(rng.choice(["SUM", "ASUM", "SUMSQ", "MEAN"]))
    fields = some(rng, operation=operation, axis=axis_of(rng, shape), coeff=normal(rng))
    return fields, [rng.uniform(0.5, 2, shape)], 1


def spp(rng):
    shape = any_shape(rng) if rng.random() < 0.1 else sizes(rng, 2, 12, 4)
    height = int(rng.choice([0, 1, 1, 2, 2, 3]))
    return {"pyramid_height": height, **some(rng, pool=Word("AVE"))}, [shape], 1


def tile(rng):
    shape = any_shape(rng)
    fields = {"tiles": int(rng.integers(1, 4))} if rng.random() < 0.9 else {}
    return fields | some(rng, axis=axis_of(rng, shape)), [shape], 1


def power(rng):
    """No root of a negative number, and no 0 ** -1."""
    fields = some(rng, power=float(rng.choice([0, 1, 2, 3, -1, 0.5])), scale=abs(normal(rng)))
    if rng.random() < 0.2:
        fields["scale"] = 0.0
    if rng.random() < 0.5 or not fields.get("scale", 1):
        fields["shift"] = 4.0 + normal(rng)
    return fields, [rng.uniform(0.1, 2, any_shape(rng))], 1


def reshape(rng):
    shape = any_shape(rng)
    start = int(rng.integers(0, len(shape) + 1))
    end = int(rng.integers(start, len(shape) + 1))
    inner = list(shape[start:end])
    dim = [int(np.prod(inner))] if rng.random() < 0.3 else list(inner)
    if dim and rng.random() < 0.4:
        dim.insert(int(rng.integers(len(dim) + 1)), 1)
    for i in range(len(dim)):
        if rng.random() < 0.3:
            dim[i] = int(rng.choice([0, 0, -1, -1, -1, 1, 2]))
    fields = {"shape": {"dim": tuple(dim)}} if dim or rng.random() < 0.5 else {}
    if start or rng.random() < 0.5:
        fields["axis"] = start - (len(shape) + 1 if rng.random() < 0.3 else 0)
    if end < len(shape) or rng.random() < 0.5:
        fields["num_axes"] = end - start if rng.random() < 0.9 else int(rng.integers(-2, 3))
    return fields, [shape], 1


def bias(rng):
    fields, bottoms, n_tops = scale(rng)
    fields.pop("bias_term", None)
    return fields, bottoms, n_tops


def scale(rng):
    shape = any_shape(rng)
    axis = int(rng.integers(-len(shape), len(shape)))
    start = axis % len(shape)
    n_axes = int(rng.integers(-1, len(shape) - start + (rng.random() < 0.3), endpoint=True))
    fields = some(rng, bias_term=True)
    if rng.random() < 0.8:
        fields |= {"axis": axis, "num_axes": n_axes}
    if rng.random() < 0.3:
        other = shape[start : start + max(n_axes, 0)] if rng.random() < 0.8 else any_shape(rng)
        return fields, [shape, other], 1
    return fields, [shape], 1


def silence(rng):
    return {}, [any_shape(rng) for _ in range(int(rng.integers(1, 4)))], 0


def slice_(rng):
    shape = any_shape(rng)
    axis = axis_of(rng, shape)
    size = shape[min(axis, len(shape) - 1)]
    n = int(rng.integers(1, 5))
    fields = {"axis": axis} if axis != 1 or rng.random() < 0.5 else {}
    if axis >= 0 and rng.random() < 0.4:
        fields = {"slice_dim": axis} | (fields if rng.random() < 0.2 else {})
    if size % n or rng.random() < 0.5:
        points = sorted(int(x) for x in rng.integers(1, size + 1, min(n, size) - 1))
        if rng.random() < 0.7 and n <= size:
            points = sorted(sizes(rng, 1, size - 1, n - 1)) if size > n - 1 else []
        fields |= {"slice_point": tuple(points)} if points else {}
        n = len(points) + 1 if rng.random() < 0.9 else n
    return fields, [shape], n


def softmax(rng):
    shape = any_shape(rng)
    axis = int(rng.integers(-len(shape), len(shape) + (rng.random() < 0.2)))
    return some(rng, axis=axis, engine=Word("CAFFE")), [shape], 1


def split(rng):
    return {}, [any_shape(rng)], int(rng.integers(1, 4))


CONFIGURATIONS = {
    "AbsVal": neuron(),
    "Accuracy": accuracy,
    "ArgMax": argmax,
    "BNLL": neuron(),
    "BatchNorm": batch_norm,
    "BatchReindex": batch_reindex,
    "Bias": bias,
    "Concat": concat,
    "ContrastiveLoss": contrastive_loss,
    "Convolution": convolution,
    "Crop": crop,
    "Deconvolution": deconvolution,
    "Dropout": neuron(dropout_ratio=lambda rng: float(rng.uniform(0, 1))),
    "DummyData": dummy_data,
    "ELU": neuron(alpha=normal),
    "Eltwise": eltwise,
    "Embed": embed,
    "EuclideanLoss": euclidean_loss,
    "Exp": exp,
    "Filter": filter_,
    "Flatten": flatten,
    "HDF5Output": hdf5_output,
    "HingeLoss": hinge_loss,
    "Im2col": im2col,
    "InfogainLoss": infogain_loss,
    "InnerProduct": inner_product,
    "Input": input_,
    "LRN": lrn,
    "LSTM": lstm,
    "LSTMUnit": lstm_unit,
    "Log": log,
    "MVN": mvn,
    "MultinomialLogisticLoss": multinomial_logistic_loss,
    "PReLU": neuron(channel_shared=lambda rng: True),
    "Parameter": parameter,
    "Pooling": pooling,
    "Power": power,
    "RNN": rnn,
    "ReLU": neuron(negative_slope=normal, engine=caffes_engine),
    "Reduction": reduction,
    "Reshape": reshape,
    "SPP": spp,
    "Scale": scale,
    "Sigmoid": neuron(engine=caffes_engine),
    "SigmoidCrossEntropyLoss": sigmoid_cross_entropy_loss,
    "Silence": silence,
    "Slice": slice_,
    "Softmax": softmax,
    "SoftmaxWithLoss": softmax_with_loss,
    "Split": split,
    "Swish": neuron(beta=normal),
    "TanH": neuron(engine=caffes_engine),
    "Threshold": neuron(threshold=normal),
    "Tile": tile,
}
NO_ORACLE = {"Clip"}
"""Types that this Caffe does not have: tests/layers."""
FROM_FILES = {"Data", "HDF5Data", "ImageData", "MemoryData", "WindowData"}
"""Types that Caffe does not run without files: test_data_layers.py."""
IN_PLACE = 0.1
"""How many of the layers that may work in place do so."""


STRAY = 0.25
"""How many of the layers have one thing that their type's own configurations never have."""
OF_FORKS = 10000
"""From this number on mainline Caffe knows none of a message's fields."""
NOT_TO_CHANGE = {
    # Caffe begins weights, and refuses fillers that it does not have. Here nobody runs a filler.
    *("filler", "weight_filler", "bias_filler"),
    # A Caffe without cuDNN refuses its engine; what is computed is the same.
    "engine",
    # Files.
    *("source", "file_name"),
    # LRN's sum cancels with one below 0, and Caffe keeps it running; ELU draws its own.
    "alpha",
    # This Caffe has no batch statistics.
    "use_global_stats",
    # Fields of a fork.
    *("scale_bias", "scale_filler"),
}
IN_TRAINING = ("BatchNorm", "Dropout")
"""At ``phase: TRAIN`` they are others: tests/layers."""
NO_NAN = ("ArgMax", "Exp", "LRN")
"""Types that Caffe gives garbage of where a value is nan or infinite: it sorts, or keeps a running
sum, which is nan from there on; infinity times a scale of 0 is nan, or 0 with OpenBLAS."""
INTEGERS = (0, 0, 1, 1, 2, 3, -1, -2, 7)
NUMBERS = (0.0, 1.0, -1.0, 0.5, -2.0, 1e-3, 1e3)
VALUES = (0.0, 1.0, -1e6, 1e6, 1e-40, float("inf"), float("-inf"), float("nan"))


def any_value(rng, field):
    """A value that a field of the schema can hold, likely an edge of what it may be."""
    if field.repeated:
        one = replace(field, repeated=False)
        return tuple(any_value(rng, one) for _ in range(int(rng.integers(1, 4))))
    if field.kind == "message":
        return {
            name: any_value(rng, schema.fields(field.message)[name])
            for name in rng.choice(list(schema.fields(field.message)), 1)
        }
    if field.kind == "enum":
        return Word(rng.choice(list(field.values)))
    if field.kind == "string":
        return str(rng.choice(["", "x"]))
    if field.kind == "bool":
        return bool(rng.integers(2))
    if field.kind == "float":
        return float(rng.choice(NUMBERS))
    value = int(rng.choice(INTEGERS))
    return abs(value) if field.kind.startswith("uint") else value


def other_shape(rng, shape):
    """An axis more, an axis less, or an axis of another size."""
    shape = list(shape)
    way, i = rng.integers(4), int(rng.integers(len(shape))) if shape else 0
    if way == 0 or not shape:
        shape.insert(i, int(rng.integers(1, 3)))
    elif way == 1:
        del shape[i]
    else:
        shape[i] = int(rng.choice([0, 1, shape[i] + 1, 1 if way == 2 else shape[-1]]))
    return tuple(shape)


def changeable(message):
    """Names of the fields of a type's own message that may get any value."""
    if not message:
        return []
    known = schema.fields(schema.fields("LayerParameter")[message].message)
    return [
        name
        for name, field in known.items()
        if name not in NOT_TO_CHANGE and field.number < OF_FORKS
    ]


def astray(rng, type, fields, bottoms, n_tops):
    """The same configuration with one thing changed that few people would change so."""
    fields, bottoms = dict(fields), list(bottoms)
    way = rng.integers(8)
    message = REGISTRY[type].message
    if way == 0:
        names = ("loss_weight", "propagate_down", "param", "include", "loss_param", "phase")
        name = str(rng.choice(names[:-1] if type in IN_TRAINING else names))
        fields[name] = any_value(rng, schema.fields("LayerParameter")[name])
    elif way < 4 and (names := changeable(message)):
        name = str(rng.choice(names))
        field = schema.fields(schema.fields("LayerParameter")[message].message)[name]
        fields[message] = {**fields.get(message, {}), name: any_value(rng, field)}
    elif way == 4:
        n_tops = max(0, n_tops + int(rng.choice([-1, 1])))
    elif bottoms:
        i = int(rng.integers(len(bottoms)))
        bottom = bottoms[i]
        if way == 5:
            bottoms[i : i + 1] = [bottom] * int(rng.choice([0, 2]))
        elif way == 6:
            changed = other_shape(rng, getattr(bottom, "shape", bottom))
            values = isinstance(bottom, np.ndarray)
            bottoms[i] = np.resize(bottom, changed) if values else changed
        else:
            values = bottom if isinstance(bottom, np.ndarray) else rng.normal(size=bottom)
            if values.dtype.kind == "f" and values.size and type not in NO_NAN:
                bottoms[i] = values.copy()
                bottoms[i].flat[int(rng.integers(values.size))] = rng.choice(VALUES)
    return fields, bottoms, n_tops


def one_layer_net(type, rng, stray=STRAY):
    """A net of inputs and one layer of this type, and the inputs where not any will do."""
    fields, bottoms, n_tops = CONFIGURATIONS[type](rng)
    if not isinstance(fields, Whole):
        fields = {REGISTRY[type].message: fields} if fields else {}
    if rng.random() < stray:
        fields, bottoms, n_tops = astray(rng, type, fields, bottoms, n_tops)
    names = tuple(f"in{i}" for i in range(len(bottoms)))
    tops = tuple(f"out{i}" for i in range(n_tops))
    layer = make_layer("layer", type, names, tops, fields)
    if rng.random() < IN_PLACE and names and tops and layer.may_work_in_place():
        layer = replace(layer, tops=(*names[:1], *tops[1:]))
    given = {k: v for k, v in zip(names, bottoms, strict=True) if isinstance(v, np.ndarray)}
    inputs = [
        Input.of(name, (), name, shape={"dim": getattr(bottom, "shape", bottom)})
        for name, bottom in zip(names, bottoms, strict=True)
    ]
    return Net("one", (*inputs, layer)), given
