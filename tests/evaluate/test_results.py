"""docs/results.md and docs/released.md: their figures are those of the data, and of each other."""

import re
import shlex
from pathlib import Path

import pytest

from resnet_proto.cli import COMMANDS, main
from resnet_proto.evaluate.released import releases
from resnet_proto.presets import PRESETS

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS.parent / "examples"
RESULTS = (DOCS / "results.md").read_text()


def tables(text):
    """Heading -> the rows of code below it, without the backticks of the first cell."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        title, _, rest = part.partition("\n")
        rows = [[cell.strip() for cell in line.strip("|").split("|")]
                for line in re.findall(r"^\| `.*\|$", rest, re.M)]  # fmt: skip
        found[title] = [[first.strip("`"), *others] for first, *others in rows]
    return found


def test_the_table_of_releases():
    """Every one, in order, with size, digests, options, error and labels."""
    rows = tables((DOCS / "released.md").read_text())["What is recognised"]

    assert [row[0] for row in rows] == [release.name for release in releases()]
    for (_, page, size, how, options, error, labels), release in zip(rows, releases(), strict=True):
        known = [key for key in ("sha256", "sha1", "structure") if getattr(release, key)]
        assert page.endswith(f"(https://{release.page})")
        assert size == (f"{release.size:,}" if release.size else "")
        assert how == ", ".join(known)
        assert options == f"`{release.options}`"
        assert error == ("{:g} / {:g}".format(*release.error) if release.error else "")
        assert labels == release.labels
    changes = (DOCS.parent / "CHANGELOG.md").read_text()
    assert f"{len(rows)} released models" in re.sub(r"\s+", " ", changes)


def figures(title, n=2):
    """First cell -> the numbers of the others, None where one is empty."""
    found = {}
    for name, *cells in tables(RESULTS)[title]:
        numbers = [re.match(r"[\d.]+", cell) for cell in cells[-n:]]
        found[name] = tuple(number and float(number[0]) for number in numbers)
    return found


def test_one_crop_is_what_the_releases_say():
    one = figures("Released models, one crop")

    ours = {release.name: release.error for release in releases()}
    assert {name: ours[name] for name in one if ours[name]} == {
        name: one[name] for name in ("ResNet-50", "ResNet-101", "ResNet-152")
    }


def test_tables_agree_where_they_say_the_same():
    """Ten crops are table 3, rounded; table 2's 34 layers are in table 3; more views are better."""
    ten = figures("Released models, ten crops")
    two, three = figures("Table 2: plain and residual"), figures("Table 3: shortcuts and depth")
    one, four = figures("Released models, one crop"), figures("Table 4: single models")

    for name, errors in ten.items():
        assert errors == pytest.approx(three[name], abs=0.051)
    assert two["34"] == (three["plain-34"][0], three["ResNet-34 A"][0])
    for name in ("ResNet-50", "ResNet-101", "ResNet-152"):
        assert one[name] > three[name] > four[name]
        assert one[name][1] > three[name][1] > four[name][1]


@pytest.mark.parametrize("depth", ["20", "32", "44", "56", "110", "1202"])
def test_parameters_of_table_6(depth):
    """As many as our presets have."""
    (stated,) = [row[2] for row in tables(RESULTS)["Table 6: CIFAR-10"]
                 if row[:2] == ["ResNet", depth]]  # fmt: skip
    digits = len(stated.partition(".")[2]) - 1

    ours = parameters(f"cifar-resnet-{depth}") / 1e6
    assert float(stated.rstrip("M")) == pytest.approx(ours, abs=0.51 * 10**-digits)


def parameters(name):
    from resnet_proto.build import deploy_net
    from resnet_proto.report.summary import summarize

    return summarize(deploy_net(PRESETS[name].spec)).parameters


def test_what_was_measured_is_what_the_examples_say():
    rows = {row[0]: row[2] for row in tables(RESULTS)["What was measured here"]}
    digits = (EXAMPLES / "digits" / "README.md").read_text()
    right = float(re.search(r"([\d.]+) % of the 450 test images are right", digits)[1])
    degradation = (EXAMPLES / "degradation" / "README.md").read_text()

    assert float(rows.pop("ResNet-20")) == pytest.approx(100 - right)
    for name, shown in rows.items():
        measured = re.search(rf"^{name} .*?([\d.]+ \+- [\d.]+)$", degradation, re.M)[1]
        assert shown.replace("±", "+-") == measured
    assert len(rows) == 4


def commands():
    """Every command of docs/results.md."""
    return re.findall(r"^    resnet-proto (\w+) (.*)", RESULTS, re.M)


@pytest.mark.parametrize(("name", "arguments"), commands(), ids=lambda text: text[:60])
def test_commands_have_these_options(name, arguments):
    """What they need is not at hand; but no option is one that the command lacks."""
    if name not in COMMANDS:
        pytest.skip(f"there is no command {name}")
    command, words = main.get_command(None, name), shlex.split(arguments)
    while hasattr(command, "commands"):
        command = command.get_command(None, words.pop(0))
    known = {option for parameter in command.params for option in parameter.opts}

    assert {word for word in words if word.startswith("--")} <= known
    presets = [words[i + 1] for i, word in enumerate(words) if word == "--preset"]
    assert set(presets) <= set(PRESETS)
