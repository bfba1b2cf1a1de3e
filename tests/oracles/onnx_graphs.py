"""Random ONNX models of one op each, with attributes as the op allows them.

``CASES``: op -> a function of ``rng`` that gives a ``Model``. Sizes differ on every axis.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from oracles.configurations import sizes

OPSETS = (9, 11, 13, 18, 21)
IR_VERSION = 10


class Model:
    """Nodes that are added one by one; ``value`` is what the last one gives."""

    def __init__(self, rng, opset=None):
        self.rng = rng
        self.opset = int(rng.choice(OPSETS)) if opset is None else opset
        self.inputs, self.constants, self.nodes = {}, {}, []
        self.value = ""

    def input(self, *shape, name=None):
        name = name or f"x{len(self.inputs)}"
        self.inputs[name] = shape
        return name

    def constant(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def whole(self, *values):
        return self.constant(values, np.int64)

    def node(self, op, *inputs, n_outputs=1, **attributes):
        attributes = {k: v for k, v in attributes.items() if v is not None}
        outputs = [f"{op}{len(self.nodes)}_{i}" for i in range(n_outputs)]
        name = f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, outputs, name, **attributes))
        self.value = outputs[0]
        return outputs[0] if n_outputs == 1 else outputs

    def axes(self, op, x, axes, since, **attributes):
        """A node whose axes are an attribute, and from one opset on an input."""
        if self.opset < since:
            return self.node(op, x, axes=axes, **attributes)
        return self.node(op, x, self.whole(*axes), **attributes)

    def proto(self, outputs=None, path=None):
        floats = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in self.inputs.items()
        ]
        names = outputs or [self.value]
        graph = helper.make_graph(
            self.nodes,
            "graph",
            floats,
            [helper.make_empty_tensor_value_info(name) for name in names],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=IR_VERSION,
        )
        if not any(node.domain for node in self.nodes):
            model = onnx.shape_inference.infer_shapes(model)
        if path is not None:
            onnx.save(model, path)
        return model


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def whole(rng, least, most, n=None):
    if n is None:
        return int(rng.integers(least, most + 1))
    return [int(i) for i in rng.integers(least, most + 1, n)]


def coin(rng, p=0.5):
    return bool(rng.random() < p)


def map_shape(rng, least=5, most=12):
    rows, columns = sizes(rng, least, most, 2)
    return whole(rng, 1, 2), whole(rng, 2, 6), rows, columns


def any_shape(rng, least=1, most=4):
    return sizes(rng, 2, 7, whole(rng, least, most))


def windows(rng, most=4, pads=True):
    kernel, stride = whole(rng, 1, most, 2), whole(rng, 1, 3, 2)
    attributes = {"kernel_shape": kernel, "strides": stride}
    way = rng.integers(4)
    if way == 0:
        attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    elif way < 3 and pads:
        attributes["pads"] = [whole(rng, 0, kernel[i % 2] - 1) for i in range(4)]
    return attributes


def neuron(op, positive=False, **choices):
    def case(rng):
        model = Model(rng)
        x = model.input(*any_shape(rng))
        if positive:
            x = model.node("Add", model.node("Abs", x), model.constant(0.25))
        attributes = {k: float(rng.uniform(*v)) for k, v in choices.items() if coin(rng)}
        model.node(op, x, **attributes)
        return model

    return case


def conv(rng):
    model = Model(rng)
    group = int(rng.choice([1, 1, 2, 3]))
    n, _, rows, columns = map_shape(rng)
    channels, out = group * whole(rng, 1, 3), group * whole(rng, 1, 3)
    x = model.input(n, channels, rows, columns)
    attributes = windows(rng)
    if coin(rng, 0.3):
        attributes["dilations"] = whole(rng, 1, 2, 2)
    weight = normal(rng, out, channels // group, *attributes["kernel_shape"])
    more = [model.constant(normal(rng, out))] if coin(rng) else []
    if coin(rng, 0.3):
        around = whole(rng, 0, 2, 4)
        x = padded(model, x, [0, 0, *around[:2], 0, 0, *around[2:]])
    if coin(rng):
        del attributes["kernel_shape"]
    model.node("Conv", x, model.constant(weight), *more, group=group, **attributes)
    return model


def padded(model, x, pads, **attributes):
    if model.opset < 11:
        return model.node("Pad", x, pads=pads, **attributes)
    return model.node("Pad", x, model.whole(*pads), **attributes)


def conv_transpose(rng):
    model = Model(rng)
    group = int(rng.choice([1, 1, 2, 3]))
    n, _, rows, columns = map_shape(rng, 3, 7)
    channels, out = group * whole(rng, 1, 3), whole(rng, 1, 3)
    x = model.input(n, channels, rows, columns)
    kernel, stride = whole(rng, 2, 4, 2), whole(rng, 1, 3, 2)
    attributes = {"strides": stride, "kernel_shape": kernel}
    if coin(rng):
        attributes["pads"] = [whole(rng, 0, kernel[i % 2] - 1) for i in range(4)]
    if coin(rng):
        attributes["output_padding"] = [whole(rng, 0, s - 1) for s in stride]
    if coin(rng, 0.3):
        attributes["dilations"] = whole(rng, 1, 2, 2)
    weight = model.constant(normal(rng, channels, out, *kernel))
    more = [model.constant(normal(rng, out * group))] if coin(rng) else []
    model.node("ConvTranspose", x, weight, *more, group=group, **attributes)
    return model


def gemm(rng):
    model = Model(rng)
    m, k, n = sizes(rng, 2, 7, 3)
    x = model.input(m, k)
    if coin(rng, 0.3):
        x = model.node("Flatten", model.input(m, 2, k // 2, 1, name="map"), axis=1)
        k = 2 * (k // 2)
        del model.inputs["x0"]
    turned = whole(rng, 0, 1)
    weight = normal(rng, *((n, k) if turned else (k, n)))
    attributes = {"transB": turned}
    if coin(rng):
        attributes |= {"alpha": float(rng.normal()), "beta": float(rng.normal())}
    shape = [(n,), (1, n), (), (1,), (m, n), (m, 1)][rng.integers(6)]
    c = model.constant(normal(rng, *shape))
    model.node("Gemm", x, model.constant(weight), c, **attributes)
    return model


def matmul(rng):
    model = Model(rng)
    shape = sizes(rng, 2, 7, whole(rng, 2, 4))
    x = model.input(*shape)
    weight = normal(rng, shape[-1], *([whole(rng, 2, 5)] if coin(rng, 0.8) else []))
    y = model.node("MatMul", x, model.constant(weight))
    if coin(rng) and weight.ndim == 2:
        model.node("Add", y, model.constant(normal(rng, weight.shape[1])))
    return model


def batch_norm(rng):
    model = Model(rng)
    shape = sizes(rng, 2, 7, whole(rng, 2, 4))
    x = model.input(*shape)
    n = shape[1]
    values = [normal(rng, n), normal(rng, n), normal(rng, n), rng.uniform(0.1, 3, n)]
    if coin(rng, 0.3):
        values[:2] = np.ones(n), np.zeros(n)
    if coin(rng, 0.3):
        x = model.node("Sub", x, model.constant(normal(rng, n, *[1] * (len(shape) - 2))))
        values[2] = np.zeros(n) if coin(rng) else values[2]
    constants = [model.constant(value) for value in values]
    eps = float(rng.uniform(1e-5, 1e-2)) if coin(rng) else None
    model.node("BatchNormalization", x, *constants, epsilon=eps)
    return model


def two(op):
    """With a constant on either side, another value, or one that broadcasts."""

    def case(rng):
        model = Model(rng)
        shape = any_shape(rng, 2)
        kept = [n if coin(rng) else 1 for n in shape]
        ones = (1,) * (len(shape) - 2)
        others = [(), (1,), shape, kept, kept[1:], (*shape[:2], *ones), (shape[1], *ones)]
        other = others[rng.integers(7)]
        small = model.input(*other) if coin(rng) else model.constant(away(normal(rng, *other)))
        large = model.input(*shape)
        if small.startswith("x"):
            small = model.node("Add", model.node("Abs", small), model.constant(0.5))
        if coin(rng) and op != "Div":
            small, large = large, small
        elif op == "Div" and coin(rng) and small.startswith("c"):
            large = model.node("Add", model.node("Abs", large), model.constant(0.5))
            small, large = large, small
        y = model.node(op, large, small)
        if coin(rng, 0.3):
            model.node(str(rng.choice(["Add", "Mul", "Sub"])), y, model.constant(normal(rng)))
        if coin(rng, 0.3):
            values = normal(rng, *(1 if i != 1 else n for i, n in enumerate(shape)))
            model.node(str(rng.choice(["Add", "Mul"])), model.value, model.constant(values))
        return model

    return case


def away(value):
    """Not near 0, for a divisor."""
    return (value + np.where(value < 0, -0.5, 0.5)).astype(np.float32)


def several(op):
    def case(rng):
        model = Model(rng)
        shape = any_shape(rng)
        values = [model.input(*shape) for _ in range(whole(rng, 2, 4))]
        if coin(rng):
            at = whole(rng, 0, len(values))
            values.insert(at, model.constant(normal(rng, *(shape if coin(rng) else ()))))
        model.node(op, *values)
        return model

    return case


def clip(rng):
    model = Model(rng)
    x = model.input(*any_shape(rng))
    low, high = [(0, 6), (-0.5, 0.75), (None, 0.5), (0.25, None), (0, None), (-1, 1)][
        rng.integers(6)
    ]
    if coin(rng):
        x = model.node("Mul", x, model.constant(5))
    if model.opset < 11:
        bounds = {k: None if v is None else float(v) for k, v in (("min", low), ("max", high))}
        model.node("Clip", x, **bounds)
    else:
        names = ["" if value is None else model.constant(value) for value in (low, high)]
        model.node("Clip", x, *names)
    return model


def pow_(rng):
    model = Model(rng)
    x = model.node("Add", model.node("Abs", model.input(*any_shape(rng))), model.constant(0.5))
    model.node("Pow", x, model.constant(float(rng.choice([2, 0.5, -1, 1, 3, 1.5]))))
    return model


def prelu(rng):
    model = Model(rng)
    shape = sizes(rng, 2, 7, whole(rng, 2, 4))
    slope = normal(rng, *((1,) if coin(rng, 0.3) else (shape[1], *[1] * (len(shape) - 2))))
    model.node("PRelu", model.input(*shape), model.constant(slope))
    return model


def max_pool(rng):
    model = Model(rng)
    x = model.input(*map_shape(rng))
    attributes = windows(rng)
    if "auto_pad" not in attributes and model.opset >= 11 and coin(rng, 0.3):
        attributes["ceil_mode"] = 1
    if coin(rng, 0.3):
        x = model.node("Relu", x)
    if coin(rng, 0.3):
        around = whole(rng, 0, 1, 4)
        x = padded(model, x, [0, 0, *around[:2], 0, 0, *around[2:]])
    model.node("MaxPool", x, **attributes)
    return model


def average_pool(rng):
    model = Model(rng)
    x = model.input(*map_shape(rng))
    attributes = windows(rng)
    if coin(rng):
        attributes["count_include_pad"] = 1
    if coin(rng, 0.3):
        around = whole(rng, 0, 1, 4)
        x = padded(model, x, [0, 0, *around[:2], 0, 0, *around[2:]])
    model.node("AveragePool", x, **attributes)
    return model


def average_pool_ceil(rng):
    """In an opset of which onnxruntime is right about it."""
    model = Model(rng, 21)
    x = model.input(*map_shape(rng))
    attributes = {k: v for k, v in windows(rng).items() if k != "auto_pad"}
    model.node("AveragePool", x, **attributes, ceil_mode=1, count_include_pad=whole(rng, 0, 1))
    return model


def global_pool(op):
    def case(rng):
        model = Model(rng)
        model.node(op, model.input(*map_shape(rng)))
        return model

    return case


def pad(rng):
    model = Model(rng)
    x = model.input(*map_shape(rng))
    around = whole(rng, -1, 2, 4)
    channels = whole(rng, 0, 2, 2) if coin(rng, 0.3) else [0, 0]
    y = padded(model, x, [0, channels[0], *around[:2], 0, channels[1], *around[2:]])
    if coin(rng):
        model.node("Mul", y, model.constant(2))
    return model


def softmax(op):
    def case(rng):
        model = Model(rng)
        shape = any_shape(rng, 2)
        axis = whole(rng, -len(shape), len(shape) - 1) if coin(rng, 0.8) else None
        model.node(op, model.input(*shape), axis=axis)
        return model

    return case


def lrn(rng):
    model = Model(rng)
    attributes = {"size": int(rng.choice([1, 3, 5]))}
    if coin(rng):
        attributes |= {"alpha": 0.3, "beta": 0.6, "bias": 1.5}
    model.node("LRN", model.input(*map_shape(rng)), **attributes)
    return model


def reduction(op):
    def case(rng):
        model = Model(rng)
        shape = sizes(rng, 2, 7, whole(rng, 2, 4))
        first = whole(rng, 1, len(shape) - 1)
        axes = list(range(first, len(shape)))
        if len(shape) == 4 and coin(rng):
            axes = [1] if op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum") else [2, 3]
        if op in ("ReduceMax", "ReduceMin") and axes not in ([1], [2, 3]):
            shape, axes = sizes(rng, 2, 7, 4), [2, 3]
        axes = [axis - len(shape) if coin(rng, 0.3) else axis for axis in axes]
        since = 13 if op == "ReduceSum" else 18
        model.axes(op, model.input(*shape), axes, since, keepdims=whole(rng, 0, 1))
        return model

    return case


def argmax(rng):
    model = Model(rng, 13)
    shape = map_shape(rng)
    axis = whole(rng, 1, 3)
    y = model.node("ArgMax", model.input(*shape), axis=axis, select_last_index=1,
                   keepdims=whole(rng, 0, 1))  # fmt: skip
    model.node("Cast", y, to=TensorProto.FLOAT)
    return model


def greater(rng):
    model = Model(rng, 13)
    y = model.node("Greater", model.input(*any_shape(rng)), model.constant(normal(rng)))
    model.node("Cast", y, to=TensorProto.FLOAT)
    return model


def instance_norm(rng):
    model = Model(rng)
    shape = map_shape(rng)[: whole(rng, 3, 4)]
    values = [model.constant(normal(rng, shape[1])) for _ in range(2)]
    eps = 0.01 if coin(rng) else None
    model.node("InstanceNormalization", model.input(*shape), *values, epsilon=eps)
    return model


def group_norm(rng):
    model = Model(rng, 21)
    n, channels, rows, columns = map_shape(rng)
    shape = (n, 3 * channels, rows, columns)
    values = [model.constant(normal(rng, shape[1])) for _ in range(2)]
    model.node("GroupNormalization", model.input(*shape), *values, num_groups=3)
    return model


def flatten(rng):
    model = Model(rng)
    shape = any_shape(rng)
    model.node("Flatten", model.input(*shape), axis=whole(rng, 0, len(shape)))
    return model


def reshape(rng):
    model = Model(rng)
    a, b, c, d = sizes(rng, 2, 5, 4)
    wanted = [(a, -1), (0, 0, c * d), (0, b * c, d), (-1, d), (a, b, c, d), (0, -1, 2 * d)][
        rng.integers(6)
    ]
    if wanted[-1] == 2 * d and (b * c) % 2:
        wanted = (0, -1)
    y = model.node("Reshape", model.input(a, b, c, d), model.whole(*wanted))
    if coin(rng):
        model.node("Reshape", y, model.whole(a, b * c, d))
    return model


def as_torch_flattens(rng):
    """Shape, Gather, Unsqueeze, Concat: what exporters write for ``view(x.size(0), -1)``."""
    model = Model(rng)
    x = model.input(*any_shape(rng, 3))
    size = model.node("Gather", model.node("Shape", x), model.constant(0, np.int64), axis=0)
    size = model.axes("Unsqueeze", size, [0], 13)
    size = model.node("Concat", size, model.whole(-1), axis=0)
    model.node("Reshape", x, size)
    return model


def squeeze(rng):
    model = Model(rng)
    shape = [n if coin(rng) else 1 for n in any_shape(rng, 3)]
    if all(n == 1 for n in shape):
        shape[0] = 2
    ones = [i for i, n in enumerate(shape) if n == 1]
    x = model.input(*shape)
    if not ones:
        model.node("Squeeze", x)
    else:
        model.axes("Squeeze", x, ones[: whole(rng, 1, len(ones))], 13)
    return model


def unsqueeze(rng):
    model = Model(rng)
    model.axes("Unsqueeze", model.input(*any_shape(rng)), [0, 2] if coin(rng) else [1], 13)
    return model


def transpose(rng):
    """Twice, back to what it was; or of axes of size 1."""
    model = Model(rng)
    if coin(rng):
        perms = [(0, 2, 3, 1), (3, 1, 2, 0), (1, 0, 2, 3), (2, 3, 1, 0), (0, 1, 3, 2)]
        perm = perms[rng.integers(len(perms))]
        y = model.node("Transpose", model.input(*map_shape(rng)), perm=perm)
        model.node("Transpose", y, perm=[int(i) for i in np.argsort(perm)])
    else:
        n, c = sizes(rng, 2, 7, 2)
        perm = [(0, 2, 3, 1), (0, 1, 3, 2), (2, 0, 1, 3)][rng.integers(3)]
        model.node("Transpose", model.input(n, c, 1, 1), perm=perm)
    model.node("Mul", model.value, model.constant(2))
    return model


def channels_last(rng):
    """Ops between two Transposes, that do not care about the order of axes."""
    model = Model(rng, int(rng.choice([13, 18])))
    n, c, rows, columns = map_shape(rng)
    x = model.node("Transpose", model.input(n, c, rows, columns), perm=[0, 2, 3, 1])
    for _ in range(whole(rng, 1, 4)):
        way = rng.integers(8)
        if way == 0:
            x = model.node("Relu", x)
        elif way == 1:
            x = model.node("Add", x, model.constant(normal(rng, c)))
        elif way == 2:
            x = model.node("Mul", model.constant(normal(rng, *([1, 1, c] if coin(rng) else []))), x)
        elif way == 3:
            x = model.node("Clip", x, model.constant(-0.5), model.constant(0.75))
        elif way == 4:
            x = model.node("Add", x, model.node("Abs", x))
        elif way == 5:
            x = model.node("Concat", x, model.node("Neg", x), axis=int(rng.choice([-1, 3])))
            c *= 2
        elif way == 6:
            x = padded(model, x, [0, *whole(rng, 0, 2, 2), 0, 0, *whole(rng, 0, 2, 2), 0])
        else:
            x = model.node("PRelu", x, model.constant(normal(rng, c)))
    if coin(rng, 0.3):
        x = model.axes("ReduceMean", x, [1, 2], 18, keepdims=whole(rng, 0, 1))
    if coin(rng) and c > 1 and model.nodes[-1].op_type != "ReduceMean":
        x = model.node("Transpose", x, perm=[0, 3, 1, 2])
        model.node("Conv", x, model.constant(normal(rng, 3, c, 2, 2)))
    elif model.nodes[-1].op_type != "ReduceMean":
        model.node("Transpose", x, perm=[0, 3, 1, 2])
    return model


def expand(rng):
    model = Model(rng)
    shape = any_shape(rng, 2)
    kept = [n if coin(rng) else 1 for n in shape]
    model.node("Expand", model.input(*kept), model.whole(*shape))
    return model


def tile(rng):
    model = Model(rng)
    shape = any_shape(rng)
    model.node("Tile", model.input(*shape), model.whole(*whole(rng, 1, 3, len(shape))))
    return model


def concat(rng):
    model = Model(rng)
    shape = any_shape(rng)
    axis = whole(rng, -len(shape), len(shape) - 1)
    values = []
    for size in sizes(rng, 1, 6, whole(rng, 1, 4)):
        one = list(shape)
        one[axis] = size
        free = not values or coin(rng, 0.7)
        values.append(model.input(*one) if free else model.constant(normal(rng, *one)))
    model.node("Concat", *values, axis=axis)
    return model


def split(rng):
    """Some of the parts are read."""
    model = Model(rng)
    shape = list(any_shape(rng))
    axis = whole(rng, -len(shape), len(shape) - 1)
    parts = list(sizes(rng, 1, 5, 3))
    shape[axis] = sum(parts)
    x = model.input(*shape)
    if model.opset < 13:
        a, _, c = model.node("Split", x, n_outputs=3, axis=axis, split=parts)
    else:
        a, _, c = model.node("Split", x, model.whole(*parts), n_outputs=3, axis=axis)
    model.node("Concat", c, a, axis=axis)
    return model


def slice_(rng):
    """Several of one value, also such that overlap; or with steps through rows and columns."""
    model = Model(rng)
    shape = map_shape(rng, 6)
    x = model.input(*shape)
    values = []
    steps = coin(rng, 0.4)
    for _ in range(whole(rng, 1, 3)):
        axis = whole(rng, 2, 3) if steps else whole(rng, 1, 3)
        start = whole(rng, 0, shape[axis] - 1)
        end = whole(rng, start + 1, shape[axis])
        step = whole(rng, 1, 3) if steps else 1
        if coin(rng):
            start -= shape[axis]
        if end == shape[axis] and coin(rng):
            end = 2**62
        if model.opset < 10:
            step = 1
            y = model.node("Slice", x, starts=[start], ends=[end], axes=[axis])
        else:
            y = model.node("Slice", x, *(model.whole(n) for n in (start, end, axis, step)))
        values.append(model.node("Flatten", y, axis=1))
    model.node("Concat", *values, axis=1)
    return model


def crop(rng):
    """Rows and columns at once, as large as another value or not."""
    model = Model(rng, 13)
    n, c, rows, columns = map_shape(rng, 7)
    x, y = model.input(n, c, rows, columns), model.input(n, c, rows - 3, columns - 2)
    top, left = whole(rng, 0, 3), whole(rng, 0, 2)
    bounds = (top, left), (top + rows - 3, left + columns - 2), (2, 3)
    part = model.node("Slice", x, *(model.whole(*values) for values in bounds))
    if coin(rng):
        model.node("Add", part, y)
    else:
        model.inputs["x1"] = (1, 2)
        model.node("Concat", part, part, axis=1)
    return model


def gather(rng):
    model = Model(rng)
    shape = any_shape(rng)
    axis = whole(rng, 0, len(shape) - 1)
    n = shape[axis]
    places = whole(rng, -n, n - 1, whole(rng, 1, 2 * n)) if coin(rng, 0.7) else whole(rng, 0, n - 1)
    model.node("Gather", model.input(*shape), model.constant(places, np.int64), axis=axis)
    return model


def depth_to_space(rng):
    model = Model(rng, 13)
    n, c, rows, columns = map_shape(rng)
    size = whole(rng, 2, 3)
    mode = str(rng.choice(["DCR", "CRD"]))
    model.node("DepthToSpace", model.input(n, c * size**2, rows, columns),
               blocksize=size, mode=mode)  # fmt: skip
    return model


def space_to_depth(rng):
    model = Model(rng, 13)
    n, c, rows, columns = map_shape(rng, 2, 5)
    size = whole(rng, 2, 3)
    model.node("SpaceToDepth", model.input(n, c, rows * size, columns * size), blocksize=size)
    return model


def resize(rng):
    model = Model(rng, int(rng.choice([11, 13, 18])))
    n, c, rows, columns = map_shape(rng, 2, 6)
    factors = whole(rng, 1, 4, 2)
    x = model.input(n, c, rows, columns)
    new = [n, c, rows * factors[0], columns * factors[1]]
    if coin(rng):
        how = str(rng.choice(["asymmetric", "half_pixel", "pytorch_half_pixel"]))
        nearest = "floor" if how == "asymmetric" else "round_prefer_floor"
        attributes = {"mode": "nearest", "nearest_mode": nearest}
    else:
        how = str(rng.choice(["half_pixel", "pytorch_half_pixel", "align_corners"]))
        attributes = {"mode": "linear"}
        if how == "align_corners":
            new[2:] = [factors[0] * (rows - 1) + 1, factors[1] * (columns - 1) + 1]
    empty = model.constant([]) if model.opset < 13 else ""  # optional since then
    if coin(rng) or how == "align_corners":
        more = [empty, empty, model.whole(*new)]
    else:
        more = [empty, model.constant([1, 1, *factors])]
    model.node("Resize", x, *more, coordinate_transformation_mode=how, **attributes)
    return model


def resize_down(rng):
    model = Model(rng, 13)
    n, c, rows, columns = map_shape(rng, 2, 5)
    factors = whole(rng, 1, 3, 2)
    x = model.input(n, c, rows * factors[0], columns * factors[1])
    model.node("Resize", x, "", "", model.whole(n, c, rows, columns), mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    return model


def upsample(rng):
    model = Model(rng, 9)
    x = model.input(*map_shape(rng, 2, 5))
    model.node("Upsample", x, model.constant([1, 1, *whole(rng, 1, 3, 2)]), mode="nearest")
    return model


def dropout(rng):
    model = Model(rng)
    x = model.input(*any_shape(rng))
    if model.opset < 12:
        y = model.node("Dropout", x, ratio=0.25)
    else:
        y = model.node("Dropout", x, model.constant(0.25))
    model.node("Identity", y)
    return model


def hard_swish(rng):
    model = Model(rng, 14)
    x = model.node("Mul", model.input(*any_shape(rng)), model.constant(3))
    model.node("HardSwish", x)
    return model


CASES = {
    "Abs": neuron("Abs"),
    "Add": two("Add"),
    "ArgMax": argmax,
    "AveragePool": average_pool,
    "AveragePool, ceil_mode": average_pool_ceil,
    "BatchNormalization": batch_norm,
    "Cast": greater,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "Div": two("Div"),
    "Dropout": dropout,
    "Elu": neuron("Elu", alpha=(0.1, 2)),
    "Exp": neuron("Exp"),
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Gemm": gemm,
    "GlobalAveragePool": global_pool("GlobalAveragePool"),
    "GlobalMaxPool": global_pool("GlobalMaxPool"),
    "Greater": greater,
    "GroupNormalization": group_norm,
    "HardSigmoid": neuron("HardSigmoid", alpha=(0.1, 2), beta=(-1, 1)),
    "HardSwish": hard_swish,
    "Identity": dropout,
    "InstanceNormalization": instance_norm,
    "LRN": lrn,
    "LeakyRelu": neuron("LeakyRelu", alpha=(0.01, 0.9)),
    "Log": neuron("Log", positive=True),
    "LogSoftmax": softmax("LogSoftmax"),
    "MatMul": matmul,
    "Max": several("Max"),
    "MaxPool": max_pool,
    "Min": several("Min"),
    "Mul": two("Mul"),
    "Neg": neuron("Neg"),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": pow_,
    "Reciprocal": neuron("Reciprocal", positive=True),
    "ReduceL1": reduction("ReduceL1"),
    "ReduceL2": reduction("ReduceL2"),
    "ReduceMax": reduction("ReduceMax"),
    "ReduceMean": reduction("ReduceMean"),
    "ReduceMin": reduction("ReduceMin"),
    "ReduceSum": reduction("ReduceSum"),
    "ReduceSumSquare": reduction("ReduceSumSquare"),
    "Relu": neuron("Relu"),
    "Reshape": reshape,
    "Reshape, as torch flattens": as_torch_flattens,
    "Resize": resize,
    "Resize, smaller": resize_down,
    "Selu": neuron("Selu", alpha=(0.5, 2), gamma=(0.5, 2)),
    "Sigmoid": neuron("Sigmoid"),
    "Slice": slice_,
    "Slice, rows and columns": crop,
    "Softmax": softmax("Softmax"),
    "Softplus": neuron("Softplus"),
    "Softsign": neuron("Softsign"),
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Sqrt": neuron("Sqrt", positive=True),
    "Squeeze": squeeze,
    "Sub": two("Sub"),
    "Sum": several("Sum"),
    "Tanh": neuron("Tanh"),
    "ThresholdedRelu": neuron("ThresholdedRelu", alpha=(-1, 1)),
    "Tile": tile,
    "Transpose": transpose,
    "Transpose, channels last": channels_last,
    "Unsqueeze": unsqueeze,
    "Upsample": upsample,
}
