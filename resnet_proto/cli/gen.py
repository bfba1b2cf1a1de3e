"""``resnet-proto gen``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from resnet_proto.cli.options import (
    LAUNCHERS,
    check_folder,
    chosen,
    counts,
    deliver,
    file_to_read,
    folder_to_write,
    force_option,
    json_option,
    launcher_option,
    readable,
    templates_option,
    whole,
)
from resnet_proto.generate import FILES
from resnet_proto.presets import PRESETS, preset
from resnet_proto.settings import assignments, read_toml, to_toml
from resnet_proto.spec import CONVOLUTIONS, ResNetSpec, adapted, for_finetuning

DEPTHS = [name[7:] for name in PRESETS if name.startswith("resnet-") and name[7:].isdecimal()]


@click.command("gen")
@click.option(
    "--depth", type=whole(), metavar="N", help=f"{', '.join(DEPTHS[:-1])} or {DEPTHS[-1]}."
)
@click.option("--preset", "name_of_preset", metavar="NAME", help="Preset: see `resnet-proto list`.")
@click.option(
    "--spec", "file", metavar="FILE.toml", callback=file_to_read,
    help="Read the spec from a file; - is stdin.",
)  # fmt: skip
@click.option(
    "--stages", callback=counts, metavar="N,N,...", help="Any other net: units in each stage."
)
@click.option("--unit", type=click.Choice(list(CONVOLUTIONS)), help="Kind of unit, for --stages.")
@click.option(
    "--width",
    callback=counts,
    metavar="N,...",
    help="Channels of the 3x3 in the first stage, or in each; the stem keeps its own.  [64]",
)
@click.option("--classes", type=whole(1), help="Number of classes.  [1000]")
@click.option("--name", help="Name of the net.  [ResNet-N]")
@click.option(
    "--project-first-stage", is_flag=True, help="Project in the first stage of basic units too."
)
@click.option("--set", "settings", metavar="FIELD=VALUE", multiple=True,
              help="Set any field of the spec, also training.batch=64. Repeatable.")  # fmt: skip
@launcher_option
@click.option("--finetune", is_flag=True, help="Rename the classifier and raise its learning rate.")
@click.option("--print-spec", is_flag=True, help="Print the spec as TOML and write nothing.")
@click.option("--only", type=click.Choice(list(FILES)), help="Write only this file.")
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    callback=folder_to_write,
    help="Folder to write to; with --only, - is stdout.  [generated/NAME]",
)
@force_option
@templates_option
@json_option
def command(
    depth: int | None,
    name_of_preset: str | None,
    file: str | None,
    stages: tuple[int, ...] | None,
    unit: str | None,
    width: tuple[int, ...] | None,
    classes: int | None,
    name: str | None,
    project_first_stage: bool,
    settings: tuple[str, ...],
    launcher: str,
    finetune: bool,
    print_spec: bool,
    only: str | None,
    out: str | None,
    force: bool,
    templates: str | None,
    as_json: bool,
) -> None:
    """Generate a residual net: deploy, train_val, solver, train.sh.

    Depths 50, 101 and 152 equal the authors' released nets, layer for layer and name for name.

    \b
    resnet-proto gen --depth 152
    resnet-proto gen --depth 18 --classes 37 --finetune --out nets/pets
    resnet-proto gen --preset cifar-resnet-20 --set training.gpus=1
    resnet-proto gen --depth 101 --set task=faster-r-cnn
    resnet-proto gen --depth 50 --print-spec > my.toml
    resnet-proto gen --spec my.toml --set shortcut=C --only deploy --out -
    """
    from resnet_proto.build import deploy_net
    from resnet_proto.generate import generate

    spec, folder = choose(depth, name_of_preset, file, stages, unit)
    options: dict[str, Any] = {
        "name": name,
        "stages": stages,
        "unit": unit if stages else None,
        "width": width,
        "classes": classes,
        "project_first_stage": project_first_stage or None,
    }
    table = {key: value for key, value in options.items() if value is not None}
    settings = (*(f"training.{setting}" for setting in LAUNCHERS[launcher]), *settings)
    task = spec.task
    table |= assignments(spec, settings)
    spec = adapted(spec, table, "the spec")
    if folder is not None and spec.task != task:
        folder = f"{folder}-{spec.task}"
    if finetune or spec.training.finetune:
        spec = for_finetuning(spec)
    if print_spec:
        click.echo(to_toml(spec), nl=False)
        return
    net = deploy_net(spec)
    check_folder(out, net.name, "deploy", as_json=as_json)
    steps = list(net.walk())  # refuses a net that no Caffe could hold
    parameters = sum(step.parameters for step in steps)
    macs = sum(step.macs for step in steps)
    facts = {
        "name": net.name,
        "depth": spec.depth,
        "layers": len(steps),
        "parameters": parameters,
        "macs": macs,
    }
    named = net.name.lower() if folder is None or "name" in table else folder
    target = Path("generated", named) if out is None else Path(out)
    deliver(
        chosen(generate(spec, templates=templates, only=only), only, out),
        None if out == "-" else target,
        force=force,
        facts=facts if as_json else None,
        figures=f"{net.name}: {parameters:,} parameters, {macs:,} MACs",
        elsewhere="--out DIR or another --name" if out is None else "another --out DIR",
        training=spec.training,
    )


def choose(
    depth: int | None,
    name: str | None,
    file: str | None,
    stages: tuple[int, ...] | None,
    unit: str | None,
) -> tuple[ResNetSpec, str | None]:
    """The spec to start from: a preset (and its folder), a file's, or that of any net of stages."""
    if sum(given is not None for given in (depth, name, file, stages)) != 1:
        raise click.UsageError(
            "give one of --depth N, --preset NAME, --spec FILE, or --stages N,N,... with --unit"
        )
    if unit is not None and stages is None:
        raise click.UsageError("--unit goes with --stages; elsewhere, use --set unit=...")
    if stages is not None and unit is None:
        raise click.UsageError(f"--stages needs --unit {', '.join(CONVOLUTIONS)}")
    if depth is not None:
        if str(depth) not in DEPTHS:
            raise click.UsageError(
                f"no preset has depth {depth}; known: {', '.join(DEPTHS)}. "
                "Any other net: --stages 3,4,6,3 --unit basic; `resnet-proto list` has more"
            )
        name = f"resnet-{depth}"
    if name is not None:
        return preset(name), name
    if file is not None:
        return read_spec(file), None
    if unit == "fully-connected":
        return ResNetSpec(unit=unit, stem="none", pool="none"), None
    return ResNetSpec(), None


def read_spec(path: str) -> ResNetSpec:
    """The spec of a TOML file; ``-`` is stdin.

    Raises:
        ResNetProtoError: it cannot be read, or is no spec.
    """
    from resnet_proto.errors import ResNetProtoError

    source = "stdin" if path == "-" else path
    with readable(source):
        if path != "-" and not Path(path).exists():
            raise ResNetProtoError(
                f"{path}: no such file; `resnet-proto gen --depth 50 --print-spec` makes one"
            )
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ResNetProtoError(f"{source}: this is not UTF-8 text; a spec is a TOML file") from None
    return adapted(ResNetSpec(), read_toml(text, source), source)
