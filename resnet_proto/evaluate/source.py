"""IMAGES -> what is to be judged, image by image, with its label; read in any process.

    folder of class folders | list | CIFAR archive | digits | LMDB -> Source -> Item, Item ...

A source is not sent to other processes: it is found again there, and a digest says whether it is
the same. On another machine files have other times, so that digest is of names, labels and a sample
of contents; on this one sizes and times say which images have changed since an earlier run.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from resnet_proto.data.cifar import kind_of
from resnet_proto.data.images import Options, datum, pixels_of
from resnet_proto.data.labelled import Images, shown
from resnet_proto.data.lmdb import FILE, is_lmdb, records
from resnet_proto.data.show import class_names
from resnet_proto.data.sources import DIGITS, find_images, stamp_of
from resnet_proto.errors import ResNetProtoError, check_kind
from resnet_proto.files import as_path
from resnet_proto.preprocess import decode as decode_image
from resnet_proto.schema import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

Again = tuple[type[Any], tuple[Any, ...], str]
"""Class, arguments, and a digest that is the same where the images are."""
SAMPLE = 64
"""Files, or records of an LMDB, whose content goes into that digest; evenly over all."""
HEADS = 1 << 13
"""Bytes: two pages, which are in the digest too. LMDB writes a head anew at each commit."""


@dataclass(frozen=True)
class Item:
    """One image.

    Args:
        place: in its source, from 0.
        name: what messages call it.
        label: its class.
        image: Pillow's, upright; or pixels, (H, W) or (H, W, 3), uint8, RGB. None where it cannot
            be read, or where ``stored`` is the image.
        stored: of an LMDB (C, H, W), uint8 or float32, the channels as they are there: BGR.
        error: why it cannot be read, with its name.
    """

    place: int
    name: str
    label: int
    image: Image.Image | NDArray[Any] | None = None
    stored: NDArray[Any] | None = None
    error: str = ""

    def picture(self) -> Image.Image:
        """The image to be looked at, RGB; floats are spread over all greys."""
        from PIL import Image

        from resnet_proto.data.show import picture_of

        if self.stored is not None:
            return picture_of(self.stored)
        assert self.image is not None
        image = self.image if isinstance(self.image, Image.Image) else Image.fromarray(self.image)
        return image.convert("RGB")


class Source(Protocol):
    """Labelled images, in order.

    Args:
        source: what messages call them.
        digest: of names and labels, or of contents; it does not open files.
        classes: the names of labels 0, 1 ...; empty where they are not known.
        warnings: what to tell of them.
    """

    source: str
    digest: str
    classes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def again(self) -> Again:
        """How it is found again in another process, by ``found_again``."""

    def __len__(self) -> int: ...

    def labels(self) -> Sequence[int] | None:
        """The label of each image, where that is known without reading them."""

    def names(self, places: Sequence[int]) -> list[str]:
        """What messages call these images, in any order."""

    def stamp(self, places: Sequence[int]) -> str:
        """What is another when one of these images was replaced, on this machine; reads none."""

    def items(self, places: Sequence[int]) -> Iterator[Item]:
        """The images at these places, which ascend."""


def find_source(
    source: str,
    *,
    root: Path | None = None,
    part: str = "",
    grey: bool = False,
    forced: bool = False,
) -> Source:
    """The images that IMAGES on the command line stands for.

    Args:
        source: as for ``find_images``, or the folder of an LMDB.
        root: where the paths of a list lead from; its own folder if None.
        part: of an archive that has both; ``test`` if empty.
        grey: whether the net takes one channel.
        forced: whether Caffe is told to decode an LMDB's encoded images so (``force_gray``,
            ``force_color``).

    Raises:
        ResNetProtoError: there are none, or something is wrong with a label.
    """
    check_kind("source", source, (str, os.PathLike), "a path")
    source, root = os.fspath(source), as_path("root", root)
    if not source:
        raise ResNetProtoError("source is empty; give a folder, a list, an archive or an LMDB")
    path = Path(source)
    if source != DIGITS and not path.exists():
        raise ResNetProtoError(
            f"{source}: no such file; give a folder of class folders, a list of lines 'path "
            f"label', a CIFAR archive, an LMDB, or the word {DIGITS}"
        )
    if source == DIGITS or not is_lmdb(path):
        if path.name == FILE and is_lmdb(path.parent):
            raise ResNetProtoError(f"{source}: the file of an LMDB; give its folder, {path.parent}")
        if part and (source == DIGITS or not kind_of(path)):
            raise ResNetProtoError(
                f"--part is for CIFAR archives; {source} is not one: leave it out"
            )
        return Files(source, root, part, grey)
    if root is not None:
        raise ResNetProtoError(f"--root is for lists; {source} is an LMDB: leave it out")
    if part:
        raise ResNetProtoError(f"--part is for CIFAR archives; {source} is an LMDB: leave it out")
    return Database(path, grey, forced)


class Files:
    """Image files, or the arrays of an archive."""

    def __init__(
        self, source: str, root: Path | None = None, part: str = "", grey: bool = False
    ) -> None:
        self.given = (source, root, part, grey)
        path = Path(source)
        if not part and source != DIGITS and path.exists() and kind_of(path):
            part = "test"
        self.images: Images = find_images(source, root=root, part=part)
        self.source, self.grey = source, grey
        self.digest = hashlib.sha256(self.images.digest.encode()).hexdigest()
        self.classes = self.images.classes
        # that all are of one class is no harm here
        self.warnings = tuple(w for w in self.images.warnings if "nothing to learn" not in w)

    @property
    def again(self) -> Again:
        """How it is found again."""
        source, root, *others = self.given
        if source != DIGITS:
            source = os.path.abspath(source)  # noqa: PTH100 - as it was written
        return Files, (source, root and root.absolute(), *others), self.sample()

    def sample(self) -> str:
        """The digest, and the contents of a few files."""
        digest = hashlib.sha256(self.digest.encode())
        for i in spread(len(self)):
            content: Any = b""
            with suppress(ResNetProtoError):  # which is no error before it is its turn
                content = self.images.read(i)
            if isinstance(content, bytes):  # of arrays the digest is of all contents
                digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def labels(self) -> Sequence[int]:
        """Those of the list or the folders."""
        return self.images.labels

    def names(self, places: Sequence[int]) -> list[str]:
        """As in the list, or from the folder."""
        return [shown(self.images.name(i)) for i in places]

    def stamp(self, places: Sequence[int]) -> str:
        """Sizes and times of the files."""
        return "\n".join(map(self.images.stamp, places))

    def items(self, places: Sequence[int]) -> Iterator[Item]:
        """The images at these places; what Caffe's reader would make of a file."""
        for i in places:
            name, label = shown(self.images.name(i)), self.images.labels[i]
            try:
                content = self.images.read(i)
                if isinstance(content, bytes):
                    channels = "GRAY" if self.grey else "RGB"
                    yield Item(i, name, label, decode_image(io.BytesIO(content), channels, name))
                else:
                    yield Item(i, name, label, content)
            except ResNetProtoError as error:
                yield Item(i, name, label, error=str(error).partition("; ")[0])


class Database:
    """The images of an LMDB, as Caffe's Data layer reads them.

    Args:
        path: the folder.
        grey: whether the net takes one channel.
        forced: whether encoded images are decoded so, whatever they are; else only those that
            have other channels than the net (which would end Caffe).
        source: what messages call it; the path if empty.
    """

    def __init__(
        self, path: Path, grey: bool = False, forced: bool = False, source: str = ""
    ) -> None:
        self.path, self.grey, self.forced = path, grey, forced
        self.source = source or str(path)
        self.warnings: tuple[str, ...] = ()
        digest = hashlib.sha256()
        with records(path) as database:
            self.count = database.count
            if not self.count:
                raise ResNetProtoError(f"{path}: there are no images in it")
            for key, value in database.at(spread(self.count)):
                digest.update(key + b"\0" + hashlib.sha256(value).digest())
        with (path / FILE).open("rb") as file:
            digest.update(file.read(HEADS))
            digest.update(str(file.seek(0, 2)).encode())
        self.digest = digest.hexdigest()
        self.classes = tuple(class_names(path))

    @property
    def again(self) -> Again:
        """How it is found again."""
        return Database, (self.path.absolute(), self.grey, self.forced, self.source), self.digest

    def __len__(self) -> int:
        return self.count

    def labels(self) -> None:
        """Not known: they are in the images."""
        return

    def names(self, places: Sequence[int]) -> list[str]:
        """Their keys."""
        with records(self.path) as database:
            keys = list(database.keys())
        return [shown(keys[i]) for i in places]

    def stamp(self, places: Sequence[int]) -> str:
        """Size and time of the whole: a record has none."""
        return stamp_of(self.path / FILE)

    def items(self, places: Sequence[int]) -> Iterator[Item]:
        """The images at these places."""
        with records(self.path) as database:
            for i, (key, value) in zip(places, database.at(places), strict=True):
                name = f"{self.source}: {shown(key)}"
                label = 0
                try:
                    tree = decode("Datum", value)
                    label = tree.get("label", 0)
                    yield Item(i, name, label, stored=self.pixels(tree, name))
                except ResNetProtoError as error:
                    why = str(error).partition("; ")[0]
                    why = why if why.startswith(name) else f"{name}: {why}"
                    yield Item(i, name, label, error=why)

    def pixels(self, tree: dict[str, Any], name: str) -> NDArray[Any]:
        """(C, H, W) of a Datum: uint8 or float32, BGR."""
        wanted = 1 if self.grey else 3
        if tree.get("encoded"):
            pixels = None if self.forced else pixels_of(tree, name)
            if pixels is None or len(pixels) != wanted:  # io.cpp, DecodeDatumToCVMat
                raw, _ = datum(tree.get("data", b""), 0, Options(grey=self.grey), name)
                pixels = pixels_of(decode("Datum", raw), name)
            return pixels
        return pixels_of(tree, name)


def spread(count: int) -> list[int]:
    """Places evenly over so many."""
    n = min(count, SAMPLE)
    return [i * count // n for i in range(n)]


def found_again(kind: type[Any], given: tuple[Any, ...], digest: str) -> Source:
    """A source in another process.

    Raises:
        ResNetProtoError: what is there differs from what the run began with.
    """
    source: Source = kind(*given)
    if source.again[2] != digest:
        raise ResNetProtoError(
            f"{source.source}: other images than those that the run began with: they were changed, "
            "or this machine has others in that place"
        )
    return source
