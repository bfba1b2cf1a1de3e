"""Nets + labelled images -> how often the nets are right.

    images -> shards -> scores of each net -> their mean -> a row for each image -> Evaluation

An image's row depends on nothing but the nets and the batch that it is in, and batches are fixed
before anybody knows how many workers there are: the result is the same, wherever it is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ResNetProtoError, brief, check_kind, check_whole
from resnet_proto.evaluate.classifier import Classifier
from resnet_proto.evaluate.metrics import (
    ClassRow,
    Rows,
    confusion_of,
    joined,
    mistakes,
    per_class,
    rows_of,
    wilson,
    wrong_of,
)
from resnet_proto.evaluate.sent import digest_of, received, sent
from resnet_proto.evaluate.shards import check_processes, run_shards, split
from resnet_proto.evaluate.source import Item, Source, find_source, found_again
from resnet_proto.evaluate.task import Shard
from resnet_proto.layers import Shape, dims
from resnet_proto.preprocess import centre, per_channel, read_mean
from resnet_proto.prototxt import parse_net, to_prototxt
from resnet_proto.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet_proto.evaluate.views import ImageLike, Views
    from resnet_proto.layers.base import Array
    from resnet_proto.preprocess import ImageOptions

SHARDS, LARGEST = 64, 256
"""As many shards as that at least, if they have a batch each, of at most so many images: what is
lost when a worker is killed."""
NAMED = 20
"""Images of a shard that were left out and are named."""
ON_ERROR = ("skip", "refuse")
MISTAKES = 40
"""Of an evaluation, at most."""
COLUMNS = tuple(Rows.__dataclass_fields__)


@dataclass(frozen=True)
class Evaluation:
    """What nets say of labelled images.

    Args:
        source: what the images are called.
        nets: the names of the nets; the scores of several are averaged.
        classes: how many the nets have.
        names: of the classes; empty where they are not known.
        rows: a row for each image that was judged.
        left_out: how many could not be read.
        reasons: why, of the first of them in each shard.
        made_of: all that the rows depend on, ``name: value`` each; nets, weights and images by
            their digests; ``contents`` is one of the images with the content of 64 of them.
    """

    source: str
    nets: tuple[str, ...]
    classes: int
    names: tuple[str, ...]
    rows: Rows
    left_out: int = 0
    reasons: tuple[str, ...] = ()
    made_of: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many images were judged."""
        return len(self.rows)

    @property
    def ks(self) -> tuple[int, ...]:
        """1, and 5 where that says something."""
        return (1, 5) if self.classes > 5 else (1,)

    def wrong(self, k: int = 1) -> int:
        """Images whose label is not among the ``k`` best scores, as Caffe's Accuracy counts."""
        return wrong_of(self.rows, k)

    def error(self, k: int = 1) -> float:
        """The share of those, 0 to 1."""
        return self.wrong(k) / len(self)

    def interval(self, k: int = 1) -> tuple[float, float]:
        """What that would be over all images of the kind, with 95 % confidence (Wilson)."""
        return wilson(self.wrong(k), len(self))

    def confusion(self) -> NDArray[Any]:
        """How many images of each class are taken for each: (label, predicted), (C, C), int64."""
        return confusion_of(self.rows, self.classes)

    def per_class(self) -> list[ClassRow]:
        """A row for each class."""
        return per_class(self.rows, self.classes, self.ks)

    def mistakes(self, count: int = MISTAKES) -> NDArray[Any]:
        """Where in ``rows`` those are of which the nets were surest, and wrong."""
        return mistakes(self.rows, count)

    def name(self, label: int) -> str:
        """What a class is called; its number where that is not known."""
        label = check_whole("label", label, "the number of a class", 0)
        return self.names[label] if label < len(self.names) else str(label)


def evaluate(
    classifiers: Classifier | Sequence[Classifier],
    images: str | Path | Source,
    *,
    root: Path | None = None,
    part: str = "",
    on_error: str = "skip",
    jobs: int = 1,
    dask: str | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int, int], object] = lambda done, before, all_: None,
    warn: Callable[[str], object] = lambda text: None,
) -> Evaluation:
    """Judge a net, or the mean of the scores of several.

    Args:
        classifiers: the nets, each with its own image options, size, crops and engine; all with
            the same classes.
        images: as for ``find_source``: a folder of class folders, a list, an archive, ``digits``,
            an LMDB. An LMDB's images go in as Caffe's Data layer has them at TEST: the centre, in
            the net's size, of what is stored; resized only for scales and for a ``crop`` of the
            image options.
        root: where the paths of a list lead from; ``part`` of an archive: ``test``, ``train``.
        part: see ``root``.
        on_error: ``skip`` leaves out and counts images that cannot be read; ``refuse`` ends.
        jobs: processes; ``dask`` is the address of a scheduler, ``folder`` keeps what is done, for
            a run to go on where one was ended. See ``run_shards``.
        dask: see ``jobs``.
        folder: see ``jobs``.
        progress: is told of images done, of those done before, and of all.
        warn: is told of what was mended.

    Raises:
        ResNetProtoError: no image can be judged, a label is no class of the net, scores are no
            numbers, or nets of one ensemble differ in their classes.
    """
    nets = [classifiers] if isinstance(classifiers, Classifier) else classifiers
    check_kind("classifiers", nets, Iterable, "a Classifier, or several in a list")
    nets = list(nets)
    for net in nets:
        check_kind("a classifier", net, Classifier, "a Classifier")
    if not nets:
        raise ResNetProtoError("no net to evaluate; give one classifier or several")
    if on_error not in ON_ERROR:
        raise ResNetProtoError(f"on_error is {brief(on_error)}; it is one of {', '.join(ON_ERROR)}")
    if isinstance(images, (str, Path)):
        images = find_source(str(images), root=root, part=part, grey=all(map(is_grey, nets)))
    elif not hasattr(images, "again"):  # which a Source has
        raise ResNetProtoError(f"images is {brief(images)}; give a path, or what find_source() has")
    check_nets(nets)
    check_labels(images, nets[0].classes)
    if nets[0].classes and 0 < len(images.classes) != nets[0].classes:
        warn(
            f"{images.source} has {counted(len(images.classes), 'class', 'classes')}, the net has "
            f"{nets[0].classes:,}: a label is a place in their order, so all have to be there"
        )
    shards = split(len(images), shard_size(len(images), max(net.batch for net in nets)))
    task = Judging(nets, images, on_error == "refuse")
    smaller = "smaller --scales" if any(net.views.scales for net in nets) else "a smaller batch"

    def check(processes: int) -> None:
        first = shards[0].stop
        work, opened = map(sum, zip(*(net.needs(first) for net in nets), strict=True))
        check_processes(processes, work, opened, smaller)

    results = run_shards(
        task,
        shards,
        jobs=jobs,
        dask=dask,
        folder=folder,
        stamp=lambda shard: images.stamp(range(shard.start, shard.stop)),
        check=check,
        progress=progress,
        warn=warn,
    )
    rows = joined([rows_in(result) for result in results])
    left_out = sum(int(result["left_out"]) for result in results)
    reasons = tuple(line for result in results for line in lines_of(result["reasons"]))
    if not len(rows):
        raise ResNetProtoError(
            f"{images.source}: none of {counted(len(images), 'image')} can be used: {reasons[0]}"
        )
    n_classes = max(int(result["classes"]) for result in results)
    names = next((tuple(net.labels) for net in nets if net.labels), ())
    names = names or (images.classes if len(images.classes) == n_classes else ())
    called = tuple(net.net.name or "a net without a name" for net in nets)
    made_of = (*task.digest.splitlines(), f"contents: {images.again[2]}")
    return Evaluation(images.source, called, n_classes, names, rows, left_out, reasons, made_of)


def is_grey(classifier: Classifier) -> bool:
    """Whether a net takes one channel."""
    return classifier.views.options.channels == "GRAY"


def check_nets(nets: Sequence[Classifier]) -> None:
    """Refuse nets of different classes, as far as their numbers are known.

    Raises:
        ResNetProtoError: they differ.
    """
    if len({net.classes for net in nets} - {None}) > 1:
        raise ResNetProtoError(differing(nets))


def differing(nets: Sequence[Classifier]) -> str:
    """What to say of nets that cannot be averaged."""
    each = ", ".join(f"'{net.net.name}' {net.classes}" for net in nets)
    return (
        f"the nets differ in their number of classes: {each}; only scores of the same classes can "
        "be averaged"
    )


def check_labels(images: Source, classes: int | None) -> None:
    """Refuse labels that are no class, where they are known before the first image is read.

    Raises:
        ResNetProtoError: there are some.
    """
    labels = images.labels()
    if labels and classes and not 0 <= min(labels) <= max(labels) < classes:
        i = next(i for i, label in enumerate(labels) if not 0 <= label < classes)
        (name,) = images.names([i])
        check_label(Item(i, name, labels[i]), classes)


def check_label(item: Item, classes: int) -> None:
    """Refuse a label that is no class.

    Raises:
        ResNetProtoError: it is none.
    """
    if not 0 <= item.label < classes:
        raise ResNetProtoError(
            f"{item.name} has label {item.label}, the net's classes are 0 to {classes - 1}; labels "
            "count from 0, class folders in the order of their names"
        )


def shard_size(images: int, batch: int) -> int:
    """Images of a shard: whole batches, and no matter how many workers there are."""
    wanted = min(LARGEST, -(-images // SHARDS))
    return max(1, -(-wanted // batch)) * batch


# ---- a shard


class Judging:
    """The task of ``run_shards``. When pickled it is small: images and weights are found again.

    Args:
        nets: the nets of an ensemble.
        images: what is judged.
        refuse: whether an image that cannot be read ends it all.
    """

    def __init__(self, nets: Sequence[Classifier], images: Source, refuse: bool) -> None:
        self.nets, self.images, self.refuse = list(nets), images, refuse
        self.digests = [digest_of(net.weights) for net in nets]
        lines: list[str] = []
        for net, digest in zip(nets, self.digests, strict=True):
            lines += made_of(net, digest)
        lines += [f"images: {images.digest} ({images.source})"]
        lines += [f"images that cannot be read: {'refuse' if refuse else 'skip'}"]
        self.digest = "\n".join(lines)
        self.packed: tuple[list[dict[str, Any]], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        if self.packed is None:  # once for all workers
            nets = [packed(net, own) for net, own in zip(self.nets, self.digests, strict=True)]
            self.packed = nets, self.images.again
        return {"packed": self.packed, "refuse": self.refuse, "digest": self.digest}

    def prepare(self) -> None:
        """Open the nets and find the images, where this is another process.

        Raises:
            ResNetProtoError: they are not there, or others.
        """
        if not hasattr(self, "nets") and self.packed:
            nets, again = self.packed
            self.images = found_again(*again)
            self.nets = [unpacked(net) for net in nets]

    def run(self, shard: Shard) -> dict[str, Array]:
        """A row for each image, by name; ``left_out`` of them, and ``reasons`` as text."""
        import numpy as np

        nets = self.nets
        items: list[Item] = []
        kept: list[Item] = []
        means: list[Array] = []
        reasons: list[str] = []
        known = nets[0].classes

        def left_out(error: str) -> None:
            if self.refuse:
                raise ResNetProtoError(f"{error}; leave it out, or give --on-error skip")
            reasons.append(error)

        def readable() -> Iterator[tuple[tuple[str, ImageLike], ...]]:
            for item in self.images.items(range(shard.start, shard.stop)):
                if known and not item.error:
                    check_label(item, known)
                try:
                    if item.error:
                        raise ResNetProtoError(item.error)
                    fed = tuple((item.name, fed_to(net.views, item)) for net in nets)
                except ResNetProtoError as error:
                    left_out(str(error))
                    continue
                items.append(Item(item.place, item.name, item.label))
                yield fed

        streams = tee(readable(), len(nets))
        scores = [
            net.results(only(stream, i))
            for i, (net, stream) in enumerate(zip(nets, streams, strict=True))
        ]
        for i, found in enumerate(zip(*scores, strict=True)):
            if errors := [str(one) for one in found if isinstance(one, ResNetProtoError)]:
                left_out(errors[0])
                continue
            first, *others = found
            if any(len(other) != len(first) for other in others):
                raise ResNetProtoError(differing(nets))
            check_label(items[i], len(first))
            kept.append(items[i])
            means.append(sum(others, first) / len(found))
        n_classes = len(means[0]) if means else known or 0
        rows = rows_of(
            np.asarray([item.place for item in kept], np.int64),
            np.asarray([item.label for item in kept], np.int64),
            np.asarray(means, np.float64).reshape(len(kept), n_classes),
        )
        text = "\n".join(" ".join(line.split()) for line in reasons[:NAMED]).encode(
            "utf-8", "backslashreplace"
        )
        return {
            **{name: getattr(rows, name) for name in COLUMNS},
            "classes": np.asarray(n_classes, np.int64),
            "left_out": np.asarray(len(reasons), np.int64),
            "reasons": np.frombuffer(text, np.uint8),
        }


def only(
    stream: Iterable[tuple[tuple[str, ImageLike], ...]], i: int
) -> Iterator[tuple[str, ImageLike]]:
    """What one net is given."""
    return (images[i] for images in stream)


def rows_in(result: Mapping[str, Array]) -> Rows:
    """The rows of a shard's result."""
    return Rows(**{name: result[name] for name in COLUMNS})


def lines_of(text: Array) -> list[str]:
    """The lines of a text as an array of bytes."""
    return text.tobytes().decode("utf-8", "replace").splitlines()


# ---- nets on their way to workers


def made_of(net: Classifier, digest: str) -> list[str]:
    """All that a net's scores depend on, a line each; ``digest`` is that of its weights."""
    views, mean = net.views, net.views.options.mean
    if isinstance(mean, Path):
        with suppress(OSError):
            mean = hashlib.sha256(mean.read_bytes()).hexdigest()  # type: ignore[assignment]
    text = hashlib.sha256(to_prototxt(net.net).encode("utf-8", "surrogateescape")).hexdigest()
    return [
        f"net: {text} ({net.net.name})",
        f"weights: {digest} ({net.net.name})",
        f"image: mean {mean}, scale {views.options.scale}, crop {views.options.crop}, "
        f"{views.options.channels}",
        f"views: {views.crops} crops, scales {tuple(views.scales)}",
        f"engine: {net.engine}, batch {net.batch}",
    ]


def packed(net: Classifier, digest: str) -> dict[str, Any]:
    """A net as it is sent; ``digest`` is that of its weights."""
    image = net.views.options
    if isinstance(image.mean, Path):
        image = replace(image, mean=image.mean.absolute())
    return {
        "net": to_prototxt(net.net),
        "weights": sent(net.weights, digest),
        "digest": digest,
        "options": {
            "image": image,
            "crops": net.views.crops,
            "scales": tuple(net.views.scales),
            "engine": net.engine,
            "batch": net.batch,
            **net.files,
        },
    }


def unpacked(state: Mapping[str, Any]) -> Classifier:
    """A net as it was sent.

    Raises:
        ResNetProtoError: its file is not there, or holds other weights now.
    """
    weights = received(state["weights"], state["digest"])
    return Classifier(parse_net(state["net"], source="the net"), weights, **state["options"])


# ---- what is stored in an LMDB


def fed_to(views: Views, item: Item) -> ImageLike:
    """An image as a net is given it: one of an LMDB as Caffe's Data layer has it at TEST.

    Source: data_transformer.cpp, Transform: the centre; (pixel - mean) * scale.

    Raises:
        ResNetProtoError: what is stored does not go with the net.
    """
    import numpy as np

    if item.stored is None:
        assert item.image is not None
        return item.image
    x = item.stored
    options, shape = views.options, views.shape
    if len(x) != shape[1]:
        raise ResNetProtoError(
            f"{item.name}: {counted(len(x), 'channel')}, the net's input is {dims(shape)}"
        )
    own, (height, width) = (x.shape[1], x.shape[2]), (shape[2], shape[3])
    is_resized = bool(views.scales) or options.crop not in (None, own)
    if is_resized and x.dtype != np.uint8:
        raise ResNetProtoError(f"{item.name}: floats are not resized; leave crop and scales out")
    if is_resized or (options.crop is not None and x.dtype == np.uint8):
        return np.ascontiguousarray(x[0] if len(x) == 1 else x[::-1].transpose(1, 2, 0))
    if options.channels == "RGB":
        x = x[::-1]
    if views.crops == 1:
        if own[0] < height or own[1] < width:
            raise ResNetProtoError(
                f"{item.name}: {dims(own)}, smaller than the net's input {dims((height, width))}"
            )
        rows, columns = centre(own, (height, width))
        x = x[:, rows, columns]
    mean = mean_for(options, x.shape, own)
    return (x.astype(np.float32) - mean) * per_channel(options.scale, options, "scale")


@lru_cache(maxsize=16)
def mean_for(options: ImageOptions, shape: Shape, resized: tuple[int, int]) -> Array:
    """The mean of images of one size."""
    return read_mean(options, shape, resized)
