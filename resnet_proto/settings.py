"""Dataclasses whose fields say what they hold <-> TOML, or ``field=value`` of a command line.

    table or text -> checked values -> dataclass -> TOML with a comment for each field

A field is declared by ``setting``; what it may hold is read from its annotation and from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from resnet_proto.errors import ResNetProtoError, similar

T = TypeVar("T")

KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
}
"""What an annotation admits; ``tuple[int, ...]`` is a list of it."""
NAMED = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
"""How messages call one; a list is of several."""
MAX_ITEMS = 64
"""Values that a list may have."""


def setting(
    default: Any,
    doc: str,
    *,
    one_of: tuple[Any, ...] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A field of a dataclass with what it means and what it may hold.

    Args:
        default: its value; a class makes one.
        doc: one line, for the comment in TOML and for messages.
        one_of: the only values.
        least: bounds a number, and each of a list; ``most`` likewise.
        most: see ``least``.
    """
    about = {"doc": doc, "one_of": one_of, "least": least, "most": most}
    if isinstance(default, type):
        return field(default_factory=default, metadata=about)
    return field(default=default, metadata=about)


def check(settings: Any) -> None:
    """Bring every value into its field's form: lists become tuples, whole numbers floats.

    Raises:
        ResNetProtoError: a value that its field cannot hold.
    """
    for about in fields(settings):
        value = getattr(settings, about.name)
        made: Any = about.default_factory
        if not isinstance(made, type):
            object.__setattr__(settings, about.name, checked(about, value))
        elif not isinstance(value, made):
            raise refusal(about, value, made.__name__)


def checked(about: Field[Any], value: Any) -> Any:
    """One value in the form of its field.

    Raises:
        ResNetProtoError: the field cannot hold it.
    """
    kind = kind_of(about)
    many = kind.startswith("tuple[")
    kind = kind.removeprefix("tuple[").removesuffix(", ...]")
    several = f"a list of {NAMED[kind].removeprefix('a ')}s"
    if many and isinstance(value, KINDS[kind]) and not isinstance(value, str):
        value = (value,)
    if many and (not isinstance(value, list | tuple) or len(value) > MAX_ITEMS):
        raise refusal(about, value, f"{several}, at most {MAX_ITEMS}")
    items = tuple(value) if many else (value,)
    for item in items:
        if not isinstance(item, KINDS[kind]) or (isinstance(item, bool) and kind != "bool"):
            raise refusal(about, value, several if many else NAMED[kind])
        if about.metadata["one_of"] and item not in about.metadata["one_of"]:
            raise refusal(about, value, " or ".join(map(spelled, about.metadata["one_of"])))
        least, most = about.metadata["least"], about.metadata["most"]
        if (least is not None and not item >= least) or (most is not None and not item <= most):
            bounds = (
                f"at least {least}"
                if most is None
                else f"{least} to {spelled(most).removesuffix('.0')}"
            )
            bounds = f"at most {most}" if least is None else bounds
            raise refusal(about, value, bounds)
    if kind == "float":
        items = tuple(map(float, items))
    return items if many else items[0]


def kind_of(about: Field[Any]) -> str:
    """A field's annotation as text."""
    return about.type.__name__ if type(about.type) is type else str(about.type)


def refusal(about: Field[Any], value: Any, wanted: str) -> ResNetProtoError:
    """What is wrong with a value."""
    shown = spelled(value) if isinstance(value, bool | int | float | str | list | tuple) else value
    return ResNetProtoError(
        f"{about.name} is {str(shown)[:80]}; expected {wanted} ({about.metadata['doc']})"
    )


def changed(settings: T, table: Mapping[str, Any], source: str) -> T:
    """The same settings with other values for some fields.

    Raises:
        ResNetProtoError: a field that they do not have, or a value that it cannot hold.
    """
    known = {about.name: about for about in fields(settings)}  # type: ignore[arg-type]
    values = {}
    for name, value in table.items():
        old = getattr(settings, name) if name in known else None
        if name not in known:
            near = ", ".join(meant(settings, name))
            advice = f"; did you mean {near}?" if near else similar(name, known)
            advice = advice or f"; known: {', '.join(known)}"
            raise ResNetProtoError(f"{source}: there is no field '{name}'{advice}")
        if is_dataclass(old) != isinstance(value, Mapping):
            what = "a table; set a field of it" if is_dataclass(old) else "a value, not a table"
            raise ResNetProtoError(f"{source}: '{name}' is {what}")
        values[name] = changed(old, value, f"{source}: {name}") if is_dataclass(old) else value
    try:
        return replace(settings, **values)  # type: ignore[type-var]
    except ResNetProtoError as error:
        text = str(error)
        raise ResNetProtoError(text if text.startswith(source) else f"{source}: {text}") from None


def meant(settings: Any, name: str) -> Iterator[str]:
    """The fields of another name or in tables that a name is for.

    A class says in ``MEANT`` what its fields are called elsewhere.
    """
    own = getattr(settings, "MEANT", {}).get(name, name)
    if own in names(settings):
        yield own
    for key in names(settings):
        yield from (f"{key}.{inner}" for inner in meant(getattr(settings, key), name))


def assignments(settings: Any, texts: Sequence[str]) -> dict[str, Any]:
    """What ``field=value`` sets, as a table for ``changed``; a field of a table is ``table.field``.

    Raises:
        ResNetProtoError: no ``=``, or a field that a table is asked to be.
    """
    result: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ResNetProtoError(f"--set {text}: write field=value, as in --set classes=37")
        *outer, name = (part.strip() for part in path.split("."))
        holder, table = settings, result
        for key in outer:
            holder = getattr(holder, key, None) if key in names(holder) else None
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ResNetProtoError(f"--set {text}: '{key}' is set as a value already")
        about = {f.name: f for f in fields(holder)}.get(name) if is_dataclass(holder) else None
        table[name] = value.strip() if about is None else read(kind_of(about), value.strip())
    return result


def names(settings: Any) -> list[str]:
    """The fields of a dataclass."""
    return [about.name for about in fields(settings)] if is_dataclass(settings) else []


def read(kind: str, text: str) -> Any:
    """A value as a command line spells it; the text itself where it is none of its kind."""
    if kind.startswith("tuple["):
        inner = kind.removeprefix("tuple[").removesuffix(", ...]")
        parts = text.strip("[]").split(",")
        return [read(inner, part.strip()) for part in parts if part.strip()]
    if kind == "str":
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def to_toml(settings: Any) -> str:
    """Every field with its value, and what it means as a comment; tables last."""
    return "\n".join(toml_lines(settings, "")) + "\n"


def toml_lines(settings: Any, prefix: str) -> Iterator[str]:
    """The lines of a table, then those of the tables in it."""
    for about in fields(settings):
        value = getattr(settings, about.name)
        if not is_dataclass(value):
            choice = " | ".join(map(spelled, about.metadata["one_of"]))
            yield f"# {about.metadata['doc']}{': ' + choice if choice else ''}"
            yield f"{about.name} = {spelled(value)}"
    for about in fields(settings):
        value = getattr(settings, about.name)
        if is_dataclass(value):
            yield f"\n# {about.metadata['doc']}\n[{prefix}{about.name}]"
            yield from toml_lines(value, f"{prefix}{about.name}.")


def spelled(value: Any) -> str:
    """A value as TOML spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spelled, value))}]"
    if isinstance(value, str):
        import json

        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def read_toml(text: str, source: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ResNetProtoError: it is no TOML.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ResNetProtoError(f"{source}: this is not TOML: {error}") from None
    except RecursionError:
        raise ResNetProtoError(f"{source}: values are nested too deeply") from None
