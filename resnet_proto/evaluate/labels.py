"""A file of labels -> what each class is called, in the order of a net's scores.

    tench                           labels.txt of `data lmdb`, and most others
    n01440764 tench, Tinca tinca    synset_words.txt of Caffe; ``imagenet`` is that

A label is its whole line, as Caffe's own classification example shows it: two of ImageNet's
classes are 'crane', and only their ids tell them apart.
"""

from __future__ import annotations

import os
from pathlib import Path

from resnet_proto.errors import ResNetProtoError, check_kind, check_whole
from resnet_proto.files import unreadable
from resnet_proto.words import counted

IMAGENET = "imagenet"
"""The labels that come with this package, by name."""
FILE = Path(__file__).with_name("imagenet.txt")
"""WordNet's ids and words of ImageNet's classes; imagenet.LICENSE beside it says whose they are."""
MAX_BYTES = 1 << 24
"""Of a file of labels: ImageNet's 21,841 classes take less than one megabyte."""


def read_labels(source: str | os.PathLike[str], n_classes: int | None = None) -> tuple[str, ...]:
    """The name of each class, in the order of a net's scores.

    Args:
        source: a file, UTF-8, one label a line; or ``imagenet``. Blank lines at its end do not
            count. Where every line is in single quotes they are taken off (synset.txt of
            shicai/MobileNet-Caffe).
        n_classes: how many the net has; None takes any number.

    Raises:
        ResNetProtoError: the file is not there, empty, no text in UTF-8, too large, has a blank
            line between others, or not as many labels as the net has classes.
    """
    check_kind("source", source, (str, os.PathLike), f"a file, or '{IMAGENET}'")
    if n_classes is not None:
        check_whole("n_classes", n_classes, "how many classes the net has")
    labels = lines_of(FILE if source == IMAGENET else Path(source))
    if n_classes is not None and len(labels) != n_classes:
        hint = f"give the file of the classes the net was trained for, {counted(n_classes, 'line')}"
        if len(labels) == n_classes + 1:
            hint += "; is the first line a head, or the background of other frameworks?"
        raise ResNetProtoError(
            f"{source}: {counted(len(labels), 'label')}, and the net has "
            f"{counted(n_classes, 'class', 'classes')}; {hint}"
        )
    return labels


def lines_of(path: Path) -> tuple[str, ...]:
    """The lines of a file of labels."""
    try:
        if path.exists() and not path.is_file():  # opening a FIFO would have us wait
            raise ResNetProtoError(f"{path}: labels have to be in a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ResNetProtoError(
            f"{unreadable(path, error)}; '{IMAGENET}' stands for ImageNet's 1,000 labels"
        ) from None
    if len(content) > MAX_BYTES:
        raise ResNetProtoError(f"{path}: more than {MAX_BYTES:,} bytes; is it a file of labels?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ResNetProtoError(f"{path}:{number}: not UTF-8; save the labels as UTF-8") from None
    if "\0" in text:
        raise ResNetProtoError(f"{path}: not text; expected one label per line")
    # Not splitlines(): a label may hold what Unicode takes for the end of a line.
    labels = [line.strip() for line in text.rstrip().split("\n")]
    if labels == [""]:
        raise ResNetProtoError(f"{path}: no label is in it; expected one per line")
    if "" in labels:
        raise ResNetProtoError(
            f"{path}:{labels.index('') + 1}: a blank line between labels; each line is a class"
        )
    if all(len(label) > 2 and label[0] == label[-1] == "'" for label in labels):
        labels = [label[1:-1].replace("''", "'") for label in labels]
    return tuple(labels)
