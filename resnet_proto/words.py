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


def free(name: str, taken: dict[str, int]) -> str:
    """The name, numbered from 2 on where it is taken; it is taken from now on.

    Args:
        name: as it would be.
        taken: name -> the number that was given last; 1 for a name that has none.
    """
    chosen = name
    while chosen in taken:
        taken[name] += 1
        chosen = f"{name}_{taken[name]}"
    taken[chosen] = 1
    return chosen


def counted(n: int, what: str, several: str = "") -> str:
    """A number of things: ``1 layer``, ``1,234 layers``; ``several`` is a plural without s."""
    return f"{n:,} {what if n == 1 else several or what + 's'}"
