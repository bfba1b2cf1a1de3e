"""What ``convert`` has for ONNX: its options, and the command's part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from resnet_proto.cli.engine_options import warn_ignored
from resnet_proto.cli.image_options import image_options
from resnet_proto.cli.options import echo_json, shape_option, whole
from resnet_proto.engine.compare import TOLERANCE, summed_up
from resnet_proto.errors import ResNetProtoError
from resnet_proto.formats.onnx import DYNAMIC, OPSETS
from resnet_proto.formats.onnx_graph import OPSET
from resnet_proto.words import printable

if TYPE_CHECKING:
    from resnet_proto.engine.onnx_file import Proof
    from resnet_proto.layers import Shape
    from resnet_proto.net import Net
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.state import State
    from resnet_proto.weights import Weights

Command = TypeVar("Command", bound=Callable[..., Any])
IMAGE = ("preprocess", "mean", "scale", "crop", "channels")


@dataclass(frozen=True)
class OnnxOptions:
    """The values of the options below, by their names."""

    opset: int
    dynamic: str
    with_preprocessing: bool
    shapes: dict[str, Shape]
    image: ImageOptions


def onnx_options(command: Command) -> Command:
    """Give a command the options for ONNX, as its argument ``onnx``."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        own = {field.name: kwargs.pop(field.name) for field in fields(OnnxOptions)}
        return command(*args, onnx=OnnxOptions(**own), **kwargs)

    options = [
        click.option("--dynamic", type=click.Choice(DYNAMIC), default="batch", show_default=True,
                     help="ONNX: what may vary; size is the batch, rows and columns."),
        click.option("--opset", type=whole(OPSETS[0], OPSETS[-1]), default=OPSET,
                     show_default=True,
                     help=f"ONNX: opset version, {OPSETS[0]} to {OPSETS[-1]}."),
        click.option("--with-preprocessing", is_flag=True,
                     help="ONNX: take RGB images, 0..255; the image options become nodes."),
        shape_option,
        image_options,
    ]  # fmt: skip
    result: Any = wrapped
    for option in reversed(options):
        result = option(result)
    return result  # type: ignore[no-any-return]


def given(*names: str) -> list[str]:
    """Those of the options that stand on the command line."""
    source = click.get_current_context().get_parameter_source
    return [name for name in names if source(name) == click.core.ParameterSource.COMMANDLINE]


def refuse_onnx_options(*taken: str) -> None:
    """Options for ONNX go with nothing else, but for those that are ``taken``.

    Raises:
        click.UsageError: one was given.
    """
    own = [field.name for field in fields(OnnxOptions) if field.name not in ("image", *taken)]
    if found := given(*own, *IMAGE):
        spelled = {"shapes": "input-shape"}.get(found[0], found[0].replace("_", "-"))
        raise click.UsageError(f"--{spelled} is for ONNX; give OUT the suffix .onnx")


def read_onnx(
    path: Path, net: str | None, state: State, shapes: Mapping[str, Shape], *, verify: bool
) -> tuple[Net, Weights, dict[str, Any]]:
    """The net and weights of a model; say how far they are from what onnxruntime makes of it.

    Returns:
        with the proof, for --json.

    Raises:
        ResNetProtoError: too far.
    """
    from resnet_proto.engine.onnx_file import prove_read
    from resnet_proto.formats.onnx_reader import read
    from resnet_proto.state import DEFAULT

    if net is not None or state != DEFAULT:
        raise click.UsageError(
            "an ONNX model contains its net, at phase TEST; leave out --net, --phase, --level and "
            "--net-stage"
        )
    warnings: list[str] = []
    made, weights = read(path, shapes, warnings)
    for warning in warnings:
        click.echo(printable(f"Warning: {warning}"), err=True)
    if not verify:
        return made, weights, {}
    proof = prove_read(path, made, weights)
    if not proof.rows:
        click.echo(printable(f"Warning: not verified: {proof.missing}"), err=True)
        return made, weights, {"verified": False}
    worst = proof.worst
    if not worst.within(TOLERANCE):
        raise ResNetProtoError(
            f"{path}: blob '{worst.blob}' of the new net differs by {worst.distance:.2e} from "
            f"what onnxruntime computes, over {TOLERANCE:g} (relative L2); nothing was written. "
            "--no-verify writes it"
        )
    click.echo(
        printable(summed_up("the new net against onnxruntime, random input", proof.rows)),
        err=True,
    )
    return made, weights, {"worst_blob": worst.blob, "relative_l2": worst.distance}


def convert_onnx(
    weights: Weights, net: Net, target: str, options: OnnxOptions, *,
    fold_bn: bool, verify: bool, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write a net as ONNX, and say how far it is from our own forward pass."""
    from resnet_proto.engine.onnx_file import save_onnx
    from resnet_proto.preprocess import described, pixels_of

    warn_ignored(weights, net)
    pixels = None
    metadata: dict[str, str] = {}
    if options.with_preprocessing or given(*IMAGE):
        pixels = pixels_of(options.image, net.inputs())
        metadata = described(options.image, pixels, inside=options.with_preprocessing)
    warnings: list[str] = []
    proof = save_onnx(
        target, net, weights, fold_bn=fold_bn, opset=options.opset,
        dynamic=options.dynamic, pixels=pixels if options.with_preprocessing else None,
        metadata=metadata, verify=verify, force=force, warnings=warnings,
    )  # fmt: skip
    for warning in warnings:
        click.echo(printable(f"Warning: {warning}"), err=True)
    echo_model(target, proof, proof.by if proof else "", as_json=as_json, opset=options.opset)


def echo_model(
    target: str, proof: Proof | None, runtime: str, *, as_json: bool, **more: Any
) -> None:
    """Say what was written, and how far it is from our own forward pass."""
    size = Path(target).stat().st_size
    if as_json:
        worst = proof.worst if proof and proof.rows else None
        echo_json(
            {
                "file": target,
                "bytes": size,
                **more,
                "verified": worst is not None,
                "blobs": len(proof.rows) if proof else 0,
                "worst": worst and {"blob": worst.blob, "distance": worst.distance},
            }
        )
        return
    click.echo(f"wrote {target}: {size:,} bytes{''.join(f', {k} {v}' for k, v in more.items())}",
               err=True)  # fmt: skip
    if proof is not None and not proof.rows:
        click.echo(printable(f"Warning: not verified: {proof.missing}"), err=True)
    elif proof is not None:
        click.echo(
            printable(summed_up(f"{runtime} against float64, random input", proof.rows)),
            err=True,
        )
