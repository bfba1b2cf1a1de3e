"""``resnet-proto list``."""

from __future__ import annotations

import click

from resnet_proto.cli.options import echo_json, json_option


@click.command("list")
@json_option
def command(as_json: bool) -> None:
    """List the nets that `gen` knows by name.

    Parameters are the learned values; MACs are the multiply-adds of Convolution and
    InnerProduct for one image.

    \b
    resnet-proto list
    resnet-proto list --json
    """
    from resnet_proto.build import deploy_net
    from resnet_proto.presets import PRESETS
    from resnet_proto.report.summary import summarize

    rows = []
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
    head = ("name", "stages", "unit", "parameters", "MACs", "source")
    cells = [head, *(text_row(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    cells.insert(1, tuple("-" * width for width in widths))
    for line in cells:
        aligned = (
            f"{cell:>{w}}" if i in (3, 4) else f"{cell:<{w}}"
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        click.echo("  ".join(aligned).rstrip())


def text_row(row: dict[str, object]) -> tuple[str, ...]:
    """One preset as cells."""
    stages = row["stages"]
    assert isinstance(stages, list)
    return (
        str(row["name"]),
        ",".join(map(str, stages)),
        str(row["unit"]),
        f"{row['parameters']:,}",
        f"{row['macs']:,}",
        str(row["source"]),
    )
