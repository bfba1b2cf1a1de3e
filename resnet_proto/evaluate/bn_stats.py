"""Net + weights + training images -> weights with strict averages as BatchNorm's statistics.

    images -> batches, fixed beforehand -> shards -> sums over batches -> averages -> Weights

Each batch is normalised by its own statistics all the way, as in Caffe's TRAIN forward pass
(batch_norm_layer.cpp). What is stored is the average of the batches' means, and that of their
variances times m / (m - 1), where m is how many values of a batch a channel has. Source: Ioffe and
Szegedy, 2015, section 3.1 and algorithm 2; the README of the released ResNets.

All other layers do what they do at TEST: Dropout is a copy.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_proto.data.write import Progress
from resnet_proto.errors import (
    NetError,
    ResNetProtoError,
    ShapeError,
    brief,
    check_kind,
    check_whole,
)
from resnet_proto.evaluate.evaluation import fed_to
from resnet_proto.evaluate.sent import Sent, digest_of, received, sent
from resnet_proto.evaluate.shards import check_processes, run_shards, split
from resnet_proto.evaluate.source import Again, Database, Item, Source, find_source, found_again
from resnet_proto.evaluate.subject import first_of, mean_of
from resnet_proto.evaluate.task import Result, Shard
from resnet_proto.evaluate.views import Views
from resnet_proto.files import as_path
from resnet_proto.layers import BN, BatchNorm, Layer, Shape, count, dims
from resnet_proto.net import Net, check_net
from resnet_proto.preprocess import ImageOptions, image_input, read_mean_file
from resnet_proto.words import counted

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from resnet_proto.engine.planned import Normalise, Program
    from resnet_proto.layers.base import Array
    from resnet_proto.net import Step
    from resnet_proto.weights import Weights

BATCH, BATCHES = 32, 100
"""Images of a batch where no data layer says it, and batches where nobody says it."""
SHARDS = 256
"""At most; so many sums of all statistics are in memory at the end."""


# ---- the net


def is_measured(layer: Layer) -> bool:
    """Whether a layer stores statistics: a BatchNorm, or a BN but SegNet's, which has none."""
    return isinstance(layer, BatchNorm) or (isinstance(layer, BN) and layer.fork != "SegNet")


def by_the_batch(layer: Layer) -> Layer:
    """The same layer as in training; a BatchNorm takes the batch's statistics, whatever it says."""
    fields = {key: value for key, value in layer.fields.items() if key != "phase"}
    if isinstance(layer, BatchNorm):
        fields[layer.message] = {**layer.param, "use_global_stats": False}
    elif isinstance(layer, BN) and is_measured(layer):
        eps = layer.as_batch_norm().eps
        fields[layer.message] = {"moving_average": False, "var_eps": eps}  # of PSPNet's first
    return replace(layer, fields=fields)


def training_net(net: Net) -> Net:
    """The layers of phase TRAIN, whose BatchNorms take the batch's statistics.

    Returns:
        A net in state TEST without rules: what else is random in training is not.

    Raises:
        NetError: it has no BatchNorm.
    """
    check_net(net)
    net = net.upgraded().at(phase="TRAIN").settled().at(phase="TEST")
    if not any(map(is_measured, net.layers)):
        folded = any(layer.type == "Scale" for layer in net.layers)
        raise NetError(
            f"{net.source or 'the net'}: has no BatchNorm with statistics"
            + ("" if folded else "; they may be folded into other layers: give the net before that")
        )
    return replace(net, layers=tuple(map(by_the_batch, net.layers)))


class Measured(NamedTuple):
    """A BatchNorm whose statistics are averaged."""

    step: Step
    n_values: int
    """Of a channel in a batch: images times rows times columns, m."""


@dataclass
class Measure:
    """A net that runs batch by batch, and the BatchNorms in it.

    Args:
        program: the net as far as its last BatchNorm.
        measured: each BatchNorm, and ``tasks`` what computes it.
        blob: where the images go.
        dtype: what layers compute in.
    """

    program: Program
    measured: list[Measured]
    tasks: list[Normalise]
    blob: str
    dtype: DTypeLike

    @classmethod
    def of(
        cls, net: Net, weights: Mapping[str, Array], blob: str, shape: Shape, dtype: DTypeLike
    ) -> Measure:
        """Make a net ready for batches of this shape.

        Args:
            net: of ``training_net``.
            weights: of the net; BatchNorm's statistics are not looked at.
            blob: where the images go: an input, or a data layer's first top.
            shape: (N, C, H, W) of a batch.
            dtype: what layers compute in; statistics are float64.

        Raises:
            NetError: a BatchNorm needs something else than images, or has a shape that is known
                only when the net runs.
            ShapeError: a channel has one value in a batch, which has no variance.
            WeightsError: the weights do not fit the net.
        """
        from resnet_proto.engine.plain import Schedule, float_type
        from resnet_proto.engine.planned import Normalise, Program, Store
        from resnet_proto.fit import named

        wanted = [top for layer in net.layers if is_measured(layer) for top in layer.tops]
        data = blob in net.data_tops()
        net = net if data else net.with_input_shapes({blob: shape})
        schedule = Schedule.of(net, wanted, None, {blob: shape} if data else None)
        if others := [name for name in schedule.inputs if name != blob]:
            raise NetError(
                f"{net.source or 'the net'}: a BatchNorm needs '{others[0]}'; only images are fed "
                f"here, to '{blob}'"
            )
        with net.named():
            store = Store(named(weights, net), float_type(dtype))
            program = Program(replace(schedule, wanted=()), store)
        measured, tasks = [], []
        for task in program.tasks:
            if is_measured(task.step.layer):
                label, bottom = task.step.label, task.step.bottoms[0]
                if not isinstance(task.compute, Normalise):
                    raise NetError(
                        f"layer '{label}' ({task.step.layer.type}): the shape of its bottom is "
                        "known only when the net runs; its statistics cannot be averaged"
                    )
                m = count(bottom) // bottom[1]
                if m < 2:
                    raise ShapeError(
                        f"layer '{label}' ({task.step.layer.type}): its bottom is {dims(bottom)}: "
                        "one value of each channel in a batch has no variance; give a larger batch"
                    )
                measured.append(Measured(task.step, m))
                tasks.append(task.compute)
        if not measured:
            raise NetError("no BatchNorm takes a batch's statistics; give what training_net makes")
        return cls(program, measured, tasks, blob, store.dtype)

    def run(self, images: Array, number: int) -> list[Array]:
        """Means of all channels of a batch, and their biased variances: each (channels,), float64.

        Raises:
            ResNetProtoError: one is not finite.
        """
        import numpy as np

        self.program.run({self.blob: images.astype(self.dtype, copy=False)})
        for one, task in zip(self.measured, self.tasks, strict=True):
            assert task.mean is not None
            assert task.variance is not None
            if not (np.isfinite(task.mean).all() and np.isfinite(task.variance).all()):
                raise ResNetProtoError(
                    f"layer '{one.step.label}': statistics of batch {number} are not finite; are "
                    "the weights, or the images?"
                )
        return [
            np.concatenate([task.mean for task in self.tasks]),
            np.concatenate([task.variance for task in self.tasks]),
        ]


# ---- the images


def native(item: Item, grey: bool) -> NDArray[Any]:
    """(C, H, W) of an image as Caffe has it: BGR, uint8; or float32 of an LMDB that holds such."""
    import numpy as np

    if item.stored is not None:
        return item.stored
    if not isinstance(item.image, np.ndarray):
        from resnet_proto.preprocess import pixels

        return pixels(item.image, "GRAY" if grey else "BGR")  # type: ignore[arg-type]
    if item.image.ndim == 2:
        return item.image[None] if grey else np.repeat(item.image[None], 3, axis=0)
    return item.image[:, :, ::-1].transpose(2, 0, 1)


@dataclass(frozen=True)
class Transform:
    """What a data layer makes of an image at TRAIN: data_transformer.cpp, Transform.

    Args:
        crop: rows and columns of a crop at a random place; 0 for the whole image.
        mirror: whether a coin decides if left and right are exchanged.
        mean: (C, 1, 1), or a map of the whole image, of which a crop has its own part.
        scale: after the mean.
        grey: whether an image file is read as one channel.
        size: rows and columns that an image file is warped to, if any.
    """

    crop: int
    mirror: bool
    mean: Array
    scale: float
    grey: bool = False
    size: tuple[int, int] | None = None

    @property
    def spelled(self) -> str:
        """All that it depends on."""
        values = hashlib.sha256(self.mean.tobytes()).hexdigest()[:16]
        fields = (self.crop, self.mirror, self.scale, self.grey, self.size)
        return f"data layer {fields} mean {values}"

    def __call__(self, item: Item, seed: int) -> Array:
        """The image; ``seed`` and its place among the images decide what is random."""
        import numpy as np

        x = native(item if self.size is None else warped(item, self.size), self.grey)
        rng = np.random.default_rng((seed, item.place))
        _, height, width = x.shape
        if len(self.mean) not in (1, len(x)):
            raise ResNetProtoError(
                f"{item.name}: an image of {len(x)} channels, the data layer's mean has "
                f"{len(self.mean)}"
            )
        mean = self.mean
        if mean.shape[1:] not in ((1, 1), (height, width)):
            raise ResNetProtoError(
                f"{item.name}: an image of {dims((height, width))}, the mean file is "
                f"{dims(mean.shape[1:])}; Caffe needs both alike"
            )
        if self.crop:
            if self.crop > min(height, width):
                raise ResNetProtoError(
                    f"{item.name}: an image of {dims((height, width))}, crop_size is {self.crop}"
                )
            top, left = (int(rng.integers(side - self.crop + 1)) for side in (height, width))
            place = (slice(None), slice(top, top + self.crop), slice(left, left + self.crop))
            x, mean = x[place], mean if mean.shape[1:] == (1, 1) else mean[place]
        y = (x.astype(np.float32) - mean) * np.float32(self.scale)
        return y[:, :, ::-1] if self.mirror and rng.integers(2) else y


def warped(item: Item, size: tuple[int, int]) -> Item:
    """An image file at another size; Pillow's bilinear, as everywhere here."""
    from PIL import Image

    if not isinstance(item.image, Image.Image):
        return item
    rows, columns = size
    return replace(item, image=item.image.resize((columns, rows), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Crop:
    """What image options make of an image: the centre crop."""

    views: Views

    @property
    def spelled(self) -> str:
        """All that it depends on."""
        views = self.views
        mean = hashlib.sha256(views.mean.tobytes()).hexdigest()[:16]
        return f"{replace(views.options, mean=(0.0,))} {dims(views.size)} mean {mean}"

    def __call__(self, item: Item, seed: int) -> Array:
        """The image, cropped; nothing is random."""
        (view,) = self.views.of(fed_to(self.views, item), item.name)
        return view


@dataclass(frozen=True)
class Feed:
    """Where a net's images come from, and where they go to.

    Args:
        blob: an input, or a data layer's first top.
        source: the images.
        reader: what becomes of each.
        batch: images of a batch.
    """

    blob: str
    source: Source
    reader: Transform | Crop
    batch: int

    def array(self, places: Sequence[int], seed: int, shape: Shape | None = None) -> Array:
        """(N, C, H, W), float32, of the images at these places, which ascend.

        Raises:
            ResNetProtoError: one cannot be read, or is no (C, H, W) of ``shape``.
        """
        import numpy as np

        images: list[Array] = []
        for item in self.source.items(places):
            if item.error:
                raise ResNetProtoError(f"{item.error}; take it out: a batch needs all its images")
            images.append(self.reader(item, seed))
            shape = shape or images[0].shape
            if images[-1].shape != shape:
                raise ResNetProtoError(
                    f"{item.name} is {dims(images[-1].shape)}, the first image is {dims(shape)}; a "
                    "batch needs one size"
                )
        return np.stack(images)


def feed_of(
    net: Net, data: str | None = None, batch: int | None = None,
    image: ImageOptions | None = None, folder: Path | None = None,
) -> Feed:  # fmt: skip
    """The images of a net: those of its data layer of phase TRAIN, or ``data``.

    Args:
        net: of ``training_net``.
        data: images, as ``find_source`` takes them; the data layer's source if None. What the layer
            does with them is done with these.
        batch: the data layer's if None, else 32.
        image: what becomes of an image where there is no data layer.
        folder: of the net's file; paths lead from the current directory, then from there.

    Raises:
        NetError: the net has several data layers, or one that reads no images.
        ResNetProtoError: there are no images, or they do not fit.
    """
    check_net(net)
    if batch is not None:
        batch = check_whole("batch", batch, "how many images a batch has")
    if image is not None:
        check_kind("image", image, ImageOptions, "ImageOptions")
    folder = as_path("folder", folder)
    layers = {layer.name: layer for layer in net.data_tops().values()}
    if not layers:
        if data is None:
            raise NetError(
                f"{net.source or 'the net'}: no data layer says where images are; give --data"
            )
        options = image or ImageOptions()
        with net.named():
            blob, shape = image_input(options, net.inputs())
        source: Source = images_at(data, grey=options.channels == "GRAY")
        return Feed(blob, source, Crop(Views(shape, options)), batch or BATCH)
    if len(layers) > 1 or (layer := next(iter(layers.values()))).type not in ("Data", "ImageData"):
        names = ", ".join(f"'{layer.name}' ({layer.type})" for layer in layers.values())
        raise NetError(
            f"{net.source or 'the net'}: data come from {names}; one Data or ImageData layer is "
            "read here: give the deploy net, and --data"
        )
    if image is not None:
        raise ResNetProtoError(
            f"the data layer '{layer.name}' says what becomes of an image; leave image options out"
        )
    param: Any = layer
    if data is None and not param.source:
        raise NetError(f"layer '{layer.name}' ({layer.type}) has no source; give --data")
    batch = param.batch_size if batch is None else batch
    if not batch:
        raise NetError(f"layer '{layer.name}' ({layer.type}): batch_size is 0; give --batch")
    says = param.transform
    forced = bool(says.get("force_gray") or says.get("force_color"))
    grey, size, root = bool(says.get("force_gray")), None, None
    if layer.type == "ImageData":
        grey = not param.is_color
        size = (param.new_height, param.new_width) if param.new_height else None
        root = Path(param.root_folder) if param.root_folder else None
    if data is None and layer.type == "Data":
        path = Path(found(param.source, folder))
        _, stored = first_of(path)
        grey = grey if forced else stored is not None and stored[0] == 1
        source = Database(path, grey, forced)
    else:
        source = images_at(data or found(param.source, folder), grey=grey, forced=forced, root=root)
    reader = Transform(
        says.get("crop_size", 0), bool(says.get("mirror")), layer_mean(says, folder),
        says.get("scale", 1.0), grey, size,
    )  # fmt: skip
    return Feed(layer.tops[0], source, reader, batch)


def images_at(data: str, *, grey: bool, forced: bool = False, root: Path | None = None) -> Source:
    """``find_source``; of an archive with two parts, the one to train with."""
    from resnet_proto.data.cifar import kind_of
    from resnet_proto.data.sources import DIGITS

    check_kind("data", data, (str, os.PathLike), "a path")
    data = os.fspath(data)
    path = Path(data)
    archive = data != DIGITS and path.exists() and kind_of(path)
    return find_source(
        data, root=root if path.is_file() and not archive else None,
        part="train" if archive else "", grey=grey, forced=forced,
    )  # fmt: skip


def found(path: str, folder: Path | None) -> str:
    """A path of a net: from the current directory, as Caffe has it, or else from the net's."""
    other = None if folder is None else folder / path
    return str(other) if other and other.exists() and not Path(path).exists() else path


def layer_mean(says: Mapping[str, Any], folder: Path | None) -> Array:
    """The mean of a ``transform_param``: (C, 1, 1), or a map, (C, H, W)."""
    import numpy as np

    mean = mean_of(says, [Path(), *([folder] if folder else [])])
    if not isinstance(mean, Path):
        return np.asarray(mean, np.float32).reshape(-1, 1, 1)
    array = read_mean_file(mean)
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    if array.ndim != 3:
        raise ResNetProtoError(f"{mean}: the mean is {dims(array.shape)}, expected (C, H, W)")
    return array


# ---- the averages


@dataclass
class Batches:
    """The task of ``run_shards``: sums of the statistics of some batches.

    Args:
        net: of ``training_net``.
        weights: arrays by ``<layer>.<blob>``.
        feed: the images.
        n_batches: how many there are in all.
        seed: of whatever is random.
        in_order: batches are in the order of the images, and not of the seed's.
        dtype: what layers compute in.

    When pickled it is small: weights and images are found again by ``prepare``.
    """

    net: Net
    weights: Mapping[str, Array]
    feed: Feed
    n_batches: int
    seed: int = 0
    in_order: bool = False
    dtype: str = "float32"
    digest: str = field(default="", init=False)
    _weights_digest: str = field(default="", init=False)
    _sent: tuple[Sent, Again] | None = field(default=None, init=False, repr=False)
    _measure: Measure | None = field(default=None, init=False, repr=False)
    _order: NDArray[Any] | None = field(default=None, init=False, repr=False)
    _shape: Shape = field(default=(), init=False)

    def __post_init__(self) -> None:
        from resnet_proto.prototxt import to_prototxt

        feed = self.feed
        self._weights_digest = digest_of(self.weights)
        lines = {
            "net": hashlib.sha256(to_prototxt(self.net).encode()).hexdigest(),
            "weights": self._weights_digest,
            "images": f"{feed.source.digest} ({feed.source.source})",
            "of an image": feed.reader.spelled,
            "batches": f"{self.n_batches} of {feed.batch}",
            "order": "the images'" if self.in_order else "random",
            "seed": self.seed,
            "computed in": self.dtype,
        }
        self.digest = "\n".join(f"{name}: {value}" for name, value in lines.items())

    def __getstate__(self) -> dict[str, Any]:
        if self._sent is None:  # once for all workers
            self._sent = sent(self.weights, self._weights_digest), self.feed.source.again
        own = {**vars(self), "_measure": None, "_order": None}
        del own["weights"]
        return {**own, "feed": replace(self.feed, source=None)}  # type: ignore[arg-type]

    def prepare(self) -> None:
        """Find weights and images, where this is another process, and plan the net for them.

        Raises:
            ResNetProtoError: they are not there, or others.
        """
        import numpy as np

        if not hasattr(self, "weights") and self._sent:
            weights, again = self._sent
            self.weights = received(weights, self._weights_digest)
            self.feed = replace(self.feed, source=found_again(*again))
        n = len(self.feed.source)
        if self.in_order:
            self._order = np.arange(n)
        else:
            self._order = np.random.default_rng(self.seed).permutation(n)
        self._shape = self.feed.array([0], self.seed).shape[1:]
        shape = (self.feed.batch, *self._shape)
        self._measure = Measure.of(self.net, self.weights, self.feed.blob, shape, self.dtype)

    @property
    def measure(self) -> Measure:
        """The net, planned."""
        if self._measure is None:
            self.prepare()
        assert self._measure is not None
        return self._measure

    def places(self, i: int) -> list[int]:
        """Where the images of a batch are in their source, ascending."""
        assert self._order is not None
        return sorted(self._order[i * self.feed.batch : (i + 1) * self.feed.batch].tolist())

    def stamp(self, shard: Shard) -> str:
        """Of the images of the shard's batches."""
        places = (self.places(i) for i in range(shard.start, shard.stop))
        return "\n".join(map(self.feed.source.stamp, places))

    def run(self, shard: Shard) -> Result:
        """Sums over the shard's batches, exact but for one rounding: ``mean`` and ``variance``."""
        measure, rows = self.measure, []
        for i in range(shard.start, shard.stop):
            images = self.feed.array(self.places(i), self.seed, self._shape)
            rows.append(measure.run(images, i))
        means, variances = zip(*rows, strict=True)
        return {"mean": exact_sum(means), "variance": exact_sum(variances)}


def exact_sum(rows: Sequence[Array]) -> Array:
    """The sum of arrays of one shape, rounded once: their order changes nothing."""
    import numpy as np

    if len(rows) == 1:
        return rows[0]
    return np.array([math.fsum(column) for column in np.stack(rows, axis=1).tolist()])


@dataclass(frozen=True)
class Averages:
    """What was averaged.

    Args:
        statistics: label of a BatchNorm -> its mean and its variance, each (C,), float64.
        n_batches: how many, of ``batch`` images each.
        left_out: images that are in no batch.
        measured: each BatchNorm of the net.
    """

    statistics: Mapping[str, tuple[Array, Array]]
    n_batches: int
    batch: int
    left_out: int
    measured: Sequence[Measured]

    def written(self, weights: Weights) -> Weights:
        """The weights with these statistics, a scale_factor of 1, and all else as it is.

        A BatchNorm that shares a statistic with others gets the average of theirs. Float64 stays
        float64; any other type becomes float32.
        """
        import numpy as np

        from resnet_proto.weights import Held, Weights

        check_kind("weights", weights, Weights, "what load() has read")
        found: dict[str, list[Array]] = {}
        copies: dict[str, str] = {}
        for step, _ in self.measured:
            mean, variance = self.statistics[step.label]
            values = {"mean": mean, "variance": variance, "scale_factor": np.ones(1)}
            for name in step.layer.statistics:
                keys = step.shared.get(name, (f"{step.label}.{name}",))
                copies.update(dict.fromkeys(keys, keys[0]))
                found.setdefault(keys[0], []).append(values[name])
        averages = {key: exact_sum(rows) / len(rows) for key, rows in found.items()}
        layers = []
        for layer in weights.layers:
            blobs = list(layer.blobs)
            for i, blob in enumerate(blobs):
                if blob.key in copies:
                    dtype = "float64" if blob.dtype == "float64" else "float32"
                    with np.errstate(over="ignore"):
                        array = averages[copies[blob.key]].astype(dtype).reshape(blob.shape)
                    if not np.isfinite(array).all():
                        raise ResNetProtoError(
                            f"'{blob.key}' would not be finite in {dtype}; are mean and scale of "
                            "the images those of the net?"
                        )
                    blobs[i] = blob._replace(
                        dtype=dtype, nbytes=array.nbytes, data=Held(array), stored=""
                    )
            layers.append(layer._replace(blobs=tuple(blobs)))
        return Weights(layers, weights.source, weights.net_text)

    def changes(self, weights: Mapping[str, Array]) -> dict[str, Change]:
        """How far each BatchNorm is from what the weights have."""
        import numpy as np

        from resnet_proto.fold import batch_norm_blobs
        from resnet_proto.layers.batch_norm import statistics

        rows = {}
        for step, _ in self.measured:
            blobs, eps = batch_norm_blobs(step, weights, np.float64)
            old_mean, old_variance = statistics(blobs)
            mean, variance = self.statistics[step.label]
            with np.errstate(all="ignore"):
                shift = np.abs(mean - old_mean) / np.sqrt(variance + eps)
                ratio = (variance + eps) / (old_variance + eps)
            rows[step.label] = Change(float(shift.max()), float(ratio.min()), float(ratio.max()))
        return rows


class Change(NamedTuple):
    """How a BatchNorm's statistics changed, over its channels."""

    mean: float
    """The largest move of a mean, in standard deviations."""
    variance_min: float
    """The smallest new variance + eps over the old one. ``variance_max`` the largest."""
    variance_max: float


def average(
    net: Net,
    weights: Mapping[str, Array],
    feed: Feed,
    *,
    batches: int | None = None,
    seed: int = 0,
    in_order: bool = False,
    dtype: str = "float32",
    jobs: int = 1,
    dask: str | None = None,
    folder: Path | None = None,
    progress: Progress = lambda done, before, all_: None,
    warn: Callable[[str], object] = lambda text: None,
) -> Averages:
    """Strict averages of all BatchNorms of a net over batches of images.

    Args:
        net: of ``training_net``.
        weights: of the net, by ``<layer>.<blob>``; BatchNorm's statistics are not looked at.
        feed: of ``feed_of``. A last batch that is not full is left out.
        batches: how many; 100, or as many as there are, if None.
        seed: chooses the images and their order, and what a data layer does at random.
        in_order: take images in their own order, as Caffe's Data layer does.
        dtype: float32 or float64, what layers compute in; statistics are float64 always.
        jobs: processes.
        dask: address of a scheduler; this and what follows is as in ``run_shards``, whose items are
            batches. It changes no bit of the result.
        folder: keeps what was done.
        progress: is told of images.
        warn: is told of what was mended.

    Raises:
        ResNetProtoError: fewer images than a batch, or than ``batches`` of them; and whatever
            ``Measure.of`` and ``run_shards`` raise.
    """
    check_net(net)
    check_kind("weights", weights, Mapping, "a mapping of names to arrays")
    check_kind("feed", feed, Feed, "that of feed_of()")
    if batches is not None:
        check_whole("batches", batches, "how many batches")
    check_whole("seed", seed, "a number that decides what is random", 0)
    if dtype not in ("float32", "float64"):
        raise ResNetProtoError(f"dtype is {brief(dtype)}; it is one of float32, float64")
    n = len(feed.source)
    most = n // feed.batch
    if not most:
        raise ResNetProtoError(
            f"{feed.source.source}: {counted(n, 'image')}, a batch has {feed.batch}; give more "
            "images, or a smaller batch (--batch)"
        )
    if batches is not None and batches > most:
        raise ResNetProtoError(
            f"{feed.source.source}: {counted(n, 'image')} are {most} batches of {feed.batch}, "
            f"{batches} are wanted; give --batches {most}, or a smaller batch (--batch)"
        )
    wanted = min(most, BATCHES) if batches is None else batches
    task = Batches(net, weights, feed, wanted, seed, in_order, dtype)
    task.prepare()  # what does not fit is said before workers start
    measured = task.measure.measured
    shards = split(wanted, -(-wanted // SHARDS))  # of the number of batches alone

    def images(*batches: int) -> object:
        return progress(*(number * feed.batch for number in batches))

    def check(processes: int) -> None:
        program = task.measure.program
        work = 4 * feed.batch * count(task._shape) + program.room
        check_processes(processes, work, program.store.copied, "a smaller batch (--batch)")

    results = run_shards(
        task, shards, jobs=jobs, dask=dask, folder=folder, stamp=task.stamp, check=check,
        progress=images, warn=warn,
    )  # fmt: skip
    mean, variance = (exact_sum([row[k] for row in results]) / wanted for k in ("mean", "variance"))
    statistics, start = {}, 0
    for step, m in measured:
        stop = start + step.bottoms[0][1]
        statistics[step.label] = (mean[start:stop], variance[start:stop] * (m / (m - 1)))
        start = stop
    return Averages(statistics, wanted, feed.batch, n - wanted * feed.batch, measured)
