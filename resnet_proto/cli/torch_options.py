"""What ``convert`` has for PyTorch: names of other packages, and the proof of a ``.pt``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from resnet_proto.cli.options import echo_json
from resnet_proto.errors import (
    FormatError,
    NetError,
    UnknownLayerError,
    UnknownShapeError,
)

if TYPE_CHECKING:
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights

F = TypeVar("F", bound=Callable[..., Any])


def torch_options(command: F) -> F:
    """``--names`` and ``--force``."""
    command = click.option(
        "--force", is_flag=True,
        help="With --names: write also what the package's own model would compute otherwise.",
    )(command)  # fmt: skip
    return click.option(
        "--names", type=click.Choice(("torchvision", "timm")),
        help="Keys of this package's model, in .safetensors or .pt, and model.py beside.",
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
        raise click.UsageError("--names goes with a file OUT whose suffix says all, without --to")
    if net is None:
        raise click.UsageError("--names needs the net that the weights are for; add --net NET")
    beside = save_for(names, target, weights, net, force=force, verify=verify)
    if as_json:
        echo_json({"file": target, "model": str(beside), "verified": verify})
        return
    read = ", read back equal" if verify else ""
    click.echo(f"wrote {target} for {names}{read}, and {beside}, which builds the model", err=True)


def torch_proof(
    target: str, to: str | None, net: Net | None, weights: Weights
) -> tuple[dict[str, Any], str]:
    """Run what was written, if it is a ``.pt`` whose net is known; for --json, and in words.

    Raises:
        FormatError: a blob is over the tolerance; the file is taken away.
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

        worst = prove(target, net.at(phase="TEST"), weights)
    except (UnknownLayerError, UnknownShapeError, NetError) as error:
        click.echo(f"Warning: {target} is not run: {error}", err=True)
        return {}, ""
    text = f"the worst blob is '{worst.blob}' with relative L2 {worst.distance:.2e}"
    if not worst.within(TOLERANCE):
        Path(target).unlink()
        raise FormatError(
            f"{target}: its module does not compute what the net does: {text}, over "
            f"{TOLERANCE:g}. The file was not kept; --no-verify writes it"
        )
    found = {"worst_blob": worst.blob, "relative_l2": worst.distance}
    return found, f"; run on random input against float64, {text}"
