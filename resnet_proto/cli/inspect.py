"""``resnet-proto inspect``."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.options import (
    called,
    echo_json,
    file_to_read,
    json_option,
    lenient_option,
    net_option,
    read_net,
    read_trained,
    regular,
    state_options,
    terminal_width,
    weights_of,
)

if TYPE_CHECKING:
    from resnet_proto.state import State


@click.command("inspect")
@click.argument("file", callback=file_to_read)
@net_option
@state_options
@click.option("--stats", is_flag=True, help="Add min, max, mean and number of non-finite values.")
@click.option("--problems", is_flag=True, help="With --net: show only what is not copied.")
@lenient_option
@json_option
def command(
    file: str,
    net: str | None,
    state: State,
    stats: bool,
    problems: bool,
    lenient: bool,
    as_json: bool,
) -> None:
    """List the blobs of a weight file, solver state or image mean.

    FILE is a .caffemodel, .npz, .safetensors, .h5 or .pt, a .solverstate or .binaryproto, or - for
    stdin. Values are read only for --stats. --net shows what Caffe would do with each layer: copy
    it, ignore it (the net lacks it), leave it at its filler (the file lacks it), or stop (refused).
    The exit status is 1 if the weights do not fit: a layer is refused or left at its filler, or
    none is copied. `forward`, `convert` and `verify` refuse the same weights, but also read HDF5
    layers that only Caffe does not find. Released models are recognised by the file's digest, or
    by names and shapes.

    \b
    resnet-proto inspect ResNet-50.caffemodel
    resnet-proto inspect ResNet-18.caffemodel --net deploy.prototxt --problems

    For a .solverstate, iteration and history are shown, and with --net which solvers can resume
    from it; for a .binaryproto, its channels.

    \b
    resnet-proto inspect net_iter_500.solverstate --net solver.prototxt
    resnet-proto inspect mean.binaryproto
    """
    from resnet_proto.formats import held_by
    from resnet_proto.report.inspect import as_json as to_json
    from resnet_proto.report.inspect import inspect, table
    from resnet_proto.state import DEFAULT

    if problems and net is None:
        raise click.UsageError("--problems needs a net; add --net NET")
    if net is None and state != DEFAULT:
        raise click.UsageError("--phase, --level and --net-stage need a net; add --net NET")
    path, name = regular(file)
    with called(path, name):
        if (held := held_by(path)) == "mean":
            show_mean(path, name, as_json=as_json)
            return
    if held == "state":
        show_state(path, name, net, state, stats=stats, lenient=lenient, as_json=as_json)
        return
    the_net = None if net is None else read_net(net, lenient=lenient, state=state)
    weights = weights_of(path, name)
    inspection = inspect(weights, the_net, stats=stats)
    if as_json:
        echo_json(to_json(inspection, problems=problems))
    else:
        click.echo("\n".join(table(inspection, problems=problems, width=terminal_width())))
    if not inspection.fits:
        sys.exit(1)


def show_mean(path: Path, name: str, *, as_json: bool) -> None:
    """Print what a mean of images holds."""
    from resnet_proto.formats.binaryproto import read_blob
    from resnet_proto.report.mean import inspect, table

    found = inspect(name, read_blob(path).array())
    if as_json:
        echo_json(asdict(found))
    else:
        click.echo("\n".join(table(found)))


def show_state(
    path: Path,
    name: str,
    net: str | None,
    state: State,
    *,
    stats: bool,
    lenient: bool,
    as_json: bool,
) -> None:
    """Print what a solver state holds; the exit status is 1 if Caffe cannot go on from it."""
    from resnet_proto.formats.solverstate import read_solverstate
    from resnet_proto.report.solverstate import inspect, table

    the_net, solver = None, ""
    if net is not None:
        the_net, solver = read_trained(net, lenient=lenient, state=replace(state, phase="TRAIN"))
    with called(path, name):
        held = replace(read_solverstate(path), source=name)
    click.get_current_context().call_on_close(held.close)
    found = inspect(held, the_net, solver or None, stats=stats)
    if as_json:
        echo_json(asdict(found))
    else:
        click.echo("\n".join(table(found, width=terminal_width())))
    if found.misfit:
        sys.exit(1)
