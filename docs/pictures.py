"""The pictures of these pages: ``make pictures`` writes docs/pictures/, which is checked in.

What explains Caffe is drawn with matplotlib, nets by ``resnet-proto draw``.
"""

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

PICTURES = Path(__file__).with_name("pictures")
INK, BLUE, ORANGE, GREY, RED = "#333333", "#c6dbef", "#fdd0a2", "#eeeeee", "#b2182b"
FAMILY = ("resnet-18", "resnet-34", "resnet-50", "resnet-101", "resnet-152")
UNITS = (
    "resnet-18", "resnet-50", "preact-resnet-50", "se-resnet-50", "resnext-50-32x4d", "resnet-50-d"
)  # fmt: skip
"""Presets of which two units are drawn: one with the shape it gets, one that halves it."""


def canvas(width, height):
    """A figure in which a unit is a square."""
    figure, axes = plt.subplots(figsize=(width * 0.42, height * 0.42))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_aspect("equal")
    axes.axis("off")
    return figure, axes


def square(axes, x, y, text="", color=GREY, width=1.0, style="-"):
    """A box with a text."""
    axes.add_patch(Rectangle((x, y), width, 0.9, fc=color, ec=INK, lw=0.8, ls=style))
    axes.text(x + width / 2, y + 0.45, text, ha="center", va="center", size=8, color=INK)


def arrow(axes, start, end, color=INK):
    """From point to point."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color=color))


def rounding():
    """A row of six, windows of three, stride two: Caffe's three windows and others' two."""
    figure, axes = canvas(17, 6)
    for left, n, title in ((0.5, 3, "Caffe: up, 3 windows"), (9.5, 2, "others: down, 2 windows")):
        axes.text(left + 3, 5.4, title, ha="center", size=9, color=INK)
        for i in range(6):
            square(axes, left + i, 4, str(i + 1), BLUE)
        if n == 3:
            square(axes, left + 6, 4, "", "white", style=":")
        for i in range(n):
            square(axes, left + 2 * i, 2.7 - i, "", ORANGE, width=3.0)
            over = 2 * i + 3 > 6
            text = "max(5, 6)" if over else f"max({2 * i + 1}, {2 * i + 2}, {2 * i + 3})"
            axes.text(left + 2 * i + 1.5, 3.15 - i, text, ha="center", va="center", size=8)
    return figure


def divisor():
    """A row of five with a pad of one: by what an average divides."""
    figure, axes = canvas(12, 6.2)
    for i in range(-1, 6):
        inside = 0 <= i < 5
        square(axes, 2.5 + i, 5, "6" if inside else "pad", BLUE if inside else "white",
               style="-" if inside else ":")  # fmt: skip
    for row, (start, text) in enumerate(
        ((-1, "(0+6+6)/3 = 4"), (1, "(6+6+6)/3 = 6"), (3, "(6+6+0)/3 = 4"))
    ):
        square(axes, 2.5 + start, 3.7 - 1.2 * row, text, ORANGE, width=3.0)
    axes.text(
        0.1, 0.2, "Where the pad does not count (TensorFlow, ONNX unless told), all are 6.", size=9
    )
    return figure


def in_place():
    """Four layers write one blob."""
    figure, axes = canvas(17, 4.2)
    layers = ("Convolution", "BatchNorm", "Scale", "ReLU")
    for i, name in enumerate(layers):
        square(axes, 4 * i + 0.4, 2.6, name, BLUE, width=3.2)
        square(axes, 4 * i + 1.2, 0.6, "conv1", ORANGE, width=1.6)
        arrow(axes, (4 * i + 2, 2.6), (4 * i + 2, 1.5))
        if i:
            arrow(axes, (4 * i - 1.2, 1.5), (4 * i + 0.8, 2.6))
    axes.text(8.5, 3.8, 'top: "conv1" four times; it is one blob', ha="center", size=9)
    axes.text(14.4, 0.05, "what `conv1` is in the end", ha="center", size=8, color=RED)
    return figure


def batch_norm():
    """What is stored, and what is computed from it."""
    figure, axes = canvas(17, 5.4)
    for i, (name, text) in enumerate(
        (("blob 0", "mean x s"), ("blob 1", "variance x s"), ("blob 2", "s = 999.98"))
    ):
        axes.text(4 * i + 2.4, 4.9, name, ha="center", size=8)
        square(axes, 4 * i + 0.6, 3.7, text, BLUE, width=3.6)
        arrow(axes, (4 * i + 2.4, 3.7), (6.4, 2.5))
    square(axes, 3.2, 1.5, "(x - blob 0 / s) / sqrt(blob 1 / s + eps)", ORANGE, width=7.6)
    arrow(axes, (10.8, 1.95), (12.4, 1.95))
    square(axes, 12.4, 1.5, "Scale: gamma, beta", BLUE, width=4.2)
    axes.text(0.6, 0.3, "s counts the batches that were averaged; 0 means mean 0 and variance 0.",
              size=9)  # fmt: skip
    return figure


def draw(preset, name, *options, sets=()):
    """A net of a preset, by the command line."""
    tool = [sys.executable, "-m", "resnet_proto"]
    changed = [word for field in sets for word in ("--set", field)]
    net = subprocess.run(
        [*tool, "gen", "--preset", preset, *changed, "--only", "deploy", "--out", "-"],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    out = PICTURES / f"{name}.svg"
    subprocess.run([*tool, "draw", "-", *options, "-o", out], input=net, check=True)


def main():
    """Write all."""
    mpl.rcParams.update({"svg.hashsalt": "resnet-proto", "svg.fonttype": "none"})
    PICTURES.mkdir(exist_ok=True)
    for make in (rounding, divisor, in_place, batch_norm):
        path = PICTURES / f"{make.__name__.replace('_', '-')}.svg"
        make().savefig(path, bbox_inches="tight", metadata={"Date": None}, facecolor="white")
    for preset in FAMILY:
        draw(preset, preset)
    for preset in UNITS:
        draw(preset, f"{preset}-units", "--detail", "units", sets=["stages=1,1"])


if __name__ == "__main__":
    main()
