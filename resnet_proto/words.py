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


def columns_of(text: str) -> int:
    """How many columns a terminal gives a text.

    Two for a letter of East Asia or an emoji, none for a mark on the letter before it; of those
    that terminals disagree about (Unicode calls them ambiguous), one. Source: Unicode's annex 11.
    """
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    marks = ("Mn", "Me")
    return sum(0 if category(c) in marks else 1 + (east_asian_width(c) in "WF") for c in text)


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """The text with spaces behind it, or with ``right`` before it, up to so many columns."""
    space = " " * (columns - columns_of(text))
    return space + text if right else text + space


def in_three_digits(n: float) -> str:
    """``9.99``, ``10.0``, ``100``; what is larger is rounded to a whole number."""
    return f"{n:.0f}" if n >= 99.95 else f"{n:.1f}" if n >= 9.995 else f"{n:.2f}"


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
