"""A train_val net -> what `caffe test` would test it on: images, and how they go in.

    net at TEST -> its Data layer -> LMDB, mean, scale, crop -> deploy net, image options

Source: data_transformer.cpp; data_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.data.images import shape_of
from resnet_proto.data.labelled import shown
from resnet_proto.data.lmdb import is_lmdb, records
from resnet_proto.errors import ResNetProtoError
from resnet_proto.preprocess import ImageOptions
from resnet_proto.schema import decode
from resnet_proto.training.train_val import DATA, is_train_val, to_deploy
from resnet_proto.words import counted

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.net import Net


@dataclass(frozen=True)
class Subject:
    """A net to judge, and what its own data layer says.

    Args:
        net: the deploy net.
        image: how images go in; None where the net was a deploy net already.
        source: the LMDB; empty where there is none.
        forced: whether encoded images are decoded to the net's channels, whatever they are.
        batch: images of a batch of `caffe test`; 0 where that is not known.
    """

    net: Net
    image: ImageOptions | None = None
    source: str = ""
    forced: bool = False
    batch: int = 0


def subject_of(
    net: Net, folders: Sequence[Path], shape: Shape | None = None, images: str = ""
) -> Subject:
    """What there is to judge of a net.

    Args:
        net: a deploy net, or a train_val net, whose layers at TEST count.
        folders: where paths in it lead from; Caffe's is the current one.
        shape: of the net's input, (1, C, H, W); by default what the data layer or the LMDB says.
        images: what is read instead of the data layer's LMDB.

    Raises:
        ResNetProtoError: the mean is not there, or the deploy net cannot be made.
        NetError: likewise.
    """
    if not is_train_val(net):
        return Subject(net)
    layers = net.upgraded().filtered("TEST").layers
    for layer in layers:
        if layer.type == "Accuracy" and "ignore_label" in layer.param:
            raise ResNetProtoError(
                f"layer '{layer.name}' leaves images of label {layer.param['ignore_label']} out "
                "(ignore_label), which count here; give the deploy net and other images"
            )
    data = next((layer for layer in layers if layer.type in DATA), None)
    if data is None:
        raise ResNetProtoError(
            "the net has no data layer at phase TEST; give its deploy net (`resnet-proto deploy`), "
            "and the images"
        )
    if data.type != "Data":
        return Subject(replace(to_deploy(net, shape), source=net.source), batch=0)
    transform = data.fields.get("transform_param", {})
    source = images or next(
        (str(f / data.source) for f in folders if data.source and is_lmdb(f / data.source)),  # type: ignore[attr-defined]
        str(data.source),  # type: ignore[attr-defined]
    )
    forced = bool(transform.get("force_gray") or transform.get("force_color"))
    shape = shape or input_shape(transform, source)
    deploy = replace(to_deploy(net, shape), source=net.source)
    grey = any(len(own) == 4 and own[1] == 1 for own in deploy.inputs().values())
    options = ImageOptions(
        mean=mean_of(transform, folders),
        scale=(float(transform.get("scale", 1.0)),),
        channels="GRAY" if grey else "BGR",
    )
    return Subject(deploy, options, source, forced, int(data.batch_size))  # type: ignore[attr-defined]


def input_shape(transform: Mapping[str, Any], source: str) -> Shape | None:
    """(1, C, H, W) of the images, where the LMDB's first one and the crop say it."""
    if not is_lmdb(Path(source)):
        return None
    tree, stored = first_of(Path(source))
    if stored is None:
        return None
    channels, crop = stored[0], int(transform.get("crop_size", 0))
    if tree.get("encoded"):
        forced = 1 if transform.get("force_gray") else 3 if transform.get("force_color") else 0
        channels = forced or channels
    return (1, channels, *((crop, crop) if crop else stored[1:]))


def first_of(path: Path) -> tuple[Mapping[str, Any], Shape | None]:
    """The first Datum of an LMDB, and its (C, H, W); None where only Pillow could tell.

    Raises:
        ResNetProtoError: there is none.
    """
    with records(path) as database:
        for key, value in database.at([0] if database.count else []):
            tree = decode("Datum", value)
            return tree, shape_of(tree, f"{path}: {shown(key)}")
    raise ResNetProtoError(f"{path}: there are no images in it")


def mean_of(transform: Mapping[str, Any], folders: Sequence[Path]) -> tuple[float, ...] | Path:
    """The mean that a data layer subtracts.

    Raises:
        ResNetProtoError: its file is not there.
    """
    if file := str(transform.get("mean_file", "")):
        path = next((folder / file for folder in folders if (folder / file).is_file()), None)
        if path is None:
            raise ResNetProtoError(
                f"{file}: no such file; it is the mean_file of the net's data layer: give --mean"
            )
        return path
    return tuple(float(value) for value in transform.get("mean_value", ())) or (0.0,)


def as_caffe_tests(images: int, batch: int) -> str:
    """Which `caffe test` gives the same numbers, as a sentence."""
    if images % batch == 0:
        return f"`caffe test -iterations {images // batch}` goes over the same images"
    return (
        f"`caffe test` has no iterations for {counted(images, 'image')}: batches of {batch} go "
        "over some of them twice, or leave some out"
    )
