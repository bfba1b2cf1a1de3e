"""``resnet-proto diff``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.engine_options import number
from resnet_proto.cli.options import (
    Number,
    called,
    echo_json,
    file_to_read,
    json_option,
    lenient_option,
    read_net,
    read_weights,
    regular,
)
from resnet_proto.errors import ResNetProtoError
from resnet_proto.sniff import CAFFEMODEL, PROTOTXT, TEXT, Kind, kind

if TYPE_CHECKING:
    from pathlib import Path

    from resnet_proto.net import Net


@click.command("diff")
@click.argument("one", metavar="A", callback=file_to_read)
@click.argument("other", metavar="B", callback=file_to_read)
@click.option(
    "--tolerance", type=Number(0), default=0, show_default=True,
    help="Relative L2 up to which blobs count as equal.",
)  # fmt: skip
@lenient_option
@json_option
def command(one: str, other: str, tolerance: float, lenient: bool, as_json: bool) -> None:
    """Compare two weight files, or two nets.

    For weights, in any formats: blobs that only one file has, shapes, the relative L2 of the
    values, and their largest difference relative to B's largest value. For nets, with Caffe's
    defaults filled in: layers that only one has, and fields; then whether they compute the same
    apart from names. If A or B is a prototxt, the other may be a weight file that contains one.
    The first 20 differences of each kind are shown. The exit status is 1 if they differ.

    \b
    resnet-proto diff ResNet-50.caffemodel ResNet-50.safetensors
    resnet-proto diff before.caffemodel after.caffemodel --tolerance 1e-6
    resnet-proto diff theirs/deploy.prototxt generated/resnet-50/deploy.prototxt
    """
    files = [regular(name) for name in (one, other)]
    names = (files[0][1], files[1][1])
    kinds = [kind_of(path) for path, _ in files]
    if any(found in (PROTOTXT, TEXT) for found in kinds):
        if CAFFEMODEL in kinds:
            place = kinds.index(CAFFEMODEL)
            raise ResNetProtoError(
                f"{names[place]} is a caffemodel, {names[1 - place]} is not; give two weight files "
                "or two nets. `resnet-proto inspect FILE --net NET` says whether weights fit a net"
            )
        nets = [net_of(*file, lenient=lenient) for file in files]
        differ = show_nets(nets, names, as_json=as_json)
    else:
        differ = show_weights([path for path, _ in files], names, tolerance, as_json=as_json)
    if differ:
        sys.exit(1)


def kind_of(path: Path) -> Kind | None:
    """What a file is, by how it begins; what cannot be read is said later."""
    from resnet_proto.prototxt import HEAD

    try:
        with path.open("rb") as file:
            return kind(file.read(HEAD))
    except OSError:
        return None


def net_of(path: Path, name: str, *, lenient: bool) -> Net:
    """The net of a file that messages call by name."""
    with called(path, name):
        return read_net(str(path), lenient=lenient)


def show_weights(
    paths: list[Path], names: tuple[str, str], tolerance: float, *, as_json: bool
) -> bool:
    """Print what differs; whether anything does."""
    from resnet_proto.report.diff import diff_weights, weights_table

    one, other = (read_weights(str(path)) for path in paths)
    rows = diff_weights(one, other)
    over = [row for row in rows if not row.within(tolerance)]
    if as_json:
        found = [
            {key: number(v) if isinstance(v, float) else v for key, v in asdict(row).items()}
            for row in over
        ]
        echo_json({"a": names[0], "b": names[1], "equal": len(rows) - len(over), "blobs": found})
    else:
        click.echo("\n".join(weights_table(rows, names, tolerance)))
    return bool(over)


def show_nets(nets: list[Net], names: tuple[str, str], *, as_json: bool) -> bool:
    """Print what differs; whether anything does."""
    from resnet_proto.graph import difference
    from resnet_proto.report.diff import diff_nets, nets_table

    rows = diff_nets(*nets)
    try:
        parted = difference(*nets)
        meaning = f"they part: {parted}" if parted else "they compute the same, names aside"
    except ResNetProtoError as error:
        parted, meaning = None, f"whether they compute the same is not known: {error}"
    if as_json:
        found = [asdict(row) for row in rows]
        echo_json({"a": names[0], "b": names[1], "fields": found, "meaning": meaning})
    else:
        click.echo("\n".join(nets_table(rows)))
        if rows:
            click.echo(meaning)
    return bool(rows)
