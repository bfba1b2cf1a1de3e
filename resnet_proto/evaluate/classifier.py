"""Net + weights + images -> scores, top-5: each image by all its views, views in full batches.

images -> views -> batches over several images -> Running -> scores of a view -> mean
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from resnet_proto.errors import (
    NetError,
    ResNetProtoError,
    UnknownLayerError,
    UnknownShapeError,
    brief,
    check_kind,
    check_whole,
    whole,
)
from resnet_proto.evaluate.views import ImageLike, Views
from resnet_proto.files import as_path
from resnet_proto.layers import Shape, count, dims
from resnet_proto.net import check_net
from resnet_proto.preprocess import ImageOptions, image_input
from resnet_proto.words import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from resnet_proto.layers.base import Array
    from resnet_proto.net import Net

    Scores = NDArray[np.float64]

BATCH = 10
"""Views of the net's own size that go through it at a time; the batch of Caffe's deploy nets."""
WAITING = 1 << 26
"""Values of views that may wait for a batch: 256 MB."""
IMAGES = 256
"""Images that may wait for one that began before them."""
BATCH_AXES = 4
"""Of an array that is many images."""
SAME_VALUES = {"Dropout", "Flatten", "Reshape", "Split"}
"""Types of layers behind which scores are still scores."""


@dataclass(frozen=True)
class Guess:
    """One class of an image."""

    index: int
    """Place among the net's scores, from 0."""
    score: float
    """Mean over the views."""
    label: str | None
    """What the class is called, where labels are known."""


@dataclass(frozen=True)
class Prediction:
    """What a net takes an image for.

    Args:
        image: what it is called: its path, or ``image 0`` by its place.
        top: the classes with the largest scores, the largest first; of equals the first class.
    """

    image: str
    top: tuple[Guess, ...]


class Classifier:
    """A net in an engine that stays open, and how it looks at images.

    A context manager; whoever forgets to close it leaves nothing behind.

    Args:
        net: a deploy net with one input of images and one output, which a Softmax makes.
        weights: arrays by ``<layer>.<blob>``.
        image: how an image becomes an input: a preset or your own.
        crops: 1 (the centre) or 10 (corners and centre, and their mirror images).
        scales: lengths of the shorter side, in pixels, at which the net looks at the whole image
            and its mirror image; it is made fully convolutional for that.
        engine: one of ``engine.ENGINES``.
        labels: the name of each class.
        batch: views of the net's own size that go through it at a time; of larger ones as many
            as have no more pixels.
        net_file, weights_file, caffe_python: as of ``engine.start``.

    Raises:
        ResNetProtoError: no classifier, weights of another net, labels of another number, options
            that do not go together, or an engine that is missing or refuses the net.
    """

    def __init__(
        self,
        net: Net,
        weights: Mapping[str, Array],
        *,
        image: ImageOptions = ImageOptions(),  # noqa: B008 - it is frozen
        crops: int = 1,
        scales: Sequence[int] = (),
        engine: str = "numpy",
        labels: Sequence[str] | None = None,
        batch: int = BATCH,
        net_file: Path | None = None,
        weights_file: Path | None = None,
        caffe_python: str | None = None,
    ) -> None:
        from resnet_proto.engine import needed_inputs, start

        batch = check_whole("batch", batch, "the number of views")
        scales = lengths(scales)
        net_file, weights_file = (
            as_path("net_file", net_file), as_path("weights_file", weights_file)
        )  # fmt: skip
        if isinstance(labels, str | os.PathLike):
            raise ResNetProtoError(
                f"labels is {os.fspath(labels)[:80]!r}; read the file: read_labels(path) of "
                "resnet_proto.evaluate.labels"
            )
        if labels is not None:
            check_kind("labels", labels, Iterable, "the name of each class, in a list")
            labels = tuple(labels)
            for label in labels:
                check_kind("a label", label, str, "text")
        check_net(net)
        self.classes = classes_of(net)
        with net.named():
            self.output = score_blob(net)
            inputs = needed_inputs(net, [self.output], None)
            self.input, shape = image_input(image, inputs)
            for name in inputs:
                if name != self.input:
                    raise NetError(
                        f"the net reads '{name}' besides '{self.input}'; a classifier has one "
                        "input, of images. `resnet-proto forward` runs any net"
                    )
        self.views = Views(shape, image, crops, scales)
        self.net, self.weights, self.engine, self.batch = net, weights, engine, batch
        self.files = {
            "net_file": net_file, "weights_file": weights_file, "caffe_python": caffe_python
        }  # fmt: skip
        self.labels = labels
        if self.labels is not None and self.classes not in (None, len(self.labels)):
            raise ResNetProtoError(
                f"{counted(len(self.labels), 'label')} for "
                f"{counted(self.classes or 0, 'class', 'classes')} of the net; give one for each "
                "class, in the net's order"
            )
        if scales and any(layer.type == "InnerProduct" for layer in net.filtered().layers):
            from resnet_proto.dense import fully_convolutional

            net, weights = fully_convolutional(net, weights)
            net_file = weights_file = None
        elif scales:
            check_larger(net, self.input, shape, self.output)
        self._running = start(
            engine,
            net,
            weights,
            outputs=[self.output],
            net_file=net_file,
            weights_file=weights_file,
            caffe_python=caffe_python,
        )

    def predict(self, images: Iterable[ImageLike], top: int = 5) -> list[Prediction]:
        """The classes of each image that have the largest scores.

        Args:
            images: of any kind that ``ImageLike`` names.
            top: how many classes, at least 1; all, if the net has no more.

        Raises:
            ResNetProtoError: ``top`` is below 1, an image cannot be read, or the engine gives up.
        """
        check_top(top)
        given = list(several(images))
        return [
            Prediction(name_of(image, i), self.best(scores, top))
            for i, (image, scores) in enumerate(zip(given, self.scores(given), strict=True))
        ]

    def best(self, scores: Scores, top: int = 5) -> tuple[Guess, ...]:
        """The classes of one image's scores that have the largest; arguments as of ``predict``.

        Raises:
            ResNetProtoError: ``top`` is below 1, or ``scores`` is not (classes,) numbers.
        """
        import numpy as np

        top, scores = check_top(top), np.asarray(scores)
        n_classes = len(self.labels) if self.labels else self.classes
        numbers = scores.dtype.kind in "fiu" and scores.ndim == 1 and not np.isnan(scores).any()
        if not numbers or len(scores) != (n_classes or len(scores)):
            raise ResNetProtoError(
                f"scores is {brief(scores)}; it is (classes,) numbers of one image, as scores() has"
            )
        return tuple(
            Guess(i, float(scores[i]), self.labels[i] if self.labels else None)
            for i in (-scores).argsort(kind="stable")[:top].tolist()
        )

    def scores(self, images: Iterable[ImageLike]) -> Iterator[Scores]:
        """The scores of each image, in order; a few images are in memory at a time.

        Returns:
            (classes,) each, float64: the mean over the views of what the net's Softmax gives.

        Raises:
            ResNetProtoError: an image that cannot be read, or the engine gives up.
        """
        named = ((name_of(image, i), image) for i, image in enumerate(several(images)))
        for found in self.results(named):
            if isinstance(found, ResNetProtoError):
                raise found
            yield found

    def results(
        self,
        images: Iterable[tuple[str, ImageLike]],
        note: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Scores | ResNetProtoError]:
        """``scores``, with the error in the place of an image that cannot be read.

        Args:
            images: pairs: what messages call an image, and the image.
            note: told when only a part of a file is looked at.

        Raises:
            ResNetProtoError: the engine gives up.
        """
        waiting: dict[Shape, list[tuple[Sum, Array]]] = {}
        begun: deque[Sum] = deque()
        for name, image in pairs(images):
            own, views = Sum(name), []
            try:
                views = list(self.views.of(image, name, note))
            except ResNetProtoError as error:
                own.error = error
            own.missing = len(views)
            begun.append(own)
            for view in views:
                group = waiting.setdefault(view.shape, [])
                group.append((own, view))
                if len(group) == self._fitting(view.shape):
                    self._run(waiting.pop(view.shape))
            yield from ready(begun)
            while len(begun) > IMAGES or values_in(waiting) > WAITING:
                oldest = next(s for s, group in waiting.items() if group[0][0] is begun[0])
                self._run(waiting.pop(oldest))
                yield from ready(begun)
        for group in waiting.values():
            self._run(group)
        yield from ready(begun)

    def _fitting(self, shape: Shape) -> int:
        """How many views of a shape go through the net at a time."""
        return max(1, self.batch * count(self.views.shape[1:]) // count(shape))

    def needs(self, images: int) -> tuple[int, int]:
        """Bytes of memory, at least: that so many images take, and that the net took to open it.

        Of scales it is one square image at the largest.
        """
        images = check_whole("images", images, "how many there are")
        shape = (min(self.batch, images * self.views.crops), *self.views.shape[1:])
        if self.views.scales:
            shape = (1, shape[1], max(self.views.scales), max(self.views.scales))
        return self._running.needs({self.input: shape}), self._running.opened

    def _run(self, group: Sequence[tuple[Sum, Array]]) -> None:
        """Add to each sum what the net says of its view."""
        import numpy as np

        x = np.stack([view for _, view in group])
        scores = self._running.run({self.input: x})[self.output]
        if count(scores.shape) != len(x) * scores.shape[1]:
            raise ResNetProtoError(
                f"output '{self.output}' is {dims(scores.shape)} for {counted(len(x), 'view')}; "
                "a classifier has one score for each class"
            )
        for (own, _), row in zip(group, scores.reshape(len(x), -1), strict=True):
            own.add(row)

    def close(self) -> None:
        """End the engine."""
        self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass
class Sum:
    """The scores of the views of one image, as far as they are known."""

    name: str
    missing: int = 0
    views: int = 0
    total: Scores | float = 0.0
    error: ResNetProtoError | None = None

    def add(self, row: Array) -> None:
        """One view more."""
        self.total = self.total + row.astype("float64")
        self.views += 1
        self.missing -= 1

    def result(self) -> Scores | ResNetProtoError:
        """The mean, or why there is none."""
        import numpy as np

        if self.error is not None:
            return self.error
        scores = np.asarray(self.total) / self.views
        if not np.isfinite(scores).all():
            return ResNetProtoError(
                f"{self.name}: the net's scores are not finite; see `resnet-proto check` with "
                "--weights, and the image options"
            )
        return scores


def ready(begun: deque[Sum]) -> Iterator[Scores | ResNetProtoError]:
    """Take what is complete from the front."""
    while begun and not begun[0].missing:
        yield begun.popleft().result()


def values_in(waiting: Mapping[Shape, Sequence[object]]) -> int:
    """Values of all views that wait."""
    return sum(count(shape) * len(group) for shape, group in waiting.items())


def several(images: Iterable[ImageLike]) -> Iterable[ImageLike]:
    """Refuse one image where many are meant: the rows of an array would be taken for images.

    Raises:
        ResNetProtoError: it is one.
    """
    one = isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Iterable)
    if one or 0 < getattr(images, "ndim", 0) < BATCH_AXES:
        raise ResNetProtoError("images is one image; give a list of them")
    return images


def pairs(images: Iterable[tuple[str, ImageLike]]) -> Iterator[tuple[str, ImageLike]]:
    """Refuse images without names.

    Raises:
        ResNetProtoError: there are some.
    """
    for pair in several(images):  # type: ignore[arg-type]
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ResNetProtoError(
                f"images has a {type(pair).__name__}; give pairs: what messages call an image, and "
                "the image"
            )
        yield pair


def lengths(scales: Sequence[int]) -> tuple[int, ...]:
    """Scales as whole numbers.

    Raises:
        ResNetProtoError: they are others, or no list.
    """
    listed = isinstance(scales, Iterable) and not isinstance(scales, str | bytes)
    found = tuple(map(whole, scales)) if listed else (None,)
    if any(scale is None or scale < 1 for scale in found):
        raise ResNetProtoError(f"scales is {brief(scales)}; it is a list of lengths in pixels")
    return found  # type: ignore[return-value]


def check_top(top: int) -> int:
    """How many classes of an image are wanted."""
    return check_whole("top", top, "how many classes")


def name_of(image: ImageLike, place: int) -> str:
    """What messages call an image."""
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"image {place}"


def score_blob(net: Net) -> str:
    """The one output of a classifier, which a Softmax makes.

    Raises:
        NetError: it is none, and what to do.
    """
    for blob, layer in net.data_tops().items():
        raise NetError(
            f"blob '{blob}' is data that layer '{layer.name}' ({layer.type}) reads, as in a net "
            "for training; `resnet-proto deploy` makes the deploy net of it"
        )
    blobs = net.outputs()
    if len(blobs) != 1:
        raise NetError(
            f"the net's outputs are {', '.join(blobs) or 'none'}; a classifier has one, with a "
            "score for each class. `resnet-proto forward` runs any net"
        )
    blob = made = blobs[0]
    for layer in reversed(net.upgraded().filtered().layers):
        if made not in layer.tops:
            continue
        if layer.type == "Softmax":
            return blob
        if layer.type not in SAME_VALUES or not layer.bottoms:
            raise NetError(
                f"the net ends in '{layer.name}' ({layer.type}), and a classifier ends in a "
                f"Softmax; if '{blob}' has a score for each class, add after it: layer {{ name: "
                f'"prob" type: "Softmax" bottom: "{blob}" top: "prob" }}'
            )
        made = layer.bottoms[0]
    raise NetError(f"no layer makes '{blob}'")


def classes_of(net: Net) -> int | None:
    """How many classes a classifier has, if that is known before it runs.

    Raises:
        NetError: it is none, with the name of its file.
    """
    with net.named():
        return number_of_classes(net, score_blob(net))


def check_larger(net: Net, blob: str, shape: Shape, output: str) -> None:
    """Try a net without InnerProduct on images of twice its size.

    Raises:
        NetError: it does not take them, or has a score for each place of them.
    """
    larger = {blob: (*shape[:2], 2 * shape[2], 2 * shape[3])}
    with net.named():
        try:
            number_of_classes(net.with_input_shapes(larger), output)
        except ResNetProtoError as error:
            raise NetError(f"at images of twice its size, as for scales: {error}") from None


def number_of_classes(net: Net, blob: str) -> int | None:
    """How many scores an image has; None behind layers whose shapes are not known.

    Raises:
        NetError: there is not one for each class, but one for each place.
    """
    shapes: dict[str, Shape] = {}
    with suppress(UnknownLayerError, UnknownShapeError):
        for step in net.walk(wanted=[blob]):
            shapes.update(zip(step.layer.tops, step.tops, strict=True))
        shape = shapes[blob]
        if len(shape) < 2 or count(shape[1:]) != shape[1]:
            raise NetError(
                f"the net's output '{blob}' is {dims(shape)}; a classifier has (N, classes), one "
                "score for each class"
            )
        return shape[1]
    return None
