"""The nets of this folder by name."""

from collections.abc import Callable
from functools import partial

from nets import (
    alexnet,
    caffenet,
    densenet,
    fcn,
    googlenet,
    lenet,
    mobilenet,
    mobilenet_v2,
    squeezenet,
    vgg16,
)

from resnet_proto.net import Net

NETS: dict[str, Callable[[], Net]] = {
    "lenet": lenet.net,
    "alexnet": alexnet.net,
    "caffenet": caffenet.net,
    "googlenet": googlenet.net,
    "vgg-16": vgg16.net,
    "squeezenet-1.0": partial(squeezenet.net, "1.0"),
    "squeezenet-1.1": partial(squeezenet.net, "1.1"),
    "mobilenet": mobilenet.net,
    "mobilenet-v2": mobilenet_v2.net,
    "densenet-121": densenet.net,
    "fcn-8s": fcn.net,
}
SMALLER: dict[str, Callable[[], Net]] = {
    "alexnet": partial(alexnet.net, divisor=4),
    "caffenet": partial(caffenet.net, divisor=4),
    "vgg-16": partial(vgg16.net, divisor=8),
    "fcn-8s": partial(fcn.net, divisor=16, height=333, width=250),
}
"""The same nets where those take hundreds of megabytes or more: narrower, every layer there."""
