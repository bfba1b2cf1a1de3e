"""The options of commands that have a net look at images: with what views, labels and engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from resnet_proto.cli.engine_options import caffe_python_option, engine_choice
from resnet_proto.cli.options import counts

if TYPE_CHECKING:
    from resnet_proto.evaluate.classifier import Classifier
    from resnet_proto.evaluate.released import Release
    from resnet_proto.net import Net
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.weights import Weights

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class ClassifierOptions:
    """The values of the options below, by their names."""

    labels: str | None
    crops: str
    scales: tuple[int, ...] | None
    engine: str
    caffe_python: str | None

    def classifier(
        self,
        net: Net,
        weights: Weights,
        image: ImageOptions,
        release: Release | None,
        net_file: Path | None = None,
        weights_file: Path | None = None,
    ) -> Classifier:
        """A net that looks at images so; the very file of a release brings its labels."""
        from resnet_proto.evaluate.classifier import Classifier, classes_of
        from resnet_proto.evaluate.labels import read_labels

        labels = self.labels
        if release is not None and release.found != "structure":  # others may have other classes
            labels = labels or release.labels or None
        return Classifier(
            net,
            weights,
            image=image,
            crops=int(self.crops),
            scales=self.scales or (),
            engine=self.engine,
            labels=None if labels is None else read_labels(labels, classes_of(net)),
            net_file=net_file,
            weights_file=weights_file,
            caffe_python=self.caffe_python,
        )


def classifier_options(command: Command) -> Command:
    """Give a command these options, as its argument ``how``."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        how = ClassifierOptions(
            **{field.name: kwargs.pop(field.name) for field in fields(ClassifierOptions)}
        )
        if how.scales and how.crops != "1":
            raise click.UsageError("--crops 10 and --scales exclude each other; give one of them")
        if how.labels == "":
            raise click.UsageError("--labels is empty; give it the name of a file, or imagenet")
        return command(*args, how=how, **kwargs)

    options = [
        click.option(
            "--labels", metavar="FILE|imagenet",
            help="Names of the classes: a file with a line for each, or ImageNet's 1,000.",
        ),
        click.option(
            "--crops", type=click.Choice(["1", "10"]), default="1", show_default=True,
            help="The centre; or centre, corners and their mirror images (see --crop).",
        ),
        click.option(
            "--scales", callback=counts, metavar="N,...",
            help="Use the whole image and its mirror image, with the shorter side this long; "
            "the paper: 224,256,384,480,640.",
        ),
        click.option(
            "--engine", type=engine_choice, default="numpy", show_default=True,
            help="Engine to run the net with.",
        ),
        caffe_python_option,
    ]  # fmt: skip
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]
