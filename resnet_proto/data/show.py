"""LMDB -> a contact sheet: images in rows, each with its class below."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.data.images import NEEDED, pixels_of
from resnet_proto.data.labelled import shown
from resnet_proto.data.lmdb import records
from resnet_proto.data.write import LABELS
from resnet_proto.errors import ResNetProtoError
from resnet_proto.schema import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageFont

    Cell = tuple[Image.Image, Sequence[str]]

SIDE, GAP, TEXT = 96, 6, 14
"""Pixels: of an image, between two, and of a line of text."""
EDGE = "#cccccc"
"""Around each image, so that a white one is seen."""
FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "Arial Unicode.ttf")
"""Of the system, as Pillow finds them by name, where its own font lacks a letter."""
MOST = 40
"""Characters of a class's name; it is cut further where that is too wide."""
MAX_LABELS = 1 << 24
"""Bytes of labels.txt that are read."""


def sheet(path: Path, count: int, seed: int) -> tuple[Image.Image, int]:
    """A picture of some images of an LMDB by lot, in its order, and how many they are.

    A class is called as labels.txt in the database's folder says, else by its number.

    Raises:
        ResNetProtoError: no images, or damaged ones; or no Pillow.
    """
    try:
        from PIL import Image  # noqa: F401 - else it is missed later, in the middle
    except ImportError:
        raise ResNetProtoError(NEEDED) from None
    names = class_names(path)
    with records(path) as database:
        if not database.count:
            raise ResNetProtoError(f"{path}: there are no images in it")
        n = min(count, database.count)
        places = sorted(random.Random(seed).sample(range(database.count), n))

        def cells() -> Iterator[Cell]:
            for key, value in database.at(places):
                tree = decode("Datum", value)
                image = picture_of(pixels_of(tree, f"{path}: {shown(key)}"))
                yield image, [name_of(tree.get("label", 0), names)]

        return contact_sheet(cells(), n), n


def contact_sheet(cells: Iterable[Cell], n: int, lines: int = 1) -> Image.Image:
    """A picture of images in rows.

    Args:
        cells: each image with lines of text that go below it; what is too wide is cut.
        n: how many there are.
        lines: of each.
    """
    from PIL import Image, ImageDraw

    columns = min(n, max(1, round((n * 1.5) ** 0.5)))
    rows = -(-n // columns)
    cell = SIDE + GAP, SIDE + lines * TEXT + GAP
    page = Image.new("RGB", (columns * cell[0] + GAP, rows * cell[1] + GAP), "white")
    draw, fonts = ImageDraw.Draw(page), list(known_fonts())
    for i, (picture, texts) in enumerate(cells):
        left, top = GAP + i % columns * cell[0], GAP + i // columns * cell[1]
        image = fitted(picture)
        middle = left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2
        page.paste(image, middle)
        x, y = middle
        draw.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=EDGE)
        for line, text in enumerate(texts):
            text = text if len(text) <= MOST else text[:MOST] + "…"
            text, font = drawable(text, fonts)
            while len(text) > 1 and draw.textlength(text, font) > SIDE:
                text = text[:-2] + "…"
            draw.text((left, top + SIDE + line * TEXT), text, "black", font)
    return page


def name_of(label: int, names: Sequence[str]) -> str:
    """What a class is called: by its number where it has no name."""
    return names[label] if 0 <= label < len(names) else str(label)


def known_fonts() -> Iterator[ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """Pillow's own font, and those that are there of some that have more letters."""
    from PIL import ImageFont

    yield ImageFont.load_default(TEXT - 3)
    places = [*FONTS]
    if (found := find_spec("matplotlib")) and found.origin:
        places.append(str(Path(found.origin).with_name("mpl-data") / "fonts/ttf/DejaVuSans.ttf"))
    for place in places:
        with suppress(OSError):
            yield ImageFont.truetype(place, TEXT - 3)


def drawable(text: str, fonts: Sequence[Any]) -> tuple[str, Any]:
    """The text and the first font that has all its letters; else the text in letters of ASCII.

    What no font has loses its accents, or becomes an escape.
    """
    for font in fonts:
        box = font.getmask("\uffff")
        if all(bytes(font.getmask(c)) != bytes(box) for c in {*text}):
            return text, font
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return bare.encode("ascii", "backslashreplace").decode(), fonts[0]


def class_names(path: Path) -> list[str]:
    """The names of the classes, if they are known; as they can be shown."""
    try:
        with (path / LABELS).open("rb") as file:
            lines = file.read(MAX_LABELS).split(b"\n")
    except OSError:
        return []
    return [shown(line[: 4 * MOST]) for line in lines[:-1]]


def picture_of(pixels: NDArray[Any]) -> Image.Image:
    """An image of (C, H, W), RGB; floats are spread over all greys.

    One channel is grey, three are blue, green, red; of another number the first is shown.
    """
    import numpy as np
    from PIL import Image

    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    array = pixels[::-1].transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def fitted(image: Image.Image) -> Image.Image:
    """An image in a square of ``SIDE``."""
    from PIL import Image

    factor = SIDE / max(image.size)
    size = tuple(max(1, round(side * factor)) for side in image.size)
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BILINEAR
    return image.resize((size[0], size[1]), how)
