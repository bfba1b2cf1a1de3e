"""How a net is trained, as data: where the images are, how many at a time, and the schedule.

Lengths of time are epochs, so that they hold for any batch and any number of images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from resnet_proto.errors import ResNetProtoError
from resnet_proto.settings import check, setting

SOURCES = ("lmdb", "leveldb", "image-list", "hdf5", "memory", "dummy", "roi-data")
POLICIES = ("multistep", "step", "poly", "fixed")
READ = ("lmdb", "leveldb", "image-list", "hdf5")
"""Of those, the ones that are files or folders which the data layers read."""
MAX_COUNT = 2**31 - 1  # Caffe counts images and iterations in int


@dataclass(frozen=True)
class Training:
    """Data, batch, schedule and rates: train_val.prototxt, solver.prototxt and train.sh."""

    recipe: str = setting("imagenet", "whose numbers these are; empty for your own")
    data: str = setting("lmdb", "what the images are in", one_of=SOURCES)
    train_source: str = setting(
        "train_lmdb", "database, list of images, list of HDF5 files, or py-faster-rcnn's imdb"
    )
    test_source: str = setting("val_lmdb", "likewise for testing")
    root_folder: str = setting("", "before each path of an image list")
    resize: int = setting(256, "an image list's images are warped to it", least=0, most=1 << 16)
    train_images: int = setting(1_281_167, "images to train on", least=1, most=MAX_COUNT)
    test_images: int = setting(50_000, "images to test on", least=1, most=MAX_COUNT)
    mean: tuple[float, ...] = setting(
        (104.0, 117.0, 123.0), "grey levels to subtract: blue, green, red, or one"
    )
    mean_file: str = setting("", "a .binaryproto of the size of the stored images, before mean")
    scale: float = setting(1.0, "factor after the mean")
    mirror: bool = setting(True, "mirror every second image in training")
    batch: int = setting(32, "images of one GPU at a time", least=1, most=MAX_COUNT)
    gpus: int = setting(
        8,
        "how many train, or processes of a node (mpirun); each takes a batch",
        least=1,
        most=1 << 16,
    )
    nodes: int = setting(1, "machines (mpirun)", least=1, most=1 << 16)
    iter_size: int = setting(1, "batches that make one iteration", least=1, most=MAX_COUNT)
    test_batch: int = setting(
        50, "images of one test pass, or the next smaller divisor", least=1, most=MAX_COUNT
    )
    epochs: float = setting(90.0, "length of the training", least=0, most=1e6)
    base_lr: float = setting(0.1, "learning rate at the beginning", least=0, most=1e6)
    policy: str = setting("multistep", "how the learning rate falls", one_of=POLICIES)
    drops: tuple[float, ...] = setting(
        (30.0, 60.0),
        "epochs at which it is multiplied by gamma (multistep, step: the first)",
        least=0,
        most=1e6,
    )
    gamma: float = setting(0.1, "factor of multistep and step", least=0, most=1)
    power: float = setting(1.0, "exponent of poly", least=0, most=100)
    warm_up_lr: float = setting(0.0, "learning rate of the warm-up", least=0, most=1e6)
    warm_up_iterations: int = setting(0, "length of the warm-up", least=0, most=MAX_COUNT)
    momentum: float = setting(0.9, "of the gradient", least=0, most=0.9999)
    nesterov: bool = setting(False, "Nesterov's momentum")
    weight_decay: float = setting(1e-4, "times the weight, added to its gradient", least=0, most=1)
    decay: str = setting(
        "all", "what decays: all as in the paper, or no gamma, beta and bias",
        one_of=("all", "weights"),
    )  # fmt: skip
    filler: str = setting("msra", "what weights begin as", one_of=("msra", "xavier", "gaussian"))
    test_epochs: float = setting(1.0, "epochs from test to test", least=1e-6, most=1e6)
    snapshot_epochs: float = setting(1.0, "epochs from snapshot to snapshot", least=0, most=1e6)
    display: int = setting(
        -1, "iterations from line to line of the log; 0 is none, -1 is 20 or a quarter of all",
        least=-1, most=MAX_COUNT,
    )  # fmt: skip
    solver_mode: str = setting("GPU", "what computes", one_of=("GPU", "CPU"))
    launcher: str = setting(
        "caffe", "what train.sh starts; mpirun for Intel's multi-node Caffe",
        one_of=("caffe", "mpirun", "py-faster-rcnn"),
    )  # fmt: skip
    config: str = setting("", "py-faster-rcnn's settings: a file in its experiments/cfgs")
    weights: str = setting("", "a caffemodel to begin with")
    finetune: bool = setting(
        False, "the classifier learns faster; --finetune and --classes give it another name"
    )
    classifier_rate: float = setting(10.0, "its rate then, times base_lr", least=0, most=1e6)
    freeze: str = setting("", "a blob, res3d: what is computed up to it is not trained")
    freeze_batch_norm: bool = setting(False, "BatchNorm keeps its statistics in training")
    freeze_scale: bool = setting(False, "and Scale, or NVIDIA's BatchNorm, its gamma and beta")

    MEANT: ClassVar[Mapping[str, str]] = {
        "backend": "data",
        "batch_size": "batch",
        "lr": "base_lr",
        "lr_policy": "policy",
        "max_iter": "epochs",
        "mean_value": "mean",
        "snapshot": "snapshot_epochs",
        "source": "train_source",
        "stepsize": "drops",
        "stepvalue": "drops",
        "test_interval": "test_epochs",
        "test_iter": "test_images",
        "type": "nesterov",
    }
    """What Caffe calls some of them, or what stands there in their place."""

    def __post_init__(self) -> None:
        check(self)
        for source in ("train_source", "test_source"):
            if self.data in READ and not getattr(self, source):
                raise ResNetProtoError(f"{source} is empty; data {self.data} is read from a file")
        if self.root_folder and not self.root_folder.endswith("/"):
            raise ResNetProtoError(
                f"root_folder is {self.root_folder}; it goes before each path as it is: "
                "end it with /"
            )
        if not all(map(math.isfinite, self.mean)):
            raise ResNetProtoError(f"mean is {listed(self.mean)}; expected grey levels")
        if not math.isfinite(self.scale) or self.scale == 0:
            raise ResNetProtoError(f"scale is {self.scale:g}; expected a number but 0, as 1")
        if len(self.mean) > 4:
            raise ResNetProtoError(f"mean has {len(self.mean)} values; give one for each channel")
        if not self.base_lr:
            raise ResNetProtoError("base_lr is 0, so nothing is learned; give 0.1, as in the paper")
        if bool(self.warm_up_lr) != bool(self.warm_up_iterations):
            raise ResNetProtoError(
                f"warm_up_lr is {self.warm_up_lr:g}, warm_up_iterations {self.warm_up_iterations}; "
                "give both, or none"
            )
        if (self.data == "roi-data") != (self.launcher == "py-faster-rcnn"):
            raise ResNetProtoError(
                f"data is {self.data}, launcher {self.launcher}; roi-data comes from "
                "py-faster-rcnn's own program, so launcher py-faster-rcnn goes with it, and only so"
            )
        if self.nodes > 1 and self.launcher != "mpirun":
            raise ResNetProtoError(
                f"nodes is {self.nodes}, launcher {self.launcher}, which trains on one machine; "
                "several go with launcher mpirun"
            )
        if self.launcher == "mpirun" and self.solver_mode != "CPU":
            raise ResNetProtoError(
                "launcher mpirun starts Intel's Caffe, which computes on CPUs; solver_mode CPU "
                f"goes with it, not {self.solver_mode}"
            )
        if self.launcher == "caffe" and self.solver_mode == "CPU" and self.gpus > 1:
            raise ResNetProtoError(
                f"gpus is {self.gpus}, solver_mode CPU, where one process takes one batch; "
                "gpus 1 goes with it, and iter_size makes a batch of several"
            )
        if self.policy in ("multistep", "step") and not self.drops:
            raise ResNetProtoError(f"policy {self.policy} needs drops; give the epochs")
        if list(self.drops) != sorted(set(self.drops)) or min(self.drops, default=1) <= 0:
            raise ResNetProtoError(f"drops are {listed(self.drops)}; they rise, from above 0")
        if self.policy == "multistep" and self.drops[-1] >= self.epochs:
            raise ResNetProtoError(
                f"the last of drops is {self.drops[-1]:g}, epochs is {self.epochs:g}; "
                "set drops that drop the learning rate before the end, or policy fixed"
            )
        if self.warm_up_iterations >= self.max_iter:
            raise ResNetProtoError(
                f"warm_up_iterations is {self.warm_up_iterations:,}, and the whole training has "
                f"{self.max_iter:,}; shorten the warm-up, or train longer"
            )
        if self.max_iter > MAX_COUNT:
            raise ResNetProtoError(
                f"epochs {self.epochs:g} are {self.max_iter:,} iterations; Caffe counts to "
                f"{MAX_COUNT:,}"
            )

    @property
    def effective_batch(self) -> int:
        """Images of one iteration, on all machines and GPUs: what base_lr is for."""
        return self.batch * self.gpus * self.nodes * self.iter_size

    @property
    def uses_gpus(self) -> bool:
        """Whether ``caffe train`` is told which GPUs it takes."""
        return self.launcher == "caffe" and self.solver_mode == "GPU"

    @property
    def reads(self) -> tuple[str, ...]:
        """Files and folders that the data layers read, as seen from the nets'."""
        if self.data not in READ:
            return ()
        mean = () if self.data == "hdf5" or not self.mean_file else (self.mean_file,)
        return tuple(dict.fromkeys((self.train_source, self.test_source, *mean)))

    def iterations(self, epochs: float) -> int:
        """As many iterations as epochs have, at least one."""
        return max(1, round(epochs * self.train_images / self.effective_batch))

    @property
    def max_iter(self) -> int:
        """The length of the training, in iterations."""
        return self.iterations(self.epochs)

    @property
    def even_test_batch(self) -> int:
        """The largest batch up to ``test_batch`` that divides the test images.

        Where that would be less than a quarter of it, ``test_batch`` itself: the last pass then
        takes some images again. One layer of dummy data serves both phases, with one batch.
        """
        if self.data == "dummy":
            return self.batch
        most = min(self.test_batch, self.test_images)
        for batch in range(most, most // 4, -1):
            if self.test_images % batch == 0:
                return batch
        return most

    @property
    def test_iter(self) -> int:
        """Passes that cover the test images."""
        return -(-self.test_images // self.even_test_batch)


def listed(numbers: tuple[float, ...]) -> str:
    """Numbers as one gives them: ``30,60``."""
    return ",".join(f"{number:g}" for number in numbers)


class Recipe(NamedTuple):
    """A training that somebody published: what differs from the defaults, and where it stands."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]

    @property
    def training(self) -> Training:
        """The training itself."""
        return Training(**self.values)

    def value(self, field: str) -> Any:
        """One value of it, without all others being checked."""
        return self.values.get(field, getattr(Training, field))


PAPER = "arXiv 1512.03385"
PAPER_2 = "arXiv 1603.05027"
TORCH = "github facebook/fb.resnet.torch"
WIDE = "arXiv 1605.07146"

IMAGENET_SOURCES = {
    "effective_batch": f"256 images: {PAPER}, section 3.4",
    "base_lr": f"{PAPER}, section 3.4",
    "gamma": f"{PAPER}, section 3.4: divided by 10 when the error plateaus",
    "drops": f"{TORCH}: 30 and 60 epochs, where the error plateaus",
    "epochs": f"{TORCH}: 90 epochs",
    "momentum": f"{PAPER}, section 3.4",
    "weight_decay": f"{PAPER}, section 3.4",
}
CIFAR_SOURCES = {
    "effective_batch": f"128 images: {PAPER}, section 4.2",
    "base_lr": f"{PAPER}, section 4.2",
    "gamma": f"{PAPER}, section 4.2",
    "drops": f"{PAPER}, section 4.2: at 32k and 48k iterations",
    "epochs": f"{PAPER}, section 4.2: 64k iterations",
    "momentum": f"{PAPER}, section 4.2",
    "weight_decay": f"{PAPER}, section 4.2",
}
WARM_UP = f"{PAPER}, section 4.2: 0.01 for about 400 iterations"
CIFAR: dict[str, Any] = {
    "recipe": "cifar",
    "train_source": "cifar10_train_lmdb",
    "test_source": "cifar10_test_lmdb",
    "train_images": 50_000,
    "test_images": 10_000,
    "mean": (113.9, 123.0, 125.3),
    "batch": 64,
    "gpus": 2,
    "test_batch": 100,
    "epochs": 64_000 * 128 / 50_000,
    "drops": (32_000 * 128 / 50_000, 48_000 * 128 / 50_000),
    "resize": 0,
}


LOCALIZATION: dict[str, Any] = {
    "recipe": "localization",
    "data": "hdf5",
    "train_source": "train_h5.txt",
    "test_source": "val_h5.txt",
    "base_lr": 0.01,
    "epochs": 30.0,
    "drops": (20.0,),
}
SEGMENTATION: dict[str, Any] = {
    "recipe": "segmentation",
    "data": "hdf5",
    "train_source": "train_h5.txt",
    "test_source": "val_h5.txt",
    "train_images": 10_582,
    "test_images": 1_449,
    "batch": 10,
    "gpus": 1,
    "test_batch": 7,
    "base_lr": 0.001,
    "policy": "poly",
    "power": 0.9,
    "epochs": 20_000 * 10 / 10_582,
    "weight_decay": 5e-4,
    "finetune": True,
    "freeze_batch_norm": True,
    "freeze_scale": True,
}
FASTER_RCNN: dict[str, Any] = {
    "recipe": "faster-r-cnn",
    "data": "roi-data",
    "train_source": "coco_2014_train",
    "test_source": "coco_2014_minival",
    "train_images": 82_783,
    "test_images": 5_000,
    "batch": 1,
    "gpus": 1,
    "iter_size": 8,
    "base_lr": 0.001,
    "epochs": 320_000 * 8 / 82_783,
    "drops": (240_000 * 8 / 82_783,),
    "weight_decay": 5e-4,
    "filler": "gaussian",
    "freeze_batch_norm": True,
    "freeze_scale": True,
    "launcher": "py-faster-rcnn",
    "config": "faster_rcnn_end2end.yml",
}
DEEPLAB = "arXiv 1606.00915"
RFCN = "github YuwenXiong/py-R-FCN"
DETECTION_SOURCES = {
    "effective_batch": f"8 images: {PAPER}, appendix A",
    "base_lr": f"{PAPER}, appendix A: COCO",
    "gamma": f"{PAPER}, appendix A: 0.0001",
    "drops": f"{PAPER}, appendix A: after 240k iterations",
    "epochs": f"{PAPER}, appendix A: and 80k more",
    "momentum": RFCN,
    "weight_decay": RFCN,
}

RECIPES = {
    "imagenet": Recipe({}, IMAGENET_SOURCES),
    "cifar": Recipe(CIFAR, CIFAR_SOURCES),
    "cifar-warm-up": Recipe(
        {**CIFAR, "recipe": "cifar-warm-up", "warm_up_lr": 0.01, "warm_up_iterations": 400},
        {**CIFAR_SOURCES, "warm_up_lr": WARM_UP, "warm_up_iterations": WARM_UP},
    ),
    "cifar-pre-activation": Recipe(
        {**CIFAR, "recipe": "cifar-pre-activation", "warm_up_lr": 0.01, "warm_up_iterations": 400},
        {
            **{key: text.replace(PAPER, PAPER_2).replace("section 4.2", "appendix")
               for key, text in CIFAR_SOURCES.items()},
            "warm_up_lr": f"{PAPER_2}, appendix: 0.01 for the first 400 iterations",
            "warm_up_iterations": f"{PAPER_2}, appendix",
        },
    ),
    "cifar-wide": Recipe(
        {
            **CIFAR,
            "recipe": "cifar-wide",
            "epochs": 200.0,
            "drops": (60.0, 120.0, 160.0),
            "gamma": 0.2,
            "weight_decay": 5e-4,
            "nesterov": True,
        },
        dict.fromkeys(
            ("effective_batch", "base_lr", "gamma", "drops", "epochs", "momentum", "weight_decay",
             "nesterov"),
            f"{WIDE}, section 3",
        ),
    ),
    "localization": Recipe(
        LOCALIZATION,
        {
            "effective_batch": f"256 images: {PAPER}, appendix C; rates and lengths are ours",
            "momentum": f"{PAPER}, section 3.4",
            "weight_decay": f"{PAPER}, section 3.4",
        },
    ),
    "segmentation": Recipe(
        SEGMENTATION,
        {
            "effective_batch": f"10 images: {DEEPLAB}, section 4.1",
            "base_lr": f"{DEEPLAB}, section 4.1",
            "power": f"{DEEPLAB}, section 4.1",
            "epochs": f"{DEEPLAB}, section 4.1: 20k iterations",
            "momentum": f"{DEEPLAB}, section 4.1",
            "weight_decay": f"{DEEPLAB}, section 4.1",
        },
    ),
    "faster-r-cnn": Recipe(FASTER_RCNN, DETECTION_SOURCES),
    "r-fcn": Recipe(
        {**FASTER_RCNN, "recipe": "r-fcn", "config": "rfcn_end2end.yml"}, DETECTION_SOURCES
    ),
}  # fmt: skip
"""The papers' recipes; a preset has one of them."""


def training_for(channels: int, size: int) -> Training:
    """The paper's recipe for images of a size: CIFAR's up to 64 pixels, else ImageNet's.

    Args:
        channels: of an image; the means are those of three.
        size: the larger of rows and columns.
    """
    values = RECIPES["cifar" if size <= 64 else "imagenet"].values
    return Training(**values) if channels == 3 else Training(**{**values, "mean": ()})
