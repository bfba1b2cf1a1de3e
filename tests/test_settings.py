"""Dataclasses <-> TOML, and ``field=value``."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_proto.errors import ResNetProtoError
from resnet_proto.settings import (
    assignments,
    changed,
    check,
    read_toml,
    setting,
    to_toml,
)


@dataclass(frozen=True)
class Inner:
    text: str = setting("a", "words")

    MEANT: ClassVar = {"caption": "text"}

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Outer:
    flag: bool = setting(False, "a switch")
    number: int = setting(3, "a count", least=-5, most=10**18)
    ratio: float = setting(0.5, "a part")
    sizes: tuple[int, ...] = setting((1, 2), "several")
    parts: tuple[float, ...] = setting((), "several parts")
    inner: Inner = setting(Inner, "within")

    def __post_init__(self):
        check(self)


anything = st.builds(
    Outer,
    flag=st.booleans(),
    number=st.integers(-5, 10**18),
    ratio=st.floats(allow_nan=False),
    sizes=st.lists(st.integers(-9, 10**9), max_size=4).map(tuple),
    parts=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
    inner=st.builds(Inner, st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
)


@given(anything)
def test_print_and_read(settings):
    text = to_toml(settings)

    assert changed(Outer(), read_toml(text, "x"), "x") == settings


def test_each_field_has_its_comment():
    assert to_toml(Outer()) == (
        "# a switch\nflag = false\n# a count\nnumber = 3\n# a part\nratio = 0.5\n"
        "# several\nsizes = [1, 2]\n# several parts\nparts = []\n"
        '\n# within\n[inner]\n# words\ntext = "a"\n'
    )


def test_field_equals_value():
    texts = ("flag=true", "number = -4", "ratio=1e3", "sizes=4,5, 6", "parts=[0.5,2]",
             "inner.text=b=c, d")  # fmt: skip

    table = assignments(Outer(), texts)

    assert changed(Outer(), table, "x") == Outer(
        flag=True, number=-4, ratio=1000.0, sizes=(4, 5, 6), parts=(0.5, 2.0),
        inner=Inner("b=c, d"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number", "write field=value"),
        ("nummer=1", r"no field 'nummer'; did you mean number\?"),
        ("number=x", 'number is "x"; expected a whole number'),
        ("number=1.5", "number is 1.5; expected a whole number"),
        ("number=-6", "number is -6; expected -5 to 1000000000000000000"),
        ("flag=yes", 'flag is "yes"; expected true or false'),
        ("sizes=1,x", r'sizes is \[1, "x"\]; expected a list of whole numbers'),
        ("inner=1", "'inner' is a table; set a field of it"),
        ("text=x", "no field 'text'; did you mean inner.text"),
        ("inner.words=1", "inner: there is no field 'words'; known: text"),
        ("number.x=1", "'number' is a value, not a table"),
        ("other.x=1", "no field 'other'"),
        ("x=1", "no field 'x'; known: flag, number, ratio, sizes, parts, inner"),
        ("caption=1", r"no field 'caption'; did you mean inner.text\?"),
        ("inner.caption=1", r"no field 'caption'; did you mean text\?"),
        (" = 1", "--set  = 1: write field=value"),
    ],
)
def test_refused(text, message):
    with pytest.raises(ResNetProtoError, match=message):
        changed(Outer(), assignments(Outer(), [text]), "x")


def test_settings_in_settings():
    assert Outer(inner=Inner("b")).inner.text == "b"
    with pytest.raises(ResNetProtoError, match=r"inner is 3; expected Inner \(within\)"):
        Outer(inner=3)


def test_a_table_and_a_value_of_one_name():
    with pytest.raises(ResNetProtoError, match="'inner' is set as a value already"):
        assignments(Outer(), ["inner=1", "inner.text=2"])


@pytest.mark.parametrize("text", ["x = ", "x = [" * 100_000, "a\0b = 1"])
def test_no_toml(text):
    with pytest.raises(ResNetProtoError, match="here: "):
        read_toml(text, "here")
    assert read_toml("x = 1", "here") == {"x": 1}
