"""``resnet-proto convert``: four steps.

IN -> ``read_source`` -> ``transformed`` -> a writer, which ends with the proof -> OUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.keras_options import convert_keras
from resnet_proto.cli.onnx_options import (
    IMAGE,
    OnnxOptions,
    convert_onnx,
    given,
    onnx_options,
    read_onnx,
    refuse_onnx_options,
)
from resnet_proto.cli.options import (
    called,
    echo_json,
    file_to_read,
    file_to_write,
    json_option,
    lenient_option,
    net_option,
    read_net,
    regular,
    state_options,
    weights_of,
)
from resnet_proto.cli.torch_options import (
    convert_names,
    made_of_state_dict,
    torch_options,
    torch_proof,
)
from resnet_proto.cli.transform_options import (
    changes_inputs,
    deployed,
    described,
    net_beside,
    transform_options,
    transformed,
)
from resnet_proto.errors import ResNetProtoError
from resnet_proto.formats import FORMATS, MEANS, SUFFIXES
from resnet_proto.layers import dims
from resnet_proto.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resnet_proto.layers import Shape
    from resnet_proto.net import Net
    from resnet_proto.state import State
    from resnet_proto.weights import Weights

ONNX = "onnx"
KERAS = "keras"
MODELS = {ONNX: "an ONNX model", KERAS: "a Keras model"}
"""What is written beside ``FORMATS``, and is no file of weights."""
LONG = 1 << 26
"""Bytes from which on progress is shown."""


@click.command("convert")
@click.argument("source", metavar="IN", callback=file_to_read)
@click.argument(
    "target",
    metavar="OUT",
    callback=file_to_write,
)
@net_option
@state_options
@click.option(
    "--to", type=click.Choice((*FORMATS, *MODELS)), help="Format of OUT, if its suffix is another."
)
@click.option("--no-verify", is_flag=True, help="Do not read OUT back and compare, nor run it.")
@transform_options
@onnx_options
@torch_options
@lenient_option
@json_option
def command(
    source: str,
    target: str,
    net: str | None,
    state: State,
    to: str | None,
    no_verify: bool,
    transforms: dict[str, Any],
    onnx: OnnxOptions,
    names: str | None,
    force: bool,
    settings: tuple[str, ...],
    lenient: bool,
    as_json: bool,
) -> None:
    """Convert weights between formats, chosen by the file suffix.

    Between .caffemodel, .npz, .safetensors, .h5 and .pt, values stay the same bit for bit; - is
    stdin or stdout. A caffemodel needs --net for its structure. The others store the net's
    prototxt, so converting back needs no --net. A file with other content is overwritten only
    with --force; missing folders are made.

    \b
    resnet-proto convert ResNet-50.caffemodel r50.npz --net deploy.prototxt
    resnet-proto convert r50.npz r50.caffemodel

    .onnx is a model for onnxruntime, OpenCV and others: the net at phase TEST, with BatchNorm
    folded. It is run on random input, and every blob is compared with a float64 run.

    \b
    resnet-proto convert ResNet-50.caffemodel r50.onnx --net deploy.prototxt

    --fold-bn folds BatchNorm for other formats too; --to-rgb and --input-scale change the images
    that the net takes. The new net is compared with the old on random input, and its prototxt is
    written beside the caffemodel.

    \b
    resnet-proto convert r50.npz small.caffemodel --fold-bn
    resnet-proto convert r50.npz rgb.caffemodel --to-rgb --input-scale 0.017

    .pt is a PyTorch state dict. It is loaded into the net's module and run on random input, and
    every blob is compared with a float64 run. For a residual net, --names writes the keys of
    another package's model, and beside it model.py, which builds that model.

    \b
    resnet-proto convert ResNet-50.caffemodel r50.pt --net deploy.prototxt
    resnet-proto convert r50.npz timm.pt --names timm --force

    Weights of a residual net from torchvision or timm become a caffemodel, with its prototxt.

    \b
    resnet-proto convert resnet50.safetensors resnet50.caffemodel

    So does an ONNX model, if Caffe has layers for its ops; it is compared with onnxruntime.

    \b
    resnet-proto convert model.onnx model.caffemodel

    .keras is a Keras 3 model that loads without this package; its images are NHWC. It is loaded
    and compared in the same way.

    \b
    resnet-proto convert r50.npz r50.keras

    --target writes a net that a tool chain for Caffe accepts, with its prototxt beside it, or
    reports what prevents it and writes nothing.

    \b
    resnet-proto convert r50.npz npu.caffemodel --target tpu-mlir

    An image mean is converted from .binaryproto to .npy and back.

    \b
    resnet-proto convert mean.binaryproto mean.npy
    """
    from resnet_proto.formats import format_to_write, held_by

    if Path(source).suffix.lower() == f".{KERAS}":
        raise ResNetProtoError(
            f"{source}: Keras files can only be written; give the weight file that it was made from"
        )
    path, name = regular(source)
    if Path(source).suffix.lower() in MEANS or held_by(path) == "mean":
        if to is not None or net is not None:
            raise click.UsageError("a mean takes no --to and no --net; its suffix names the format")
        with called(path, name):
            convert_mean(path, target, verify=not no_verify, force=force, as_json=as_json)
        return
    form = to or SUFFIXES.get(suffix := Path(target).suffix.lower()[1:], suffix)
    if form != ONNX:
        shaped = is_onnx(source) or form in (KERAS, "caffemodel") or any(transforms.values())
        refuse_onnx_options(*(["shapes"] if shaped else []))
    if transforms.get("floor") and transforms.get("aim"):
        raise click.UsageError("--target decides how pooling is written; leave --floor out")
    if form in MODELS and names is not None:
        raise click.UsageError(f"--names is for weight files; {MODELS[form]} has no keys")
    if target == "-" and to is None:
        raise click.UsageError("OUT is -: name its format with --to")
    if target == "-" and form in MODELS:
        raise click.UsageError("OUT is -: a model needs a file, because it is run; give it a name")
    if target == "-" and as_json:
        raise click.UsageError("OUT is -: leave --json out")
    if changes_inputs(transforms) and (image := given(*IMAGE, "with_preprocessing")):
        raise click.UsageError(
            f"--{image[0].replace('_', '-')} describes the net's input, which --to-rgb "
            "and --input-scale change; leave one of them out"
        )
    if target != "-":
        format_to_write(Path(target), to, MODELS)
    folds = transforms.pop("fold_bn", True) if form == ONNX else False  # its writer folds more
    verify = not no_verify
    if is_onnx(source):
        made_net, stored, proof = read_onnx(path, net, state, onnx.shapes, verify=verify)
        found = Source(replace(made_net, source=name), stored, True, proof)
    else:
        found = read_source(path, name, net, state, onnx.shapes, lenient=lenient)
        if form in ("caffemodel", *MODELS) or names is not None or any(transforms.values()):
            found = imported(found, settings, onnx.shapes, verify=verify)
        elif of_others(found):
            click.echo(
                f"{name} is a state dict, and keeps its own keys; with OUT.caffemodel it becomes "
                "a Caffe net",
                err=True,
            )
    if settings and (is_onnx(source) or not found.made):
        raise click.UsageError("--set is for state dicts of torchvision or timm; leave it out")
    the_net, weights = found.net, found.weights
    if form in MODELS or any(transforms.values()):
        if the_net is None:
            raise click.UsageError(f"{weights.source} contains no net; add --net NET")
        the_net = deployed(the_net, onnx.shapes)
        the_net, weights = transformed(the_net, weights, transforms, verify=verify)
    if form == ONNX:
        assert the_net is not None
        convert_onnx(
            weights, the_net, target, onnx,
            fold_bn=folds, verify=verify, force=force, as_json=as_json,
        )  # fmt: skip
    elif form == KERAS:
        assert the_net is not None
        convert_keras(weights, the_net, target, verify=verify, force=force, as_json=as_json)
    elif names is not None:
        convert_names(
            weights, the_net, target, names,
            to=to, force=force, verify=verify, as_json=as_json,
        )  # fmt: skip
    else:
        made = the_net is not found.net or found.made
        beside: dict[Path, bytes] = {}
        if the_net is not None and made and form == "caffemodel":
            beside = net_beside(the_net, target)
        convert_weights(
            weights, the_net, target,
            to=to, verify=verify, force=force, options=described(transforms), as_json=as_json,
            proof=found.proof, beside=beside,
        )  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where a conversion begins.

    Args:
        net: that of the weights; None where none was given, and the file carries none.
        weights: read when they are asked for.
        made: whether the net was made of the file, so that there is no prototxt of it yet.
        proof: how far that net is from what the file is for; for --json.
    """

    net: Net | None
    weights: Weights
    made: bool = False
    proof: Mapping[str, Any] = field(default_factory=dict)


def is_onnx(source: str) -> bool:
    """Whether IN is a model, by its suffix: the format has no mark."""
    return Path(source).suffix.lower() == f".{ONNX}"


def read_source(
    path: Path, name: str, net: str | None, state: State, shapes: Mapping[str, Shape], *,
    lenient: bool,
) -> Source:  # fmt: skip
    """The weights of a file, and the net of ``--net`` or, without it, the one that they carry.

    ``name`` is what messages call the file; the rest is for the net, as in ``read_net``.
    """
    from resnet_proto.formats import net_of
    from resnet_proto.state import DEFAULT

    if net is not None:
        the_net: Net | None = read_net(net, lenient=lenient, state=state, shapes=shapes)
        return Source(the_net, weights_of(path, name))
    weights = weights_of(path, name)
    the_net = net_of(weights, lenient=lenient)
    if the_net is not None:
        the_net = replace(the_net, state=state).with_input_shapes(shapes)
    elif state != DEFAULT:
        raise click.UsageError("--phase, --level and --net-stage need a net; add --net NET")
    return Source(the_net, weights)


def of_others(given: Source) -> bool:
    """Whether the weights are another package's state dict, whose net nothing in the file says."""
    from resnet_proto.state_dict import is_state_dict

    return is_state_dict(given.weights) and given.weights.net_text is None


def imported(
    given: Source, settings: Sequence[str], shapes: Mapping[str, Shape], *, verify: bool
) -> Source:
    """The net that the keys of a state dict speak of, where nothing else says one."""
    if not of_others(given):
        return given
    if given.net is not None:
        if any(key.endswith(".running_var") for key in given.weights):
            raise click.UsageError(
                f"{given.weights.source} is a state dict, which gives the net; leave --net out"
            )
        return given
    net, weights, proof = made_of_state_dict(given.weights, settings, verify=verify)
    net = replace(net, source=given.weights.source)
    return Source(net.with_input_shapes(shapes) if shapes else net, weights, True, proof)


def convert_weights(
    weights: Weights, net: Net | None, target: str, *,
    to: str | None, verify: bool, force: bool, options: Mapping[str, str], as_json: bool,
    proof: Mapping[str, Any], beside: Mapping[Path, bytes],
) -> None:  # fmt: skip
    """Write one of ``FORMATS``, read it back, and run a ``.pt``; options as in ``save``."""
    from resnet_proto.formats import save

    out = sys.stdout.buffer if target == "-" else target
    warnings: list[str] = []
    last: dict[str, Any] = {}
    ran = ""

    def prove(part: Path) -> None:
        nonlocal last, ran
        last, ran = torch_proof(part, target, to, net, weights) if verify else ({}, "")

    with progress(weights.nbytes) as done:
        save(
            out, weights, net,
            to=to, verify=verify, force=force, progress=done, prove=prove,
            warnings=warnings, options=options, beside=beside,
        )  # fmt: skip
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        echo_json(
            {
                "file": target,
                "blobs": len(weights),
                "bytes": weights.nbytes,
                "verified": verify,
                **proof,
                **last,
            }
        )
    else:
        click.echo(
            f"wrote {'stdout' if target == '-' else target}: {counted(len(weights), 'blob')}, "
            f"{weights.nbytes:,} bytes of values{', read back equal' if verify else ''}{ran}",
            err=True,
        )
    for path in beside:
        click.echo(f"written {path}", err=True)


def convert_mean(source: Path, target: str, *, verify: bool, force: bool, as_json: bool) -> None:
    """Write the mean of images in the other of its two formats, and read it back."""
    from resnet_proto.formats.binaryproto import read, write

    if target == "-":
        raise click.UsageError("OUT is -: a mean is written to a file, .binaryproto or .npy")
    mean = write(target, read(source), force=force)
    if verify and (back := read(target)).tobytes() != mean.astype(back.dtype).tobytes():
        raise ResNetProtoError(f"{target}: read back, it differs; is the disk full or failing?")
    if as_json:
        echo_json({"file": target, "shape": mean.shape, "bytes": mean.nbytes, "verified": verify})
        return
    size = f"{dims(mean.shape)}, {mean.nbytes:,} bytes of values"
    equal = ", read back equal" if verify else ""
    click.echo(f"wrote {target}: a mean of {size}{equal}", err=True)


@contextmanager
def progress(size: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, for long work."""
    if size < LONG or not sys.stderr.isatty():
        yield lambda done: None
        return
    with click.progressbar(length=size, label="writing", file=sys.stderr) as bar:
        yield bar.update
