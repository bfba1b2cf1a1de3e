"""An Evaluation -> tables, JSON, CSV, the picture of its confusions, a sheet of its mistakes."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from resnet_proto.data.images import NEEDED
from resnet_proto.data.show import contact_sheet
from resnet_proto.errors import ResNetProtoError
from resnet_proto.evaluate.evaluation import Evaluation
from resnet_proto.evaluate.metrics import TOP
from resnet_proto.report.curves import new_figure, plain, save
from resnet_proto.words import columns, counted, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from PIL import Image

    from resnet_proto.evaluate.source import Source

FEW = 30
"""Classes whose confusions are numbers in a square; those of more are points."""
LISTED = 24
"""Confusions that are listed beside the points."""
NAME = 22
"""Characters of a class's name in a picture."""
ID = re.compile(r"n\d{8} (?=.)")
"""As in `imagenet`, before the words."""
SIZES = 20, 240
"""Areas of the smallest and the largest point, in square points."""


def table(found: Evaluation) -> Iterator[str]:
    """Errors with their intervals, and what they are of."""
    cells: list[tuple[str, ...]] = [("", "wrong", "error", "95 % interval")]
    for k in found.ks:
        low, high = found.interval(k)
        cells.append(
            (f"top-{k}", f"{found.wrong(k):,}", percent(found.error(k)),
             f"{100 * low:.2f} - {percent(high)}")
        )  # fmt: skip
    yield from columns(cells, left=1)
    nets = " + ".join(found.nets)
    left = f", {counted(found.left_out, 'image')} left out" if found.left_out else ""
    yield printable(f"{found.source}: {counted(len(found), 'image')}{left}; {nets}")


def class_table(found: Evaluation) -> Iterator[str]:
    """A line for each class; its name, if it has one, behind its number."""
    names = found.names
    texts = ["class", *["name"] * bool(names)]
    cells: list[tuple[str, ...]] = [
        (*texts, "images", *(f"top-{k} wrong" for k in found.ks), "error")
    ]
    ends = ["taken for"]
    for row in found.per_class():
        wrong = [f"{row.wrong[k]:,}" for k in found.ks]
        error = percent(row.wrong[1] / row.images) if row.images else "-"
        name = [short(names[row.label], 2 * NAME)] if names else []
        cells.append((str(row.label), *name, f"{row.images:,}", *wrong, error))
        ends.append("" if row.taken_for is None else f"{found.name(row.taken_for)} ({row.taken:,})")
    yield from columns(cells, ends, left=len(texts))


def percent(share: float) -> str:
    """``0.89 %``."""
    return f"{100 * share:.2f} %"


def as_json(found: Evaluation, source: Source | None = None) -> dict[str, Any]:
    """All figures; the worst mistakes with the names of their images, if ``source`` has them."""
    rows, worst = found.rows, found.mistakes()
    names = None if source is None else source.names(rows.place[worst].tolist())
    return {
        "images": len(found),
        "source": found.source,
        "nets": list(found.nets),
        **{f"top{k}": figures(found, k) for k in found.ks},
        "left_out": found.left_out,
        "reasons": list(found.reasons),
        "made_of": list(found.made_of),
        "classes": [
            {
                "label": row.label,
                "name": found.name(row.label),
                "images": row.images,
                **{f"wrong_top{k}": row.wrong[k] for k in found.ks},
                "taken_for": row.taken_for,
                "taken": row.taken,
            }
            for row in found.per_class()
        ],
        "mistakes": [
            {
                "place": int(rows.place[i]),
                **({} if names is None else {"image": names[n]}),
                "label": int(rows.label[i]),
                "predicted": int(rows.predicted[i]),
                "score": float(rows.confidence[i]),
            }
            for n, i in enumerate(worst)
        ],
    }


def figures(found: Evaluation, k: int) -> dict[str, Any]:
    """What there is to say of top-k."""
    wrong = found.wrong(k)
    return {
        "right": len(found) - wrong,
        "wrong": wrong,
        "error": found.error(k),
        "interval": list(found.interval(k)),
    }


def images_csv(found: Evaluation, source: Source) -> str:
    """A line for each image: its label, with rank and score, and the classes with the best scores.

    A rank counts from 1, which is right; whoever's label is within top-5 has one up to 5.
    """
    text, rows = io.StringIO(), found.rows
    writer = csv.writer(text, lineterminator="\n")
    n = min(TOP, found.classes)
    heads = [f"{head}_{k}" for k in range(1, n + 1) for head in ("class", "name", "score")]
    writer.writerow(["image", "label", "name", "rank", "score", *heads])
    columns = (rows.label, rows.rank, rows.score, rows.top[:, :n], rows.top_scores[:, :n])
    names = source.names(rows.place.tolist())
    for name, *row in zip(names, *columns, strict=True):
        label, rank, score, *top = (x.tolist() for x in row)  # a line at a time: there are millions
        best = [x for i, own in zip(*top, strict=True) for x in (i, found.name(i), f"{own:.6g}")]
        writer.writerow([name, label, found.name(label), rank + 1, f"{score:.6g}", *best])
    return text.getvalue()


def classes_csv(found: Evaluation) -> str:
    """A line for each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    wrong = [f"wrong_top{k}" for k in found.ks]
    writer.writerow(["label", "name", "images", *wrong, "taken_for", "taken"])
    for row in found.per_class():
        writer.writerow(
            [row.label, found.name(row.label), row.images, *(row.wrong[k] for k in found.ks),
             row.taken_for, row.taken]
        )  # fmt: skip
    return text.getvalue()


# ---- pictures


def plot_confusion(path: str | os.PathLike[str], found: Evaluation) -> None:
    """Draw what each class is taken for.

    Up to 30 classes are a square of numbers, each row coloured by its shares. Of more, each
    confusion is a point, the larger the more images it has, and the most frequent are listed.

    Args:
        path: ``.svg``, ``.png`` or ``.pdf``.
        found: of any number of classes up to ``metrics.MAX_CLASSES``.

    Raises:
        ResNetProtoError: there are more, matplotlib is not installed, or ``path`` cannot be
            written.
    """
    matrix = found.confusion()
    few = found.classes <= FEW
    figure = new_figure(1 if few else 2)
    names = [plain(short(in_picture(found, i), NAME)) for i in range(found.classes)]
    axes = figure.axes[0]
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    title = f"{len(found):,} images, top-1 error {percent(found.error())}"
    axes.set_title(title, fontsize="medium")
    if few:
        side = max(4.0, 0.42 * found.classes + 1.6 + 0.08 * max(map(len, names)))
        figure.set_size_inches(side, side)
        draw_square(axes, matrix, names)
    else:
        figure.set_size_inches(12.6, 6.4)
        draw_points(axes, matrix)
        draw_list(figure.axes[1], matrix, names)
    save(path, figure)


def draw_square(axes: Axes, matrix: NDArray[Any], names: Sequence[str]) -> None:
    """A number in each place that has one."""
    import numpy as np

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    right = np.eye(len(matrix), dtype=bool)
    # what is right in blue; what is wrong in red, and a little of it is seen
    color = np.ones((*matrix.shape, 3))
    blue, red = np.array([0.12, 0.47, 0.71]), np.array([0.84, 0.15, 0.16])
    color[right] += shares[right, None] * 0.75 * (blue - 1)
    color[~right] += (shares[~right, None] ** 0.5) * (red - 1)
    axes.imshow(color, aspect="equal")
    long = max(map(len, names)) > 2
    axes.set_xticks(range(len(names)), names, rotation=90 if long else 0)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#e5e5e5", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    for i, j in zip(*np.nonzero(matrix), strict=True):
        size = 8 if matrix[i, j] < 1000 else 6
        dark = color[i, j].mean() < 0.55
        axes.text(
            j, i, f"{matrix[i, j]:,}" if matrix[i, j] < 10000 else f"{matrix[i, j]:.0e}",
            ha="center", va="center", fontsize=size, color="white" if dark else "black",
        )  # fmt: skip


def confusions(matrix: NDArray[Any]) -> list[tuple[int, int, int]]:
    """(count, label, predicted) of all that is wrong; the most frequent first, then by class."""
    import numpy as np

    off = matrix.copy()
    np.fill_diagonal(off, 0)
    rows, cols = np.nonzero(off)
    counts = off[rows, cols]
    order = np.lexsort((cols, rows, -counts))
    return [(int(counts[i]), int(rows[i]), int(cols[i])) for i in order]


def draw_points(axes: Axes, matrix: NDArray[Any]) -> None:
    """A point for each confusion."""
    found = confusions(matrix)
    axes.plot([0, len(matrix) - 1], [0, len(matrix) - 1], color="#cccccc", linewidth=0.8, zorder=0)
    if found:
        counts, rows, cols = zip(*found, strict=True)
        low, high = SIZES
        # of a thousand classes even the smallest has to leave room for the others
        scale = min(1.0, 100 / len(matrix)) ** 0.8
        areas = [scale * (low + (high - low) * (n - 1) / max(1, counts[0] - 1)) for n in counts]
        axes.scatter(
            cols, rows, s=areas, c=counts, cmap="YlOrRd", vmin=-counts[0] / 3, vmax=counts[0],
            linewidths=0.2, edgecolors="#7a0c0c", zorder=2,
        )  # fmt: skip
    axes.set_xlim(-1, len(matrix))
    axes.set_ylim(len(matrix), -1)
    axes.set_aspect("equal")
    axes.grid(color="#eeeeee", linewidth=0.5, zorder=0)


def draw_list(axes: Axes, matrix: NDArray[Any], names: Sequence[str]) -> None:
    """The most frequent confusions in words."""
    axes.set_axis_off()
    found = confusions(matrix)[:LISTED]
    axes.set_title("most frequent, of the images of the class", fontsize="medium", loc="left")
    if not found:
        axes.text(0, 1, "none", va="top", transform=axes.transAxes)
    for i, (n, label, other) in enumerate(found):
        total = int(matrix[label].sum())
        y = 1 - (i + 0.5) / LISTED
        axes.text(0.16, y, f"{n:,} of {total:,}", ha="right", va="center", fontsize=9,
                  color="#7a0c0c", transform=axes.transAxes)  # fmt: skip
        axes.text(0.2, y, f"{names[label]}  \N{RIGHTWARDS ARROW}  {names[other]}", va="center",
                  fontsize=9, transform=axes.transAxes)  # fmt: skip


def sheet(found: Evaluation, source: Source) -> tuple[Image.Image, int]:
    """A contact sheet of the worst mistakes, and how many they are.

    Below each image stand what it is taken for, with the score, and what it is.

    Raises:
        ResNetProtoError: Pillow is not installed, or nothing is wrong.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ResNetProtoError(NEEDED) from None
    rows, worst = found.rows, found.mistakes()
    if not len(worst):
        raise ResNetProtoError(f"{found.source}: no mistake to show; all images are right")
    places = sorted(int(rows.place[i]) for i in worst)
    pictures = {item.place: item.picture() for item in source.items(places)}

    def cells() -> Iterator[tuple[Image.Image, list[str]]]:
        for i in worst:
            taken, own = (in_picture(found, int(x[i])) for x in (rows.predicted, rows.label))
            texts = [f"{100 * rows.confidence[i]:.0f}% {taken}", f"is {own}"]
            yield pictures[int(rows.place[i])], texts

    return contact_sheet(cells(), len(worst), lines=2), len(worst)


def in_picture(found: Evaluation, label: int) -> str:
    """A class's name, without WordNet's id, which would leave no room for it."""
    return printable(ID.sub("", found.name(label)))


def short(name: str, most: int) -> str:
    """A name cut where it is too long."""
    return name if len(name) <= most else name[: most - 1] + "…"
