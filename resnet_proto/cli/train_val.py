"""``resnet-proto train-val``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.options import (
    LAUNCHERS,
    check_folder,
    chosen,
    deliver,
    folder_to_write,
    force_option,
    json_option,
    launcher_option,
    lenient_option,
    net_argument,
    read_net,
    stage_options,
    templates_option,
    whole,
)

if TYPE_CHECKING:
    from resnet_proto.state import State


@click.command("train-val")
@net_argument
@click.option("--set", "settings", metavar="FIELD=VALUE", multiple=True,
              help="Set a training field, as batch=64. Repeatable.")  # fmt: skip
@click.option(
    "--classes", type=whole(1), help="Number of classes, for a renamed classifier."
)  # fmt: skip
@launcher_option
@click.option("--finetune", is_flag=True, help="Rename the classifier and raise its learning rate.")
@click.option(
    "--only",
    type=click.Choice(["train_val", "solver", "solver_warmup", "train"]),
    help="Write only this file.",
)
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    callback=folder_to_write,
    help="Folder to write to; with --only, - is stdout.  [generated/NAME]",
)
@stage_options
@force_option
@templates_option
@lenient_option
@json_option
def command(
    net: str,
    settings: tuple[str, ...],
    launcher: str,
    classes: int | None,
    finetune: bool,
    only: str | None,
    out: str | None,
    state: State,
    force: bool,
    templates: str | None,
    lenient: bool,
    as_json: bool,
) -> None:
    """Make a deploy net ready to train: train_val, solver, train.sh.

    NET is any deploy prototxt, or - for stdin. Fillers, rates, data, loss and accuracy are added;
    BatchNorm uses the statistics of the batch. The recipe is the paper's: for CIFAR if the input
    has up to 64 pixels, else for ImageNet; segmentation and localization have their own. --set
    takes the fields under [training] of `gen --print-spec`, with or without `training.`. With
    other classes, `deploy` then makes the net that the trained weights fit.

    \b
    resnet-proto train-val deploy.prototxt --out nets/mine
    resnet-proto train-val deploy.prototxt --classes 37 --finetune \\
        --set weights=../old.caffemodel
    resnet-proto train-val deploy.prototxt --set batch=16 --set gpus=1 \\
        --only solver --out -
    """
    from resnet_proto.generate import FILES, launch_files
    from resnet_proto.prototxt import to_prototxt
    from resnet_proto.recipe import RECIPES, training_for
    from resnet_proto.report.summary import summarize
    from resnet_proto.settings import assignments, changed
    from resnet_proto.spec import check_data
    from resnet_proto.state import DEFAULT
    from resnet_proto.training.classifier import with_classes
    from resnet_proto.training.tasks import FINISH
    from resnet_proto.training.train_val import check_one_answer, only_input, to_train_val
    from resnet_proto.trunk import trunk_of

    found = read_net(net, lenient=lenient, state=state)
    if state != DEFAULT:
        found = found.settled()
    if classes is not None or finetune:
        found = with_classes(found, classes)
    _, shape = only_input(found)
    task = trunk_of(found).fields["task"]
    if task in RECIPES:
        training = RECIPES[task].training
    else:
        channels, *sides = shape[1:] if len(shape) == 4 else (3, 224)
        training = training_for(channels, max(sides))
    told = (*LAUNCHERS[launcher], *(setting.removeprefix("training.") for setting in settings))
    training = changed(training, assignments(training, told), "the training")
    training = replace(training, finetune=finetune or training.finetune)
    check_data(task, training)
    trained = to_train_val(found, training, FINISH[task])
    if task not in RECIPES:
        check_one_answer(found)
    name = found.name or "net"
    check_folder(out, name, "train_val", as_json=as_json)
    summary = summarize(found)
    texts = {FILES["train_val"]: to_prototxt(trained, templates=templates)}
    facts = {
        "name": found.name,
        "recipe": training.recipe,
        "layers": len(trained.layers),
        "parameters": summary.parameters,
        "macs": summary.macs,
    }
    target = Path("generated", name.lower()) if out is None else Path(out)
    deliver(
        chosen(texts | launch_files(name, training, templates=templates), only, out),
        None if out == "-" else target,
        force=force,
        facts=facts if as_json else None,
        figures=f"{name}: {summary.parameters:,} parameters, recipe {training.recipe}",
        training=training,
    )
    if (classes is not None or finetune) and not as_json and out != "-" and only is None:
        trained_net, made = (quote(str(target / FILES[name])) for name in ("train_val", "deploy"))
        if training.data == "hdf5":  # its layer does not say
            made += f" --input-shape {','.join(map(str, shape))}"
        click.echo(
            f"use: resnet-proto deploy {trained_net} --out {made} "
            "makes the net that the trained weights fit"
        )
