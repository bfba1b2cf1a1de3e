"""What ``convert`` makes of a net before it writes it.

    net + weights -> each of ``TRANSFORMS`` that was asked for, in order -> net + weights, proven

Each is an option that stands on the command line, and a function. A new one is a line in the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from resnet_proto.check.target import NAMES
from resnet_proto.cli.options import shape_of_images
from resnet_proto.engine.compare import TOLERANCE, summed_up
from resnet_proto.errors import ResNetProtoError
from resnet_proto.floor import DIALECTS, spelled
from resnet_proto.words import printable

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights

    Arrays = Mapping[str, Array]

Command = TypeVar("Command", bound=Callable[..., Any])


def fold_bn(net: Net, weights: Weights, _: object) -> tuple[Net, Arrays]:
    """``--fold-bn``."""
    from resnet_proto.fold import folded

    return folded(net, weights)


def dense(net: Net, weights: Weights, _: object) -> tuple[Net, Arrays]:
    """``--dense``."""
    from resnet_proto.dense import fully_convolutional

    return fully_convolutional(net, weights)


def to_rgb(net: Net, weights: Weights, _: object) -> tuple[Net, Arrays]:
    """``--to-rgb``."""
    from resnet_proto.inputs import to_rgb

    return to_rgb(net, weights)


def reversed_channels(inputs: Arrays, _: object) -> Arrays:
    """The inputs of the net before ``--to-rgb``."""
    from resnet_proto.inputs import reversed_channels

    return reversed_channels(inputs)


def input_scale(net: Net, weights: Weights, scale: Sequence[float]) -> tuple[Net, Arrays]:
    """``--input-scale``."""
    from resnet_proto.inputs import input_scale

    return input_scale(net, weights, scale)


def times_scale(inputs: Arrays, scale: Sequence[float]) -> Arrays:
    """The inputs of the net before ``--input-scale``."""
    from resnet_proto.inputs import times_scale

    return times_scale(inputs, scale)


def read_scale(
    _: click.Context, __: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """A click callback: ``0.017`` or ``0.0171,0.0175,0.0174`` as numbers."""
    try:
        factors = None if value is None else tuple(map(float, value.split(",")))
    except ValueError:
        factors = (math.nan,)
    if factors and not all(math.isfinite(one) and one for one in factors):
        raise click.BadParameter(
            f"'{value}' is not a finite number other than 0, or one for each channel, as in "
            "0.0171,0.0175,0.0174"
        )
    return factors


def floor(net: Net, weights: Weights, dialect: str) -> tuple[Net, Arrays]:
    """``--floor``."""
    new, arrays = spelled(net, weights, dialect)
    return new, weights if arrays is None else arrays


def retarget(net: Net, weights: Weights, name: str) -> tuple[Net, Arrays]:
    """``--target``.

    Raises:
        ResNetProtoError: the target does not take the net, whatever is done.
    """
    from resnet_proto.check.target import load_target
    from resnet_proto.retarget import left_over, retargeted

    target = load_target(name)
    new, arrays, done = retargeted(net, weights, target)
    if found := left_over(new, arrays, target):
        lines = "\n".join(finding.line for finding in found)
        raise ResNetProtoError(
            f"{target.title} does not accept the net; nothing was written\n{lines}"
        )
    click.echo(f"for {target.title}: {', '.join(done) or 'nothing to do'}", err=True)
    return new, arrays


def the_same(inputs: Arrays, _: object) -> Arrays:
    """The inputs of a net that takes what the old one took."""
    return inputs


@dataclass(frozen=True)
class Transform:
    """A net-to-net transform.

    Args:
        name: of its option, as click has it.
        option: the decorator that adds it to a command; None or False if it is not given.
        make: net, weights and the option's value -> another net and its weights.
        old_inputs: inputs of the new net, and the value -> those of which the old net makes
            the same.
    """

    name: str
    option: Callable[[Command], Command]
    make: Callable[[Net, Weights, Any], tuple[Net, Arrays]]
    old_inputs: Callable[[Arrays, Any], Arrays] = the_same


TRANSFORMS = (
    Transform(
        "fold_bn",
        click.option("--fold-bn/--no-fold-bn", default=None,
                     help="Fold BatchNorm and Scale into the layer before them (ONNX: by "
                     "default)."),
        fold_bn,
    ),
    Transform(
        "dense",
        click.option("--dense", is_flag=True, default=None,
                     help="Make the net fully convolutional, so that it takes larger images; "
                     "the scores are the mean over all positions."),
        dense,
    ),
    Transform(
        "to_rgb",
        click.option("--to-rgb", is_flag=True, default=None,
                     help="Take RGB instead of BGR, or BGR instead of RGB: reverse the weights of "
                     "the layers that read the images."),
        to_rgb, reversed_channels,
    ),
    Transform(
        "input_scale",
        click.option("--input-scale", callback=read_scale, metavar="X|C0,C1,...",
                     help="Take x where the old net takes X * x; or a factor for each channel, in "
                     "the new net's order."),
        input_scale, times_scale,
    ),
    Transform(
        "floor",
        click.option("--floor", type=click.Choice(DIALECTS),
                     help="How to write pooling that rounds down: the field of mainline (2018), of "
                     "forks, or layers that Caffe 1.0 and NPU compilers have."),
        floor,
    ),
    Transform(
        "aim",
        click.option("--target", "aim", type=click.Choice(NAMES), metavar="NAME",
                     help="Adapt the net to a tool chain: " + ", ".join(NAMES) + "."),
        retarget,
    ),
)  # fmt: skip
"""In the order in which they are done."""


def transform_options(command: Command) -> Command:
    """Give a command the options of ``TRANSFORMS``, as its argument ``transforms``, by name."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        values = {transform.name: kwargs.pop(transform.name) for transform in TRANSFORMS}
        given = {name: value for name, value in values.items() if value is not None}
        return command(*args, transforms=given, **kwargs)

    result: Any = wrapped
    for transform in reversed(TRANSFORMS):
        result = transform.option(result)
    return result  # type: ignore[no-any-return]


def changes_inputs(transforms: Mapping[str, Any]) -> bool:
    """Whether the new net takes something else than the old one."""
    return any(transforms.get(each.name) and each.old_inputs is not the_same for each in TRANSFORMS)


def described(transforms: Mapping[str, Any]) -> dict[str, str]:
    """What was asked for, as formats with metadata keep it."""
    texts = {}
    for name, value in transforms.items():
        if value:
            text = value if isinstance(value, str) else "yes"
            text = ",".join(map(str, value)) if isinstance(value, tuple) else text
            texts[{"aim": "target"}.get(name, name).replace("_", "-")] = text
    return texts


def deployed(net: Net, shapes: Mapping[str, Shape]) -> Net:
    """The net for inference."""
    from resnet_proto.training.train_val import is_train_val, to_deploy

    net = net.upgraded().filtered()
    if not is_train_val(net):
        return net
    return replace(to_deploy(net, shape_of_images(net, shapes)), source=net.source)


def transformed(
    net: Net, weights: Weights, transforms: Mapping[str, Any], *, verify: bool
) -> tuple[Net, Weights]:
    """The net and weights that the transforms make, held against those that were given.

    Args:
        net: for inference.
        weights: of the net.
        transforms: what the options gave, by their names.
        verify: run both nets on random input in float64, and compare the blobs of one name.

    Raises:
        ResNetProtoError: a blob of the new net is another.
    """
    from resnet_proto.weights import Weights

    asked = [(each, transforms[each.name]) for each in TRANSFORMS if transforms.get(each.name)]
    new, values = net, weights
    for transform, value in asked:
        new, arrays = transform.make(new, values, value)
        values = Weights.of(arrays, weights.source)
    if asked and verify:
        prove(new, values, net, weights, asked)
    return new, values


def prove(
    new: Net, values: Weights, net: Net, weights: Weights, asked: list[tuple[Transform, Any]]
) -> None:
    """Say how far the new net's blobs are from the old net's; inputs are not compared.

    Raises:
        ResNetProtoError: too far, or they have no blob in common.
    """
    from resnet_proto.engine import forward, random_inputs
    from resnet_proto.engine.compare import compare

    inputs: Arrays = random_inputs(new)
    old_inputs = inputs
    for transform, value in reversed(asked):
        old_inputs = transform.old_inputs(old_inputs, value)
    shapes = net.inputs()
    others = {k: v.shape for k, v in old_inputs.items() if shapes.get(k, v.shape) != v.shape}
    net = net.with_input_shapes(others) if others else net  # a target may want another batch
    known = {name for layer in net.layers for name in layer.tops}
    blobs = [
        name for name in dict.fromkeys(name for layer in new.layers for name in layer.tops)
        if name in known and name not in inputs
    ]  # fmt: skip
    if not blobs:
        raise ResNetProtoError(
            "the new net and the old have no blob name in common, so they cannot be compared; "
            "--no-verify writes it"
        )
    ours = forward(new, values, inputs, dtype="float64", outputs=blobs)
    theirs = forward(net, weights, old_inputs, dtype="float64", outputs=blobs)
    rows = compare(ours, theirs)
    worst = max(rows, key=lambda row: (not row.within(TOLERANCE), row.distance))
    if not worst.within(TOLERANCE):
        raise ResNetProtoError(
            f"blob '{worst.blob}' of the new net differs by {worst.distance:.2e} from the old's, "
            f"over {TOLERANCE:g} (relative L2); nothing was written"
        )
    click.echo(
        printable(summed_up("the new net against the old, random input", rows)),
        err=True,
    )


def net_beside(net: Net, target: str) -> dict[Path, bytes]:
    """The prototxt of a net that was made here, which goes beside the caffemodel ``target``.

    Raises:
        click.UsageError: nothing can lie beside it, or that is its own name.
    """
    from resnet_proto.generate import encoded
    from resnet_proto.prototxt import to_prototxt

    if target == "-":
        raise click.UsageError("OUT is -: the new net's prototxt is written beside it; give a name")
    path = Path(target).with_suffix(".prototxt")
    if path == Path(target):
        raise click.UsageError(f"OUT is {target}: its prototxt gets this name; give another suffix")
    return {path: encoded(to_prototxt(net))}
