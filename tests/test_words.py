"""Words, and how wide a terminal shows them."""

import ctypes
import locale

import pytest

from resnet_proto.report.inspect import columns
from resnet_proto.words import columns_of, padded


@pytest.fixture
def wcswidth():
    """What the C library says that a text takes; it needs to know that texts are Unicode."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        yield lambda text: ctypes.CDLL(None).wcswidth(ctypes.c_wchar_p(text), len(text))
    except (locale.Error, AttributeError):
        pytest.skip("no C library with wcswidth and a locale C.UTF-8")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("res2a", 5), ("卷积1", 5), ("畳み込み", 8), ("컨볼루션", 8), ("ﾌﾟﾙ", 3), ("\uff32\uff2c", 4),
     ("cafe\u0301", 4), ("a\u20dd", 1), ("\U0001f408", 2), ("±π", 2), ("слой", 4), ("", 0)],
)  # fmt: skip
def test_columns_of_a_terminal(text, columns, wcswidth):
    assert columns_of(text) == columns == wcswidth(text)
    assert columns_of(padded(text, 9)) == 9
    assert padded(text, 9, right=True).endswith(text)


def test_columns_stand_below_each_other():
    lines = list(columns([("name", "n"), ("卷积", "1"), ("e\u0301\x07", "22")], left=1))

    assert lines == ["name    n", "-----  --", "卷积    1", "e\u0301\\x07  22"]
