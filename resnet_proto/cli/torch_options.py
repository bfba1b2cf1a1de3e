"""What ``convert`` has for PyTorch: other packages' names, to and fro, the proof of a ``.pt``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from resnet_proto.cli.options import echo_json
from resnet_proto.errors import (
    FormatError,
    NetError,
    ResNetProtoError,
    UnknownLayerError,
    UnknownShapeError,
)
from resnet_proto.words import printable

if TYPE_CHECKING:
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights

F = TypeVar("F", bound=Callable[..., Any])


def torch_options(command: F) -> F:
    """``--names``, ``--force`` and ``--set``."""
    command = click.option(
        "--set", "settings", metavar="FIELD=VALUE", multiple=True,
        help="For a state dict of torchvision or timm: a field that its keys do not tell, "
        "as stride_in=first. Repeatable.",
    )(command)  # fmt: skip
    command = click.option(
        "--force", is_flag=True,
        help="Overwrite files with other content; with --names, also write weights with which the "
        "package's own model would compute something else.",
    )(command)  # fmt: skip
    return click.option(
        "--names", type=click.Choice(("torchvision", "timm")),
        help="Write the keys of this package's model (.safetensors or .pt), and model.py.",
    )(command)  # fmt: skip


def convert_names(
    weights: Weights,
    net: Net | None,
    target: str,
    names: str,
    *,
    to: str | None,
    force: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Write weights under the keys of another package, and the file that builds its model."""
    from resnet_proto.foreign import save_for

    if target == "-" or to is not None:
        raise click.UsageError("--names needs a .safetensors or .pt file as OUT, without --to")
    if net is None:
        raise click.UsageError("--names needs the net that the weights are for; add --net NET")
    proof: dict[str, Any] = {}

    def prove(part: Path) -> None:
        if verify:
            proof.update(proof_of_names(part, target, names, net, weights))

    beside = save_for(names, target, weights, net, force=force, verify=verify, prove=prove)
    if as_json:
        echo_json({"file": target, "model": str(beside), "verified": verify, **proof})
        return
    read = ", read back equal" if verify else ""
    click.echo(f"wrote {target} for {names}{read}, and {beside}, which builds the model", err=True)


def proof_of_names(
    part: Path, target: str, package: str, net: Net, weights: Weights
) -> dict[str, Any]:
    """Run the package's model with what was written; for --json.

    ``part`` is the file before it takes its name ``target``.

    Raises:
        FormatError: the logits are over the tolerance.
    """
    from resnet_proto.engine.compare import TOLERANCE
    from resnet_proto.formats import load
    from resnet_proto.torch_models import NotRunError, prove

    try:
        with load(part) as state:
            _, row = prove(net.at(phase="TEST").upgraded().filtered(), weights, state, [package])
    except NotRunError as error:
        click.echo(printable(f"Warning: {package}'s model is not run: {error}"), err=True)
        return {"verified": False}
    text = f"'{row.blob}' has relative L2 {row.distance:.2e}"
    if not row.within(TOLERANCE):
        raise FormatError(
            f"{target}: {package}'s model does not compute what the net does: {text}, over "
            f"{TOLERANCE:g}. The file was not kept; --no-verify writes it"
        )
    click.echo(f"{package}'s model against the net, random input, float64: {text}", err=True)
    return {"worst_blob": row.blob, "relative_l2": row.distance}


def made_of_state_dict(
    weights: Weights, settings: Sequence[str], *, verify: bool
) -> tuple[Net, Weights, dict[str, Any]]:
    """The net that a state dict of torchvision or timm is for, its weights, and the proof of both.

    Returns:
        the proof: for --json.

    Raises:
        NetError: it is none, or not of a net that is known.
        ResNetProtoError: the net does not compute what their model does.
    """
    from resnet_proto.engine.compare import TOLERANCE
    from resnet_proto.state_dict import net_of_state_dict
    from resnet_proto.torch_models import NotRunError, prove

    notes: list[str] = []
    warnings: list[str] = []
    net, blobs = net_of_state_dict(weights, settings, notes, warnings)
    for line in (*notes, *(f"Warning: {text}" for text in warnings)):
        click.echo(printable(line), err=True)
    if not verify:
        return net, blobs, {}
    try:
        package, row = prove(net, blobs, weights)
    except NotRunError as error:
        click.echo(printable(f"Warning: the net is not run against theirs: {error}"), err=True)
        return net, blobs, {"verified": False}
    text = f"'{row.blob}' has relative L2 {row.distance:.2e}"
    if not row.within(TOLERANCE):
        raise ResNetProtoError(
            f"the net does not compute what {package}'s model does with {weights.source}: {text}, "
            f"over {TOLERANCE:g}; nothing was written"
        )
    click.echo(f"the net against {package}'s model, random input, float64: {text}", err=True)
    return net, blobs, {"worst_blob": row.blob, "relative_l2": row.distance}


def torch_proof(
    part: Path, target: str, to: str | None, net: Net | None, weights: Weights
) -> tuple[dict[str, Any], str]:
    """Run what was written, if it is a ``.pt`` whose net is known; for --json, and in words.

    ``part`` is the file before it takes its name ``target``.

    Raises:
        FormatError: a blob is over the tolerance.
    """
    from resnet_proto.formats import SUFFIXES, net_of

    suffix = SUFFIXES.get(Path(target).suffix.lower()[1:])
    if target == "-" or "pt" not in (to, suffix):
        return {}, ""
    try:
        net = net or net_of(weights)
        if net is None:
            return {}, "; not run, because no net is known"
        from resnet_proto.engine.compare import TOLERANCE
        from resnet_proto.engine.torch_module import prove

        worst = prove(part, net.at(phase="TEST"), weights)
    except (UnknownLayerError, UnknownShapeError, NetError) as error:
        click.echo(f"Warning: {target} is not run: {error}", err=True)
        return {}, ""
    text = f"the worst blob is '{worst.blob}' with relative L2 {worst.distance:.2e}"
    if not worst.within(TOLERANCE):
        from resnet_proto.engine.onnx_file import lost_digits

        why = lost_digits(net, weights, worst.blob)
        raise FormatError(
            f"{target}: its module does not compute what the net does: {text}, over "
            f"{TOLERANCE:g}{why}. The file was not kept; --no-verify writes it"
        )
    found = {"worst_blob": worst.blob, "relative_l2": worst.distance}
    return found, f"; run on random input against float64, {text}"
