"""Everything that this project refuses, as one family of exceptions.

A message names the thing, what was expected, what came, and what to do. Only
``cli/`` turns them into exit status 1.
"""

from collections.abc import Iterable
from operator import index

MAX_NAME = 100
"""How much of a name is compared with others."""


def similar(name: str, known: Iterable[str]) -> str:
    """The names that may have been meant, as the end of a message; empty if none is like it."""
    from difflib import get_close_matches  # two milliseconds that `gen` does not need

    folded = {other.lower(): other for other in known if other}
    short = str(name)[:MAX_NAME].lower()  # a caller's name may be anything
    near = get_close_matches(short, folded, n=3)
    if not near and short:
        near = [key for key in folded if key.startswith(short) or short.startswith(key)][:3]
    return f"; did you mean {', '.join(folded[key] for key in near)}?" if near else ""


class ResNetProtoError(Exception):
    """A net, weight file or request that cannot be used as it is."""


def brief(value: object) -> str:
    """An argument in one short line."""
    return " ".join(repr(value).split())[:MAX_NAME]


def whole(value: object) -> int | None:
    """The value if it is a whole number, Python's or numpy's; else None."""
    if isinstance(value, bool):
        return None
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_whole(name: str, value: object, meaning: str, least: int = 1) -> int:
    """An argument that has to be a whole number.

    Raises:
        ResNetProtoError: it is none, or less.
    """
    number = whole(value)
    if number is None or number < least:
        raise ResNetProtoError(f"{name} is {brief(value)}; it is {meaning}, at least {least}")
    return number


def check_kind(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    """Refuse an argument that is something else.

    Raises:
        ResNetProtoError: it is, and what was expected.
    """
    if not isinstance(value, kind):
        raise ResNetProtoError(f"{name} is {brief(value)}; give {expected}")


class PrototxtError(ResNetProtoError):
    """Text that is no prototxt: the message holds file, line, column and the line itself."""


class NetError(ResNetProtoError):
    """A net whose layers do not fit together."""


class ShapeError(NetError):
    """A layer that cannot take the shapes it is given."""


class UnknownShapeError(ShapeError):
    """A data layer whose shape is in its files: it has to be handed in."""


class UnknownLayerError(NetError):
    """A layer type that is carried along, but not understood."""


class WeightsError(ResNetProtoError):
    """Weights that are missing, or do not fit the net."""


class FormatError(ResNetProtoError):
    """A weight file that is damaged, or is something else than its name says."""
