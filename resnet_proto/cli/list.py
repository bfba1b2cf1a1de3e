"""``resnet-proto list``."""

from __future__ import annotations

from typing import Any

import click

from resnet_proto.cli.options import echo_json, json_option, terminal_width
from resnet_proto.words import columns


@click.command("list")
@json_option
def command(as_json: bool) -> None:
    """List the presets of `gen`, with parameters, MACs and source.

    Parameters are the learned values; MACs are the multiply-adds of Convolution and
    InnerProduct for one image, which the paper calls FLOPs.

    \b
    resnet-proto list
    resnet-proto list --json
    """
    from resnet_proto.build import deploy_net
    from resnet_proto.presets import PRESETS
    from resnet_proto.report.summary import summarize

    rows: list[dict[str, Any]] = []
    for name, preset in PRESETS.items():
        spec = preset.spec
        summary = summarize(deploy_net(spec))
        rows.append(
            {
                "name": name,
                "stages": list(spec.stages),
                "unit": spec.unit,
                "parameters": summary.parameters,
                "macs": summary.macs,
                "source": preset.source,
            }
        )
    if as_json:
        echo_json(rows)
        return
    cells = [("name", "stages", "unit", "parameters", "MACs"), *map(text_row, rows)]
    lines = list(columns(cells, ["source", *(row["source"] for row in rows)], left=3))
    width = terminal_width()
    if width is not None and max(map(len, lines)) > width:
        lines = list(columns(cells, left=3, width=width))
        lines.append("no room for the column source; --json has it")
    click.echo("\n".join(lines))


def text_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One preset as cells."""
    stages = ",".join(map(str, row["stages"]))
    return row["name"], stages, row["unit"], f"{row['parameters']:,}", f"{row['macs']:,}"
