"""Words: what prototxt spells without quotes, and what messages and tables have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

LEAST = 9
"""Letters of a text that the narrowest terminal shows."""


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


def shortened(text: str, columns: int) -> str:
    """A text with its middle left out, if it takes more columns of a terminal."""
    if columns_of(text) <= columns:
        return text
    end = (columns - 1) // 2
    before, after = text[: columns - 1 - end], text[len(text) - end :]
    while columns_of(before) + columns_of(after) >= columns:
        before, after = (before[:-1], after) if len(before) > len(after) else (before, after[1:])
    return f"{before}\N{HORIZONTAL ELLIPSIS}{after}"


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """How many columns of a terminal each column of cells takes."""
    return [max(map(columns_of, column)) for column in zip(*rows, strict=True)]


def line_width(wide: Sequence[int]) -> int:
    """How many a line of such columns takes, with what is between them."""
    return sum(wide) + 2 * (len(wide) - 1)


def columns(
    rows: Sequence[Sequence[str]],
    ends: Sequence[str] = (),
    *,
    left: int,
    rules: Sequence[int] = (1,),
    width: int | None = None,
) -> Iterator[str]:
    """Rows of cells as the lines of a table.

    Args:
        rows: the cells, the first row a head. They are escaped here, so that columns are as wide
            as what is shown.
        ends: texts of any length behind the rows.
        left: how many columns are texts, which begin at the left; the others are figures.
        rules: the rows that a line is drawn above.
        width: of a terminal, which the lines then fit if they can: the longest texts give room, all
            but the last column of them, then the gaps. ``ends`` may be longer.
    """
    rows = [tuple(map(printable, row)) for row in rows]
    ends = list(map(printable, ends)) or [""] * len(rows)
    wide = widths(rows)
    end_wide = [columns_of(ends[0])] if ends[0] else []
    over = 0 if width is None else line_width([*wide, *end_wide]) - width
    texts = range(max(1, left - 1))
    while over > 0 and max(wide[i] for i in texts) > LEAST:
        wide[max(texts, key=wide.__getitem__)] -= 1
        over -= 1
    gap = " " if over > 0 else "  "
    for i, (row, end) in enumerate(zip(rows, ends, strict=True)):
        if i in rules:
            yield gap.join("-" * n for n in (*wide, *end_wide))
        cells = (padded(shortened(row[j], n), n, right=j >= left) for j, n in enumerate(wide))
        yield gap.join([*cells, end]).rstrip()


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
