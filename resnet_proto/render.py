"""What is to be spelled -> text, through the templates.

Templates only spell: a loop over what they are given. How a single value looks
in prototxt is here, as the filter ``scalar``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_proto.errors import ResNetProtoError
from resnet_proto.layers import normal
from resnet_proto.words import Word

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE = Path(__file__).parent
ESCAPES = {
    **{code: f"\\{code:03o}" for code in (*range(0x20), 0x7F)},
    # surrogateescape: a byte that is no UTF-8
    **{0xDC00 + byte: f"\\{byte:03o}" for byte in range(0x80, 0x100)},
    **{ord(char): f"\\{letter}" for char, letter in zip('\n\r\t"\\', 'nrt"\\', strict=True)},
}
"""What a quoted string cannot hold as it is, by code point."""


def render(template: str, *, templates: str | os.PathLike[str] | None = None, **values: Any) -> str:
    """The text of a template.

    Args:
        template: its name, ``net.prototxt.j2``.
        templates: a folder whose templates go before the project's own.
        values: what it spells.

    Raises:
        ResNetProtoError: a template that is wrong or uses what it was not given.
    """
    from jinja2 import TemplateError

    if templates is not None and not Path(templates).is_dir():
        raise ResNetProtoError(f"{templates}: no such folder of templates")
    try:
        found = environment(None if templates is None else str(templates)).get_template(template)
        return found.render(once=Once(), **values)
    except Exception as error:  # a user's template may do anything
        if not isinstance(error, TemplateError) and templates is None:
            raise
        where = f"{getattr(error, 'name', None) or template}:{getattr(error, 'lineno', '')}"
        raise ResNetProtoError(f"template {where.rstrip(':')}: {error}") from None


@lru_cache
def environment(templates: str | None) -> Environment:
    """jinja2 as the templates expect it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Installed, the templates lie in the package; in a checkout, beside it.
    own = next(p for p in (PACKAGE / "templates", PACKAGE.parent / "templates") if p.is_dir())
    env = Environment(
        loader=FileSystemLoader([own] if templates is None else [templates, own]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        optimized=False,  # to fold constants takes longer than it saves
    )
    env.filters.update(scalar=scalar, entries=entries)
    return env


class Once:
    """Calls a macro once for equal arguments: a net's layers differ in names, and little else."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, macro: Callable[..., str], *arguments: Any) -> str:
        """What the macro gives."""
        key = repr(arguments)
        if key not in self.known:
            self.known[key] = macro(*arguments)
        return self.known[key]


def entries(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and value of each field, a repeated one as often as it has values."""
    for name, value in fields.items():
        if isinstance(value, tuple):
            for item in value:
                yield name, item
        else:
            yield name, value


def scalar(value: bool | int | float | str) -> str:
    """One value as Caffe's text parser reads it back."""
    if isinstance(value, str):  # nearly all are
        return str(value) if isinstance(value, Word) else quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return shortest(value) if isinstance(value, float) else str(value)


@lru_cache(maxsize=4096)
def quoted(text: str) -> str:
    """A string with quotes; a blob's name is spelled by the layers that write and read it."""
    return f'"{text.translate(ESCAPES)}"'


def shortest(value: float) -> str:
    """The fewest digits that give the same float32."""
    for digits in range(6, 9):
        text = f"{value:.{digits}g}"
        if normal(float(text)) == value:
            return text
    return f"{value:.9g}"
