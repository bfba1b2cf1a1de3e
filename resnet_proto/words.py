"""Words: what prototxt spells without quotes, and what messages and tables have in common."""


class Word(str):
    """An enum's name, or a value of an unknown field exactly as it was spelled."""

    __slots__ = ()


def printable(line: str) -> str:
    """The line with escapes for what a terminal would obey or could not show.

    Names of layers and blobs come from files and hold anything.
    """
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def counted(n: int, what: str) -> str:
    """A number of things: ``1 layer``, ``1,234 layers``."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
