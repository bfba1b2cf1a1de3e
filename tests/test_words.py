"""Words, and how wide a terminal shows them."""

import ctypes
import locale

import pytest

from resnet_proto.words import LEAST, columns, columns_of, padded


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


ROWS = [("layer", "type", "shape", "MACs"), ("卷积" * 9, "Convolution", "1x2x30x5", "1,234,567"),
        ("a_name_of_a_layer", "ReLU", "7", ""), ("total", "", "", "1,234,567")]  # fmt: skip


@pytest.mark.parametrize("width", range(20, 80))
def test_columns_fit_a_terminal(width):
    """Texts give room as far as a letter or two of them can be read, shapes and figures none."""
    lines = list(columns(ROWS, left=3, rules=(1, 3), width=width))
    as_they_are = list(columns(ROWS, left=3, rules=(1, 3)))

    least = 2 * LEAST + len("1x2x30x5") + len("1,234,567")
    widest = max(map(columns_of, as_they_are))
    wanted = least + 3 if width < least + 6 else min(width, widest)
    assert max(map(columns_of, lines)) == wanted
    assert (lines == as_they_are) == (width >= widest)
    assert [set(line) for line in lines].count({"-", " "}) == 2
    assert all("1x2x30x5" in line and "1,234,567" in line for line in lines if "Conv" in line)
