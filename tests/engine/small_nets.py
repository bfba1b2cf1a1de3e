"""Small nets and random weights for the tests of the engines."""

import numpy as np

from resnet_proto.layers import (
    BatchNorm,
    Convolution,
    Eltwise,
    InnerProduct,
    Pooling,
    ReLU,
    Scale,
    Softmax,
    make_layer,
)
from resnet_proto.net import Net


def data(*shape, name="data"):
    return make_layer("in", "Input", (), (name,), {"input_param": {"shape": ({"dim": shape},)}})


def net(*layers, shape=(2, 3, 7, 5)):
    return Net("t", (data(*shape), *layers))


def normalised(name, bottom, top, channels, relu=True, **values):
    """Convolution, BatchNorm, Scale and ReLU on one blob."""
    layers = [
        Convolution.of(name, bottom, top, num_output=channels, **values),
        BatchNorm.of(f"bn_{name}", top, top),
        Scale.of(f"scale_{name}", top, top, bias_term=True),
    ]
    return [*layers, ReLU.of(f"relu_{name}", top, top)] if relu else layers


def residual(shape=(2, 3, 19, 13)):
    """A stem and two bottleneck units, the first with a projection."""
    layers = [
        *normalised("conv1", "data", "conv1", 4, kernel_size=7, stride=2, pad=3),
        Pooling.of("pool1", "conv1", "pool1", kernel_size=3, stride=2),
    ]
    bottom = "pool1"
    for unit, stride in (("a", 2), ("b", 1)):
        if unit == "a":
            layers += normalised(
                "a1", bottom, "a1", 8, relu=False, kernel_size=1, stride=stride, bias_term=False
            )
        layers += [
            *normalised(
                f"{unit}2a", bottom, f"{unit}2a", 4, kernel_size=1, stride=stride, bias_term=False
            ),
            *normalised(f"{unit}2b", f"{unit}2a", f"{unit}2b", 4, kernel_size=3, pad=1),
            *normalised(f"{unit}2c", f"{unit}2b", f"{unit}2c", 8, relu=False, kernel_size=1),
            Eltwise.of(unit, ("a1" if unit == "a" else bottom, f"{unit}2c"), unit),
            ReLU.of(f"relu_{unit}", unit, unit),
        ]
        bottom = unit
    return net(
        *layers,
        Pooling.of("pool5", "b", "pool5", pool="AVE", global_pooling=True),
        InnerProduct.of("fc", "pool5", "fc", num_output=5),
        Softmax.of("prob", "fc", "prob"),
        shape=shape,
    )


def random_weights(net, seed=0):
    """Float32 weights of sensible scale."""
    rng = np.random.default_rng(seed)
    weights = {}
    for step in net.walk():
        for name, shape in step.blobs.items():
            fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
            values = rng.normal(size=shape) / np.sqrt(fan_in)
            if name in ("variance", "scale_factor"):
                values = np.abs(values) + 0.5
            weights[f"{step.label}.{name}"] = values.astype(np.float32)
    return weights


def random_input(net, seed=1):
    shapes = net.inputs()
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
