"""Models that others have released, and how they are recognised."""

import hashlib
import re

import click
import numpy as np
import pytest
from click.testing import CliRunner
from drawn_releases import DRAWN, STRUCTURES, of_net

from resnet_proto.build import deploy_net
from resnet_proto.cli import main
from resnet_proto.cli.image_options import image_options
from resnet_proto.evaluate import labels, released
from resnet_proto.evaluate.released import Release, known_release, releases, structure
from resnet_proto.formats import convert, load, save
from resnet_proto.layers import count, make_layer
from resnet_proto.net import Net
from resnet_proto.preprocess import PRESETS
from resnet_proto.presets import preset
from resnet_proto.prototxt import read_prototxt
from resnet_proto.weights import Weights, random_weights

BY_NAME = {release.name: release for release in releases()}


def weights_of(layers):
    """Weights of these names and shapes, all one zero in memory."""
    return Weights.of({
        f"{name}.{number}": np.broadcast_to(np.float32(0), shape)
        for name, shapes in layers.items() for number, shape in enumerate(shapes)
    })  # fmt: skip


# ---- the table


@pytest.mark.parametrize("release", releases(), ids=lambda release: release.name)
def test_rows_hold_together(release):
    assert release.file.endswith(".caffemodel") or not release.file
    assert "." in release.page.split("/")[0]
    assert re.fullmatch("[0-9a-f]{64}|", release.sha256)
    assert re.fullmatch("[0-9a-f]{40}|", release.sha1)
    assert bool(release.digests) == bool(release.sha256 or release.sha1)
    assert release.sha256 or release.sha1 or release.structure
    assert release.labels in ("", labels.IMAGENET)
    assert release.image.channels == "BGR"
    if release.error:
        top1, top5 = release.error
        assert 0 < top5 < top1 < 100


def test_names_files_and_digests_are_of_one_each():
    for of in ("name", "file", "sha256", "sha1"):
        values = [value for release in releases() if (value := getattr(release, of))]
        assert len(values) == len(set(values)), of


def test_structures_are_those_drawn_from_the_papers():
    drawn = {r.name: r.structure for r in releases() if r.structure and r.name != "open_nsfw"}

    assert drawn == STRUCTURES


@pytest.mark.parametrize("name", [name for name in DRAWN if BY_NAME[name].size])
def test_drawings_have_as_many_values_as_the_file(name):
    """The published size: the rest are names, and what each layer says, 100 to 400 bytes each."""
    layers = DRAWN[name][-1]

    values = 4 * sum(count(shape) for shapes in layers.values() for shape in shapes)
    assert 100 < (BY_NAME[name].size - values) / len(layers) < 400


@pytest.mark.parametrize(
    ("name", "megabytes"),
    [
        ("SENet-154", 440), ("MobileNet", 16.2), ("ResNeXt-50 32x4d", 95.8),
        ("ResNeXt-101 32x4d", 169.1), ("ResNeXt-101 64x4d", 319.2),
    ],
)  # fmt: skip
def test_drawings_are_as_large_as_their_pages_say(name, megabytes):
    """Where no size in bytes is published, but one in MB (of 1,048,576 bytes)."""
    (layers,) = DRAWN[name]

    values = 4 * sum(count(shape) for shapes in layers.values() for shape in shapes)
    assert BY_NAME[name].size == 0
    assert values / 2**20 == pytest.approx(megabytes, abs=0.1)


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_the_authors_deploy_nets(depth, released_dir):
    net = read_prototxt((released_dir / f"ResNet-{depth}-deploy.prototxt").read_text())

    assert (structure(of_net(net).items()),) == BY_NAME[f"ResNet-{depth}"].structure


# ---- how they are recognised


def test_open_nsfw_itself(half_width):
    net, model = half_width
    with load(model) as weights:
        found = known_release(None, weights)
        with_net = known_release(read_prototxt(net.read_text()), weights)

    assert found == with_net
    assert (found.name, found.found, found.preset) == ("open_nsfw", "sha256", "open-nsfw")
    assert found.image == PRESETS["open-nsfw"]


def test_open_nsfw_converted(half_width, tmp_path):
    """It is another file then; and with one weight of another shape it is none."""
    _, model = half_width
    convert(model, tmp_path / "half.npz")
    with load(tmp_path / "half.npz") as weights:
        found = known_release(None, weights)
        arrays = dict(weights)
    arrays["fc_nsfw.weight"] = arrays["fc_nsfw.weight"][:, 1:]

    assert (found.name, found.found) == ("open_nsfw", "structure")
    assert known_release(None, Weights.of(arrays)) is None


@pytest.mark.parametrize("name", [name for name in DRAWN if not BY_NAME[name].first])
def test_structures(name):
    """Whatever the order of layers and blobs, and with the axes that old files have."""
    layers = DRAWN[name][-1]
    turned = {
        key: [(1,) * (4 - len(shape)) + shape for shape in shapes[::-1]]
        for key, shapes in reversed(layers.items())
    }

    for form in (layers, turned):
        found = known_release(None, weights_of(form))
        assert (found.name, found.found) == (name, "structure")


def test_a_net_says_which_layers_count():
    """GoogLeNet's other classifiers, or anything else in the file, are not the deploy net's."""
    layers = {**DRAWN["BVLC GoogLeNet"][0], "more": [(3, 7)]}
    names = [*DRAWN["BVLC GoogLeNet"][0], "relu"]
    net = Net("deploy", tuple(make_layer(name, "ReLU", ("x",), ("x",)) for name in names))

    assert known_release(None, weights_of(layers)) is None
    assert known_release(net, weights_of(layers)).name == "BVLC GoogLeNet"


def test_two_of_one_structure():
    """AlexNet normalises before it pools; a file without those layers does not tell."""
    from nets import alexnet, caffenet

    weights = weights_of(DRAWN["BVLC AlexNet"][0])

    assert known_release(alexnet.net(), weights).name == "BVLC AlexNet"
    assert known_release(caffenet.net(), weights).name == "BVLC CaffeNet"
    assert known_release(None, weights) is None


def test_ours_of_the_same_names():
    """A net of ours before it is trained: names and shapes say no more."""
    net = deploy_net(preset("resnet-50"))
    found = known_release(net, random_weights(net))

    assert (found.name, found.found) == ("ResNet-50", "structure")
    assert known_release(None, random_weights(deploy_net(preset("resnet-18")))) is None


@pytest.fixture
def table(monkeypatch, tmp_path):
    """A file of 88 values, and a table with one release of its size."""
    path = tmp_path / "own.npz"
    save(path, Weights.of({"fc.weight": np.zeros((8, 10), "f4"), "fc.bias": np.ones(8, "f4")}))
    content = path.read_bytes()

    def put(**fields):
        row = Release(
            "own", "own.npz", "here.org", PRESETS["vgg"], **{"size": len(content), **fields}
        )
        monkeypatch.setattr(released, "releases", lambda: (row,))
        with load(path) as weights:
            found = known_release(None, weights)
            return found and found.found

    put.sha256 = hashlib.sha256(content).hexdigest()
    put.sha1 = hashlib.sha1(content).hexdigest()
    put.structure = (structure([("fc", [(8, 10), (8,)])]),)
    return put


def test_digests(table):
    """Which is said, and that another file of the size is none."""
    assert table(sha256=table.sha256, sha1="0" * 40) == "sha256"
    assert table(sha1=table.sha1) == "sha1"
    assert table(sha1="0" * 40) is None
    assert table(sha256="0" * 64, structure=table.structure) == "structure"
    assert table(size=0, sha256=table.sha256, structure=table.structure) == "sha256"


def test_a_file_is_read_only_where_it_may_be_the_one(table, monkeypatch):
    def refuse(*_):
        raise AssertionError("the file is read")

    monkeypatch.setattr(hashlib, "file_digest", refuse)

    assert table(size=7, sha256=table.sha256) is None
    assert table(size=7, sha256=table.sha256, structure=table.structure) == "structure"
    assert table(size=0, sha256=table.sha256) is None
    with pytest.raises(AssertionError):
        table(sha256=table.sha256)


# ---- the command


def test_inspect_says_it(half_width, tmp_path):
    _, model = half_width
    text = CliRunner().invoke(main, ["inspect", str(model)])
    piped = CliRunner().invoke(main, ["inspect", "-"], input=model.read_bytes())

    assert text.stdout.splitlines()[-1] == (
        "known: open_nsfw of github.com/yahoo/open_nsfw (the file itself, by its sha256); images: "
        "--preprocess open-nsfw"
    )
    assert "(names and shapes are its; the weights may be others)" in piped.stdout
    save(tmp_path / "x.npz", Weights.of({"fc.weight": np.zeros((2, 3), "f4")}))
    other = CliRunner().invoke(main, ["inspect", str(tmp_path / "x.npz")])
    assert "known:" not in other.stdout


def test_options_are_what_a_command_takes():
    """Those of each release, in `forward`, give its image options."""
    seen = []

    @click.command()
    @image_options
    def command(image):
        seen.append(image)

    for release in releases():
        result = CliRunner().invoke(command, release.options.split())
        assert result.exit_code == 0, result.output

    assert seen == [release.image for release in releases()]
