r"""Prototxt text -> a plain tree, by the schema, as protobuf's C++ parser takes it.

    text -> TOKEN -> tokens -> Parser -> {"name": "LeNet", "layer": ({...}, {...})}

Caffe reads its text with that parser, which differs from Python's text_format: it takes
``2F`` and ``- 2``, and refuses ``+4``, a no-break space, and a field that is set twice.
Tokens are plain strings; where one stands is computed only for an error.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Callable
from difflib import get_close_matches
from functools import cached_property
from typing import Any, NamedTuple

from resnet_proto.errors import PrototxtError
from resnet_proto.layers import REGISTRY, normal
from resnet_proto.schema import MAINLINE_TYPES, FieldType, fields, required
from resnet_proto.words import Word

# What tokenizer.cc skips and what it takes as one token. A comment ends at a line feed, not
# at a carriage return. A string that is not closed takes the rest of its line, so that
# no character is looked at more than twice.
STRING = r"""
    " (?: [^"\\\n\0]++ | \\[^\n\0] )*+ " | ' (?: [^'\\\n\0]++ | \\[^\n\0] )*+ '
"""
TOKEN = re.compile(
    rf"""
    [ \t\n\v\f\r]*+ (?: \#[^\n\0]*+ [ \t\n\v\f\r]*+ )*+
    ( [A-Za-z_][A-Za-z0-9_]*+
    | {STRING}
    | ["'] [^\n\0]*+
    | \.?[0-9] (?: [eE][+-] | [A-Za-z0-9_.] )*+
    | .
    | \Z
    )
    """,
    re.VERBOSE | re.DOTALL,
)
CLOSED = re.compile(STRING, re.VERBOSE)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
INTEGER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
DECIMAL = re.compile(r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
ESCAPE = re.compile(
    rb"""
    \\ (?: ([abfnrtv\\?'"])
    | ([0-7]{1,3})
    | x ([0-9a-fA-F]{1,2})
    | (?: u | U0000 ) ([dD][89abAB][0-9a-fA-F]{2}) \\u ([dD][c-fC-F][0-9a-fA-F]{2})
    | u ([0-9a-fA-F]{4})
    | U (00[01][0-9a-fA-F]{5})
    | (.?) )
    """,
    re.VERBOSE | re.DOTALL,
)
PLAIN_ESCAPES = dict(zip(b"abfnrtv\\?'\"", b"\a\b\f\n\r\t\v\\?'\"", strict=True))
LINE_END = re.compile(r"\r\n?|\n")
QUOTES = ("'", '"')
CLOSERS = {"{": "}", "<": ">"}
LIMITS = {"int32": 31, "int64": 63, "uint32": 32, "uint64": 64}
TRUE = {"true", "True", "t"}
FALSE = {"false", "False", "f"}
LAYER_MESSAGES = {"LayerParameter", "V1LayerParameter"}
LAYERS = {"layer", "layers"}
"""What begins a layer: inside another one it says that a brace is missing."""
MAX_DEPTH = 100
"""How deep unknown messages may be nested; the known ones end by themselves."""
MAX_SHOWN = 100
"""How much of a line an error shows."""

Values = tuple[Any, int]
"""What a text sets, and the token after it."""


def parse(
    text: str,
    message: str,
    *,
    source: str = "<text>",
    lenient: bool = False,
    warnings: list[str] | None = None,
) -> dict[str, Any]:
    """The fields that ``text`` sets, as a tree: see ``Layer.fields``.

    A field that the schema lacks is kept if its layer's type is not known and its name ends in
    ``_param``, as a tuple of what was spelled: ``Word`` for a scalar, a dict for a message.

    Args:
        text: bytes that are no UTF-8 stand in it as ``surrogateescape`` leaves them.
        message: the schema's name of the message that it holds, ``NetParameter``.
        source: what errors call it.
        lenient: keep unknown fields everywhere.
        warnings: where to say what was kept so.

    Raises:
        PrototxtError: Caffe would refuse it; the message holds line, column and the line.
    """
    return Parser(text, source, lenient, [] if warnings is None else warnings).parse(message)


class Unknown(NamedTuple):
    """A field that the schema lacks: its name's token, its message, and the open blocks."""

    at: int
    message: str
    open: list[tuple[str, int]]


class Parser:
    """One text on its way to a tree; positions are indices of tokens."""

    def __init__(self, text: str, source: str, lenient: bool, warnings: list[str]) -> None:
        self.text = text
        self.source = source
        self.lenient = lenient
        self.warnings = warnings
        self.tokens: list[str] = TOKEN.findall(text)
        self.root = ""
        self.open: list[tuple[str, int]] = []  # message and name token of each open block
        self.layer: dict[str, Any] | None = None  # the layer that is being read
        self.unknown: list[Unknown] = []  # its unknown fields, until its type is seen

    def parse(self, message: str) -> dict[str, Any]:
        """The whole text as one message."""
        try:
            self.text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise PrototxtError(
                f"{self.source}: character {error.start} is half of a surrogate pair"
            ) from None
        self.root = message
        tree: dict[str, Any] = self.message(message, 0, "")[0]
        return tree

    # ---- messages

    def message(self, message: str, at: int, closer: str) -> Values:
        """The fields up to ``closer``, which ends the text if it is empty."""
        tokens, known = self.tokens, fields(message)
        tree: dict[str, Any] = {}
        many: dict[str, list[Any]] = {}
        if message == "LayerParameter":
            self.layer = tree
        while (name := tokens[at]) != closer:
            field = known.get(name)
            if field is None:
                at = self.unknown_field(message, tree, many, at)
            elif field.repeated:
                if name not in many:
                    tree[name] = many[name] = []
                at = self.repeated(message, field, many[name], at)
            elif name in tree:
                raise self.error(at, f"{name} is set twice in {message}; keep one of the two")
            else:
                tree[name], at = self.single(message, field, at)
            if tokens[at] in (";", ","):
                at += 1
        for name, values in many.items():
            if values:
                tree[name] = tuple(values)
            else:
                del tree[name]
        for name in required(message):
            if name not in tree:
                raise self.error(at, f"{message} needs {name}, which is not set")
        if message == "LayerParameter":
            for found in self.unknown:
                self.judge(found, tree.get("type", ""))
            self.unknown.clear()
            self.layer = None
        return tree, at + 1

    def single(self, message: str, field: FieldType, at: int) -> Values:
        """The value of a field whose name is at ``at``."""
        name = at
        at += 1
        if field.kind == "message":
            if self.tokens[at] == ":":
                at += 1
            return self.block(field.message, name, at)
        if self.tokens[at] != ":":
            raise self.error(at, f"expected ':' after {self.tokens[name]}, got {self.seen(at)}")
        return READ[field.kind](self, field, name, at + 1)

    def repeated(self, message: str, field: FieldType, values: list[Any], at: int) -> int:
        """Add what stands after the name at ``at``: one value, or a list in brackets."""
        tokens, name, is_message = self.tokens, at, field.kind == "message"
        at += 1
        if tokens[at] == ":":
            at += 1
        elif not is_message:
            raise self.error(at, f"expected ':' after {tokens[name]}, got {self.seen(at)}")
        in_list = tokens[at] == "["
        if in_list:
            at += 1
            if tokens[at] == "]":
                return at + 1
        while True:
            if is_message:
                value, at = self.block(field.message, name, at)
            else:
                value, at = READ[field.kind](self, field, name, at)
            values.append(value)
            if not in_list:
                return at
            if tokens[at] == "]":
                return at + 1
            if tokens[at] != ",":
                raise self.error(at, f"expected ',' or ']', got {self.seen(at)}")
            at += 1

    def block(self, message: str, name: int, at: int) -> Values:
        """A message in braces, whose field's name is the token ``name``."""
        closer = CLOSERS.get(self.tokens[at])
        if closer is None:
            raise self.error(at, f"expected '{{' after {self.tokens[name]}, got {self.seen(at)}")
        self.open.append((message, name))
        values = self.message(message, at + 1, closer)
        self.open.pop()
        return values

    # ---- fields that the schema lacks

    def unknown_field(
        self, message: str, tree: dict[str, Any], many: dict[str, list[Any]], at: int
    ) -> int:
        """Keep a field as it is spelled; whether it may be kept is judged by the layer's type."""
        name = self.name(at)
        found = Unknown(at, message, self.open.copy())
        if self.layer is None:
            self.judge(found, "")
        elif "type" in self.layer:
            self.judge(found, self.layer["type"])
        else:
            self.unknown.append(found)
        values, at = self.verbatim(at, 0)
        if name not in many:
            tree[name] = many[name] = []
        many[name].extend(values)
        return at

    def judge(self, found: Unknown, type: str) -> None:
        """Take, warn of or refuse an unknown field, by its name and the type of its layer."""
        name = self.tokens[found.at]
        own = found.message == "LayerParameter" and name.endswith("_param")
        if own and type and type not in MAINLINE_TYPES and type not in REGISTRY:
            return
        problem = f"{found.message} has no field '{name[:MAX_SHOWN]}'"
        nested = name in LAYERS and any(message in LAYER_MESSAGES for message, _ in found.open)
        if self.lenient and not nested:
            self.warnings.append(self.at(found.at, f"{problem}; kept as it is"))
            return
        known = fields(found.message)
        nearest = get_close_matches(name[:MAX_SHOWN], known, n=3) or sorted(known)[:8]
        advice = f"nearest: {', '.join(nearest)}; --lenient keeps a field of a fork"
        around = [self.root, *(message for message, _ in found.open[:-1])]
        if found.open and any(name in fields(message) for message in around):
            opened = found.open[-1][1]
            advice = (
                f"is a '}}' missing for the block '{self.tokens[opened]}' "
                f"opened on line {self.line(opened)}?"
            )
        elif not found.open and self.root == "NetParameter":
            advice = self.other_text(found.at) or advice
        raise self.error(found.at, f"{problem}; {advice}")

    def other_text(self, at: int) -> str:
        """What the text is, if the field at ``at`` is no net's; empty if it may be a net."""
        tokens = self.tokens
        if tokens[at] in fields("SolverParameter"):
            for i in range(len(tokens) - 2):
                if tokens[i] in ("net", "train_net") and is_quoted(tokens[i + 2]):
                    return f"this is a solver; its net is in {one_sign_each(tokens[i + 2])}"
            return "this is a solver; give its net"
        return "" if at else "this is not the prototxt of a net; that begins with name: or layer {"

    def verbatim(self, at: int, depth: int) -> tuple[list[Any], int]:
        """What stands after the unknown name at ``at``: as many values as it spells."""
        tokens, name = self.tokens, at
        at += 1
        colon = tokens[at] == ":"
        at += colon
        if tokens[at] in CLOSERS:
            value, at = self.verbatim_block(name, at, depth)
            return [value], at
        if not colon:
            raise self.error(at, f"expected ':' or '{{' after {tokens[name]}, got {self.seen(at)}")
        if tokens[at] != "[":
            value, at = self.verbatim_scalar(at)
            return [value], at
        values: list[Any] = []
        at += 1
        while tokens[at] != "]":
            if tokens[at] in CLOSERS:
                value, at = self.verbatim_block(name, at, depth)
            else:
                value, at = self.verbatim_scalar(at)
            values.append(value)
            if tokens[at] == "," and tokens[at + 1] != "]":
                at += 1
            elif tokens[at] != "]":
                raise self.error(at, f"expected ',' or ']', got {self.seen(at)}")
        return values, at + 1

    def verbatim_block(self, name: int, at: int, depth: int) -> Values:
        """A message of unknown type: a dict of tuples."""
        tokens, closer = self.tokens, CLOSERS[self.tokens[at]]
        if depth == MAX_DEPTH:
            raise self.error(at, f"messages are nested deeper than {MAX_DEPTH}")
        self.open.append((tokens[name], name))
        many: dict[str, list[Any]] = {}
        at += 1
        while tokens[at] != closer:
            field = self.name(at)
            values, at = self.verbatim(at, depth + 1)
            many.setdefault(field, []).extend(values)
            if tokens[at] in (";", ","):
                at += 1
        self.open.pop()
        return {field: tuple(values) for field, values in many.items() if values}, at + 1

    def verbatim_scalar(self, at: int) -> Values:
        """One value as it is spelled, checked no further than Caffe's tokenizer does."""
        tokens, start = self.tokens, at
        if is_quoted(tokens[at]):
            while is_quoted(tokens[at]):
                unquote(self, at)
                at += 1
            return Word(" ".join(tokens[start:at])), at
        if tokens[at] == "-":
            at += 1
        token = tokens[at]
        if not any(kind.fullmatch(token) for kind in (NAME, INTEGER, DECIMAL)):
            raise self.error(at, f"expected a value, got {self.seen(at)}")
        return Word("".join(tokens[start : at + 1])), at + 1

    # ---- errors

    def name(self, at: int) -> str:
        """The name of a field, where nothing else may stand."""
        token = self.tokens[at]
        if NAME.fullmatch(token):
            return token
        if self.open and (not token or token in CLOSERS.values()):
            opened = self.open[-1][1]
            raise self.error(
                opened,
                f"the block '{self.tokens[opened]}' that begins here is not closed; "
                f"line {self.line(at)} has {self.seen(at)} instead",
            )
        if token in CLOSERS.values():
            raise self.error(at, f"'{token}' closes no block; remove it, or find the one too many")
        raise self.error(at, f"expected the name of a field, got {self.seen(at)}")

    def seen(self, at: int) -> str:
        """A token as an error shows it."""
        token = self.tokens[at]
        if not token:
            return "the end of the text"
        if token[0] in QUOTES and not is_quoted(token):
            return f"a string without its closing {token[0]} (it must end on its line)"
        if token == "\ufeff":
            return "a byte order mark; save the file as UTF-8 without it"
        if len(token) > MAX_SHOWN // 2:
            token = token[: MAX_SHOWN // 2] + "..."
        return one_sign_each(token) if is_quoted(token) else f"'{one_sign_each(token)}'"

    @cached_property
    def offsets(self) -> list[int]:
        """Where each token begins in the text."""
        return [token.start(1) for token in TOKEN.finditer(self.text)]

    @cached_property
    def lines(self) -> list[int]:
        """Where each line begins in the text."""
        return [0, *(end.end() for end in LINE_END.finditer(self.text))]

    def line(self, at: int) -> int:
        """The line of a token, from 1."""
        return bisect_right(self.lines, self.offsets[at])

    def at(self, at: int, problem: str) -> str:
        """The problem with its place before it."""
        line = self.line(at)
        column = self.offsets[at] - self.lines[line - 1] + 1
        return f"{self.source}:{line}:{column}: {problem}"

    def error(self, at: int, problem: str) -> PrototxtError:
        """The problem with its place, the line, and a caret below it."""
        offset = self.offsets[at]
        first = max(self.lines[self.line(at) - 1], offset - MAX_SHOWN // 2)
        line = LINE_END.split(self.text[first : first + MAX_SHOWN], maxsplit=1)[0]
        return PrototxtError(
            f"{self.at(at, problem)}\n{one_sign_each(line)}\n{' ' * (offset - first)}^"
        )


def one_sign_each(text: str) -> str:
    """The text as it stands above a caret: what a terminal would not show as one sign is one."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in text)


def is_quoted(token: str) -> bool:
    """Whether the token is a whole string."""
    if len(token) < 2 or token[0] not in QUOTES or token[-1] != token[0]:
        return False
    return "\\" not in token or CLOSED.fullmatch(token) is not None


# ---- one value of each kind: the tokens at ``at`` -> value and where the next token is


def read_string(parser: Parser, field: FieldType, name: int, at: int) -> Values:
    """Strings side by side are one."""
    tokens = parser.tokens
    token = tokens[at]
    if not is_quoted(token):
        raise parser.error(
            at, f"expected a quoted string for {tokens[name]}, got {parser.seen(at)}"
        )
    if "\\" not in token and tokens[at + 1][:1] not in QUOTES:
        return token[1:-1], at + 1
    parts = []
    while is_quoted(tokens[at]):
        parts.append(unquote(parser, at))
        at += 1
    return b"".join(parts).decode("utf-8", "surrogateescape"), at


def read_bytes(parser: Parser, field: FieldType, name: int, at: int) -> Values:
    """A string, as bytes."""
    value, at = read_string(parser, field, name, at)
    return value.encode("utf-8", "surrogateescape"), at


def unquote(parser: Parser, at: int) -> bytes:
    r"""What a quoted token means. Escapes stand for bytes, ``\u`` for characters."""

    def byte(match: re.Match[bytes]) -> bytes:
        plain, octal, hexadecimal, high, low, short, long, wrong = match.groups()
        if wrong is not None:
            shown = one_sign_each(match[0].decode("utf-8", "replace"))
            raise parser.error(at, f"'{shown}' is not an escape; a backslash is spelled '\\\\'")
        if plain:
            return bytes([PLAIN_ESCAPES[plain[0]]])
        if octal or hexadecimal:
            return bytes([int(octal, 8) & 255 if octal else int(hexadecimal, 16)])
        code = int(high or short or long, 16)
        if low:
            code = 0x10000 + (code - 0xD800) * 0x400 + int(low, 16) - 0xDC00
        if code > sys.maxunicode:
            return match[0]  # as C++ does
        return chr(code).encode("utf-8", "surrogatepass")

    return ESCAPE.sub(byte, parser.tokens[at][1:-1].encode("utf-8", "surrogateescape"))


def read_integer(parser: Parser, field: FieldType, name: int, at: int) -> Values:
    """Decimal, hex or octal, in the range of its kind."""
    tokens = parser.tokens
    bits = LIMITS.get(field.kind, 31)
    minus = tokens[at] == "-" and not field.kind.startswith("u")
    at += minus
    token = tokens[at]
    if not INTEGER.fullmatch(token):
        what = "an integer that is not negative" if field.kind.startswith("u") else "an integer"
        raise parser.error(at, f"expected {what} for {tokens[name]}, got {parser.seen(at)}")
    if token[0] != "0":
        value = int(token) if len(token) < 30 else 1 << bits + 1
    else:
        value = int(token, 16 if token[1:2] in ("x", "X") else 8)
    if value >= (1 << bits) + minus:
        raise parser.error(at, f"{tokens[name]} takes {field.kind}; {parser.seen(at)} is too large")
    return -value if minus else value, at + 1


def read_float(parser: Parser, field: FieldType, name: int, at: int) -> Values:
    """A decimal number, ``inf`` or ``nan``; no hex and no octal."""
    tokens = parser.tokens
    minus = tokens[at] == "-"
    at += minus
    token = tokens[at]
    if DECIMAL.fullmatch(token):
        value = float(token.rstrip("fF"))
    elif token.lower() in ("inf", "infinity", "nan"):
        value = float(token)
    else:
        raise parser.error(at, f"expected a number for {tokens[name]}, got {parser.seen(at)}")
    if field.kind == "float":
        value = normal(value)
    return -value if minus else value, at + 1


def read_bool(parser: Parser, field: FieldType, name: int, at: int) -> Values:
    """A word or a number that is 0 or 1."""
    token = parser.tokens[at]
    if token in TRUE:
        return True, at + 1
    if token in FALSE:
        return False, at + 1
    if INTEGER.fullmatch(token):
        value, _ = read_integer(parser, field, name, at)
        if value < 2:
            return value == 1, at + 1
    raise parser.error(
        at, f"expected true or false for {parser.tokens[name]}, got {parser.seen(at)}"
    )


def read_enum(parser: Parser, field: FieldType, name: int, at: int) -> Values:
    """A value's name, or its number."""
    tokens = parser.tokens
    token = tokens[at]
    if token in field.values:
        return Word(token), at + 1
    if token == "-" or INTEGER.fullmatch(token):
        number, after = read_integer(parser, field, name, at)
        for word, known in field.values.items():
            if known == number:
                return Word(word), after
    raise parser.error(
        at,
        f"{tokens[name]} cannot be {parser.seen(at)}; known: {', '.join(field.values)}",
    )


READ: dict[str, Callable[[Parser, FieldType, int, int], Values]] = {
    "string": read_string,
    "bytes": read_bytes,
    "float": read_float,
    "double": read_float,
    "bool": read_bool,
    "enum": read_enum,
    **dict.fromkeys(LIMITS, read_integer),
}
