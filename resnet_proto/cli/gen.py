"""``resnet-proto gen``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_proto.cli.options import echo_json, json_option
from resnet_proto.spec import CONVOLUTIONS, PRESETS, ResNetSpec, UnitType, depth

if TYPE_CHECKING:
    from resnet_proto.report.summary import Summary

DEPTHS = {spec.depth: spec for spec in PRESETS.values()}


def counts(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """``3,4,6,3`` as numbers."""
    if value is None:
        return None
    parts = value.split(",")
    # Python refuses to read numbers of thousands of digits.
    if not all(part.strip().isdecimal() and len(part) < 100 and int(part) > 0 for part in parts):
        raise click.BadParameter(f"'{value}' is not a list of positive numbers such as 3,4,6,3")
    return tuple(map(int, parts))


@click.command("gen")
@click.option("--depth", "layers", type=int, metavar="N", help="18, 34, 50, 101 or 152.")
@click.option(
    "--stages", callback=counts, metavar="N,N,...", help="Units of each stage: any other net."
)
@click.option("--unit", type=click.Choice(list(CONVOLUTIONS)), help="With --stages.")
@click.option(
    "--width",
    type=click.IntRange(1),
    help="Channels of the first stage's 3x3; the stem keeps 64.  [64]",
)
@click.option("--classes", type=click.IntRange(1), help="Classes of the classifier.  [1000]")
@click.option("--name", help="Name of the net.  [ResNet-N]")
@click.option(
    "--project-first-stage", is_flag=True, help="Projection in the first stage of basic units too."
)
@click.option("--only", type=click.Choice(["deploy"]), help="Write this file and no other.")
@click.option(
    "--out",
    metavar="DIR",
    help="Folder to write to; - is stdout.  [generated/NAME]",
)
@click.option("--force", is_flag=True, help="Overwrite files that have other content.")
@click.option(
    "--templates",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of templates that go before the project's own.",
)
@json_option
def command(
    layers: int | None,
    stages: tuple[int, ...] | None,
    unit: UnitType | None,
    width: int | None,
    classes: int | None,
    name: str | None,
    project_first_stage: bool,
    only: str | None,
    out: str | None,
    force: bool,
    templates: str | None,
    as_json: bool,
) -> None:
    """Generate the prototxt of a residual net.

    Depths 50, 101 and 152 are the released nets, layer for layer and name for name.

    \b
    resnet-proto gen --depth 152
    resnet-proto gen --depth 18 --classes 37 --name pets --out nets/pets
    resnet-proto gen --stages 3,4,6,3 --unit bottleneck --width 32 --name half --out -
    """
    from resnet_proto.build import deploy_net
    from resnet_proto.generate import FILES, generate, write_files
    from resnet_proto.report.summary import summarize

    spec = choose(layers, stages, unit)
    changes: dict[str, Any] = {"name": name, "width": width, "classes": classes}
    spec = replace(spec, **{key: value for key, value in changes.items() if value is not None})
    spec = replace(spec, project_first_stage=spec.project_first_stage or project_first_stage)
    if out is None and set(spec.name) & set("/\\\0\n") | {spec.name} & {"", ".", ".."}:
        raise click.UsageError(f"--name {name!r} cannot be the name of a folder; give --out DIR")
    summary = summarize(deploy_net(spec))  # refuses a net that no Caffe could hold
    texts = generate(spec, templates=templates)
    if only:
        texts = {FILES[only]: texts[FILES[only]]}
    if out == "-":
        if as_json:
            raise click.UsageError("--out - prints the net itself; leave --json out")
        if len(texts) > 1:
            raise click.UsageError("--out - writes one file; choose it with --only")
        click.echo("".join(texts.values()), nl=False)
        return
    folder = Path("generated", spec.name.lower()) if out is None else Path(out)
    report(spec, summary, write_files(texts, folder, force=force), as_json)


def choose(layers: int | None, stages: tuple[int, ...] | None, unit: UnitType | None) -> ResNetSpec:
    """The preset of a depth, or a net from its stages."""
    if (layers is None) == (stages is None):
        raise click.UsageError("give either --depth N, or --stages N,N,... with --unit")
    if layers is not None:
        if unit is not None:
            raise click.UsageError("--unit goes with --stages; --depth has its own")
        if layers not in DEPTHS:
            raise click.UsageError(
                f"no preset has depth {layers}; known: {', '.join(map(str, DEPTHS))}. "
                "Any other net: --stages 3,4,6,3 --unit basic"
            )
        return DEPTHS[layers]
    if unit is None:
        raise click.UsageError("--stages needs --unit basic or --unit bottleneck")
    assert stages is not None
    return ResNetSpec(f"ResNet-{depth(stages, unit)}", stages, unit)


def report(spec: ResNetSpec, summary: Summary, done: dict[Path, str], as_json: bool) -> None:
    """Say what was written, with the net's figures."""
    if as_json:
        echo_json(
            {
                "name": spec.name,
                "depth": spec.depth,
                "layers": len(summary.rows),
                "parameters": summary.parameters,
                "macs": summary.macs,
                "files": {str(path): state for path, state in done.items()},
            }
        )
        return
    for path, state in done.items():
        click.echo(f"{path}  {state}")
    click.echo(
        f"{spec.name}: depth {spec.depth}, {summary.parameters:,} parameters, {summary.macs:,} MACs"
    )
