"""Small images of every kind, and what lies in a database."""

import lmdb
import numpy as np
from PIL import Image

from resnet_proto.data.images import Options
from resnet_proto.data.sources import find_images
from resnet_proto.data.write import Plan, write
from resnet_proto.schema import decode

ROWS, COLUMNS = 7, 5


def pixels(seed=0, rows=ROWS, columns=COLUMNS, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, channels), np.uint8)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def write_kinds(folder):
    """One image of each kind that convert_imageset reads, and a list: names with a space too."""
    colours, alpha = Image.fromarray(pixels(0)), Image.fromarray(pixels(1, channels=4))
    grey = Image.fromarray(pixels(2)[:, :, 0])
    palette = colours.quantize(16)
    smooth = Image.fromarray(np.kron(pixels(3, 9, 7), np.ones((5, 5, 1), np.uint8)))
    deep = np.random.default_rng(4).integers(0, 65536, (ROWS, COLUMNS)).astype(np.uint16)
    images = {
        "rgb.png": (colours, {}),
        "wide r g b.png": (Image.fromarray(pixels(5, 4, 9)), {}),
        "grey.png": (grey, {}),
        "rgba.png": (alpha, {}),
        "la.png": (Image.merge("LA", (grey, alpha.getchannel("A"))), {}),
        "palette.png": (palette, {}),
        "clear.png": (palette, {"transparency": 3}),
        "deep.png": (Image.fromarray(deep), {}),
        "bits.png": (grey.point(lambda value: 255 * (value > 99)).convert("1"), {}),
        "turned.png": (colours, {"exif": turned(6)}),
        "x.bmp": (colours, {}),
        "x.tif": (colours, {}),
        "x.webp": (colours, {"lossless": True}),
        "rgb.jpg": (smooth, {"quality": 90}),
        "grey.jpeg": (smooth.convert("L"), {"quality": 90}),
        "turned.jpg": (smooth, {"quality": 90, "exif": turned(8)}),
        "progressive.jpg": (smooth, {"quality": 90, "progressive": True}),
    }
    for name, (image, options) in images.items():
        image.save(folder / name, **options)
    lines = [f"{name} {3 * i}\n" for i, name in enumerate(images)]
    (folder / "list.txt").write_text("".join(lines))
    return list(images)


def class_folder(folder, classes=("a", "b b", "c"), each=4):
    """A folder of class folders; the sizes differ."""
    for i, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for j in range(each + i):
            Image.fromarray(pixels(10 * i + j, 8 + i, 6 + j)).save(folder / name / f"{j}.png")
    return folder


def held(path):
    """Key and value of each record, as the package lmdb reads them."""
    with lmdb.open(str(path), readonly=True, lock=False) as database, database.begin() as records:
        return [(bytes(key), bytes(value)) for key, value in records.cursor()]


def trees(path):
    """What the key calls the image -> its Datum."""
    return {key[9:].decode(): decode("Datum", value) for key, value in held(path)}


def written(source, out, *, split=None, shuffle=False, seed=0, root=None, part="", **known):
    """Write a database in one go; the options of an image and of ``write`` alike."""
    names = ("resize", "pad", "grey", "encoded")
    options = Options(**{name: known.pop(name) for name in names if name in known})
    images = find_images(str(source), root=root, part=part)
    return write(Plan(images, options, out, split, shuffle, seed), **known)
