"""Weights (and their net) -> which of the models that others have released they are, if one.

By the digest of the file where one is published, else by names and shapes of the blobs: those of
another training have the same. ``released.toml`` says what is known, and from where.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_proto.errors import check_kind
from resnet_proto.layers import Shape
from resnet_proto.preprocess import PRESETS, ImageOptions

if TYPE_CHECKING:
    from resnet_proto.net import Net
    from resnet_proto.weights import Weights

FILE = Path(__file__).with_name("released.toml")
SURE = {
    "sha256": "the file itself, by its sha256",
    "sha1": "the file itself, by its sha1",
    "structure": "names and shapes are its; the weights may be others",
}
"""How a release was recognised, in words."""


@dataclass(frozen=True)
class Release:
    """A model that somebody has released.

    Args:
        name: what it is called. ``page`` is where it was released.
        image: how an image becomes its input.
        file: what that page calls its file; empty where it does not.
        size: bytes of the file; 0 where nobody says so. ``sha256`` and ``sha1`` of it likewise,
            and ``digests`` who publishes them.
        structure: digests of names and shapes of the blobs.
        first: the layer that goes before the other, of norm1 and pool1, if that makes it another.
        preset: the name of the options in ``image``; empty where they have none.
        error: top-1 and top-5 in percent, of one crop, as its page says.
        labels: ``read_labels`` takes it; empty where they are not ImageNet's.
        found: a key of ``SURE``: how it was recognised; empty in the table.
    """

    name: str
    page: str
    image: ImageOptions
    file: str = ""
    size: int = 0
    sha256: str = ""
    sha1: str = ""
    digests: str = ""
    structure: tuple[str, ...] = ()
    first: str = ""
    preset: str = ""
    error: tuple[float, float] | None = None
    labels: str = "imagenet"
    found: str = ""

    @property
    def options(self) -> str:
        """The command line's options for its images."""
        if self.preset:
            return f"--preprocess {self.preset}"
        given = {
            "mean": ",".join(f"{value:g}" for value in self.image.mean),  # type: ignore[union-attr]
            "scale": ",".join(f"{value:g}" for value in self.image.scale),
            "crop": str(self.image.crop),
        }
        return " ".join(f"--{key} {value}" for key, value in given.items() if value != "1")

    def __str__(self) -> str:
        return f"{self.name} of {self.page} ({SURE[self.found]}); images: {self.options}"

    def as_json(self) -> dict[str, object]:
        """What is known of it, as plain data."""
        names = ("name", "page", "file", "size", "sha256", "sha1", "error", "labels", "found")
        return {**{name: getattr(self, name) for name in names}, "options": self.options}


@cache
def releases() -> tuple[Release, ...]:
    """All that are known."""
    found = []
    for row in tomllib.loads(FILE.read_text("utf-8"))["release"]:
        preset = row.pop("preprocess", "")
        if preset:
            image = PRESETS[preset]
        else:
            scale = row.pop("scale", 1.0)
            image = ImageOptions(
                tuple(map(float, row.pop("mean"))),
                tuple(scale) if isinstance(scale, list) else (scale,),
                row.pop("crop"),
            )
        row |= {key: tuple(row[key]) for key in ("structure", "error") if key in row}
        found.append(Release(**row, image=image, preset=preset))
    return tuple(found)


def known_release(net: Net | None, weights: Weights) -> Release | None:
    """The released model that weights are; None if they are none of those that are known.

    The file is read only where its size, or else the names and shapes in it, are those of one
    whose digest is published; never where it was read through a pipe.

    Args:
        net: the net that they are for. Layers which it lacks need not be the release's.
        weights: of any format. ``weights.source`` is their file.

    Returns:
        The release, with ``found`` set: ``sha256`` or ``sha1`` if it is the file itself,
        ``structure`` if names and shapes agree and the file is another.
    """
    from resnet_proto.net import check_net
    from resnet_proto.weights import Weights

    if net is not None:
        check_net(net)
    check_kind("weights", weights, Weights, "what load() has read")
    for release in by_size(weights):
        if how := digest_agrees(release, weights.source):
            return replace(release, found=how)
    found = [release for release in releases() if structures(weights, net) & {*release.structure}]
    if len(found) > 1:
        names = [layer.name for layer in (weights if net is None else net).layers]
        first = next((name for name in names if name in ("norm1", "pool1")), "")
        found = [release for release in found if release.first == first]
    if len(found) != 1:
        return None
    how = "" if found[0].size else digest_agrees(found[0], weights.source)
    return replace(found[0], found=how or "structure")


def by_size(weights: Weights) -> list[Release]:
    """The releases whose file is as large as that of the weights."""
    try:
        path = Path(weights.source)
        size = path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return []
    return [release for release in releases() if size and release.size == size]


def digest_agrees(release: Release, path: str) -> str:
    """By which digest a file is this one; empty if by none."""
    for how, digest in (("sha256", release.sha256), ("sha1", release.sha1)):
        if not digest:
            continue
        try:
            if not Path(path).is_file():
                return ""
            with Path(path).open("rb") as file:
                return how if hashlib.file_digest(file, how).hexdigest() == digest else ""
        except (OSError, ValueError):
            return ""
    return ""


def structures(weights: Weights, net: Net | None) -> set[str]:
    """The digests of all blobs of weights, and of those for the layers of a net."""
    wanted = {layer.name for layer in (net.layers if net else ())}
    shapes = [
        (layer.name, [blob.shape for blob in layer.blobs])
        for layer in weights.layers
        if layer.blobs
    ]
    return {structure(shapes), structure(row for row in shapes if row[0] in wanted)}


def structure(layers: Iterable[tuple[str, Iterable[Shape]]]) -> str:
    """A digest of names and shapes of blobs.

    Orders do not count, which HDF5 does not keep, nor leading axes of size 1, which Caffe's old
    files have everywhere.

    Args:
        layers: the name of each layer with blobs, and their shapes.

    Returns:
        16 hexadecimal digits.
    """
    lines = sorted(
        f"{name} {sorted(map(trimmed, shapes))}".encode(errors="backslashreplace")
        for name, shapes in layers
    )
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:16]


def trimmed(shape: Shape) -> Shape:
    """A shape without its leading axes of size 1."""
    start = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[start:])
