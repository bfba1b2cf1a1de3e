"""``resnet-proto forward``: what is shown, what is saved, what is refused."""

import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from resnet_proto import forward, random_weights, read_prototxt, save
from resnet_proto.cli import main

TEXT = """
name: "tiny"
layer {
  name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 6 }
}
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def files(tmp_path):
    """Net, weights and an array in files."""
    net = read_prototxt(TEXT)
    weights = random_weights(net, 3)
    x = np.random.default_rng(3).normal(size=(2, 3, 7, 5)).astype(np.float32)
    (tmp_path / "net.prototxt").write_text(TEXT)
    save(tmp_path / "net.caffemodel", weights, net)
    np.save(tmp_path / "x.npy", x)
    return tmp_path


def call(folder, *arguments, weights="net.caffemodel"):
    """Run the command in-process; file names are below the folder."""
    places = [
        folder / a if a.endswith((".npy", ".png", ".npz")) and "=" not in a else a
        for a in map(str, arguments)
    ]
    return CliRunner().invoke(
        main, ["forward", f"{folder}/net.prototxt", "--weights", str(folder / weights)
               if weights != "random" else weights, *map(str, places)],
    )  # fmt: skip


def expected(folder, *outputs):
    net = read_prototxt(folder / "net.prototxt")
    return forward(net, random_weights(net, 3), np.load(folder / "x.npy"), outputs=outputs or None)


def test_the_outputs_are_shown(files):
    result = call(files, "--input", "x.npy")

    assert result.exit_code == 0, result.output
    head, first, *rest = result.stdout.splitlines()
    assert (head, first) == ("prob  2x6", "  image 0")
    assert rest.index("  image 1") == 5
    best = expected(files, "prob")["prob"].argsort(axis=1)[:, ::-1]
    shown = [[int(line.split()[0]) for line in rest[i : i + 5]] for i in (0, 6)]
    np.testing.assert_array_equal(shown, best[:, :5])


def test_saved_blobs_are_forwards(files):
    result = call(files, "--input", "x.npy", "--blob", "conv,fc", "--out", "out.npz")

    assert result.exit_code == 0, result.output
    with np.load(files / "out.npz") as saved:
        assert sorted(saved) == ["conv", "fc"]
        for name, value in expected(files, "conv", "fc").items():
            np.testing.assert_allclose(saved[name], value, rtol=1e-5, atol=1e-6)


def test_stdout_as_npz(files):
    result = call(files, "--input", "x.npy", "--out", "-")

    with np.load(io.BytesIO(result.stdout_bytes)) as saved:
        assert list(saved) == ["prob"]


def test_json(files):
    result = call(files, "--input", "x.npy", "--outputs", "fc", "--json")

    row = json.loads(result.stdout)["fc"]
    assert row["shape"] == [2, 6]
    assert row["max"] == pytest.approx(float(expected(files)["fc"].max()), rel=1e-5)


def test_top_values(tmp_path):
    """One image: the five largest of six, with their index."""
    (tmp_path / "net.prototxt").write_text(TEXT.replace("dim: 2 ", "dim: 1 "))
    np.save(tmp_path / "x.npy", np.ones((1, 3, 7, 5), np.float32))

    result = call(tmp_path, "--input", "x.npy", "--json", weights="random")

    assert result.exit_code == 0, result.output
    (top,) = json.loads(result.stdout)["prob"]["top"]
    values = [one["value"] for one in top]
    assert len(top) == 5
    assert values == sorted(values, reverse=True)


def test_until_shows_where_it_stops(files):
    result = call(files, "--input", "x.npy", "--until", "conv")

    assert result.stdout.startswith("conv  2x4x5x3  min 0 ")  # after its ReLU


def test_an_image_fills_the_batch(files):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(files / "photo.png")

    result = call(files, "--input", "photo.png", "--mean", "1,2,3", "--scale", "0.5",
                  "--blob", "data", "--out", "out.npz")  # fmt: skip

    assert result.exit_code == 0, result.output
    with np.load(files / "out.npz") as saved:
        wanted = (pixels[:, :, ::-1] - np.array([1, 2, 3])).transpose(2, 0, 1) / 2
        np.testing.assert_array_equal(saved["data"], np.stack([wanted, wanted]))


def photos(folder, number):
    """A folder of so many images, and a file that is none."""
    folder.mkdir()
    (folder / "notes.txt").write_text("not an image")
    pixels = np.random.default_rng(1).integers(0, 256, (number, 7, 5, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number - i:02}.png")
    return pixels[::-1, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32)  # by name, BGR


@pytest.mark.parametrize("engine", ["numpy", "float64", "torch"])
def test_a_folder_of_images(files, engine):
    """More than a batch of ten, and the last is not full: a row for each, sorted by name."""
    if engine == "torch":
        pytest.importorskip("torch")
    x = photos(files / "photos", 23)

    result = call(files, "--input", files / "photos", "--mean", "0", "--blob", "fc",
                  "--engine", engine, "--out", "fc.npy")  # fmt: skip

    assert result.exit_code == 0, result.output
    net = read_prototxt(TEXT.replace("dim: 2 ", "dim: 23 "))
    wanted = forward(net, random_weights(net, 3), x)["fc"]
    np.testing.assert_allclose(np.load(files / "fc.npy"), wanted, rtol=1e-4, atol=1e-3)


def test_images_that_are_no_batch_of_the_net(files):
    """Three where it takes two; of a folder also one, where an image alone fills the batch."""
    x = photos(files / "photos", 3)
    one = files / "photos" / "01.png"
    several = [f"--input={files}/photos/{i:02}.png" for i in (1, 2, 3)]

    for arguments, rows in ((several, 3), (several[:2], 2), ([f"--input={one}"], 2)):
        result = call(files, *arguments, "--blob", "data", "--out", "out.npz")
        assert result.exit_code == 0, result.output
        saved = np.load(files / "out.npz")["data"]
        np.testing.assert_array_equal(saved, x[:rows] if len(arguments) > 1 else x[[0, 0]])
    for name in ("02.png", "03.png"):
        (files / "photos" / name).unlink()
    result = call(files, f"--input=data={files}/photos", "--json")
    assert json.loads(result.stdout)["prob"]["shape"] == [1, 6]


def test_rows_say_which_image_they_are(files, monkeypatch):
    """In --json and in an .npz, which the other commands read; progress is on stderr."""
    monkeypatch.setattr("resnet_proto.cli.progress.EVERY", 0)
    photos(files / "photos", 12)
    names = [f"{files}/photos/{i:02}.png" for i in range(1, 13)]

    result = call(
        files, "--input", files / "photos", "--blob", "fc,data", "--out", "out.npz", "--json"
    )

    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["fc"]["images"] == answer["data"]["images"] == names
    assert "10/12 images, " in result.stderr
    assert "12/12 images, " in result.stderr
    with np.load(files / "out.npz") as archive:
        assert json.loads(archive["metadata.json"]) == {"images": names}
        assert {key: archive[key].shape[0] for key in ("fc", "data")} == {"fc": 12, "data": 12}
    same = CliRunner().invoke(main, ["diff", str(files / "out.npz"), str(files / "out.npz")])
    assert same.exit_code == 0, same.output
    call(files, "--input", names[0], "--blob", "fc", "--out", "one.npz")
    with np.load(files / "one.npz") as archive:
        assert archive.files == ["fc"]


def test_an_image_of_many_that_cannot_be_read(files):
    photos(files / "photos", 12)
    (files / "photos" / "11.png").write_text(TEXT)

    result = call(files, "--input", files / "photos", "--out", "out.npz")

    assert result.exit_code == 1
    assert "11.png: not an image" in result.stderr
    assert not (files / "out.npz").exists()


def test_a_blob_without_a_row_for_each_image(files):
    mean = """
    layer { name: "all" type: "Reshape" bottom: "fc" top: "all"
            reshape_param { shape { dim: 1 dim: -1 } } }
    """
    (files / "net.prototxt").write_text(TEXT + mean)
    photos(files / "photos", 3)

    result = call(files, "--input", files / "photos", "--blob", "all")

    assert result.exit_code == 1
    assert "blob 'all' is 1x18 for 3 images: no row for each of them" in result.stderr
    assert call(files, "--input", files / "photos", "--blob", "fc").exit_code == 0


def test_rows_that_do_not_fit_into_memory(files, monkeypatch):
    """Those of 130 images of 6 values."""
    photos(files / "photos", 130)
    for free, code in ((130 * 6 * 4 - 1, 1), (130 * 6 * 4, 0)):
        for place in ("cli.forward", "engine.planned"):  # which ask for the net's blobs
            monkeypatch.setattr(f"resnet_proto.{place}.check_room", lambda *_: None)
        monkeypatch.setattr("resnet_proto.memory.available", lambda free=free: free)
        result = call(files, "--input", files / "photos", "--blob", "fc")
        assert result.exit_code == code, result.output
        assert ("fc of 130 images take 3.05 KiB, and" in result.stderr) == bool(code)


def test_a_mean_file_in_capitals(files):
    Image.fromarray(np.full((7, 5, 3), 200, np.uint8)).save(files / "photo.png")
    with (files / "MEAN.NPY").open("wb") as file:
        np.save(file, np.array([200.0, 199.0, 198.0]))

    result = call(files, "--input", "photo.png", "--mean", f"{files}/MEAN.NPY", "--blob", "data",
                  "--json")  # fmt: skip

    row = json.loads(result.stdout)["data"]
    assert (row["min"], row["max"]) == (0, 2)


def test_input_by_name(files):
    assert call(files, "--input", f"data={files}/x.npy").exit_code == 0


def test_options_go_before_the_preset(files):
    Image.fromarray(np.full((7, 5, 3), 200, np.uint8)).save(files / "photo.png")

    result = call(files, "--input", "photo.png", "--preprocess", "open-nsfw", "--mean", "200",
                  "--crop", "7x5", "--blob", "data", "--json")  # fmt: skip

    row = json.loads(result.stdout)["data"]
    assert (row["min"], row["max"]) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "none.npy"], "none.npy: no such file"),
        (["--input", "folder.npy"], "folder.npy: cannot be read: Is a directory; give"),
        (["--input", "folder.png"], "folder.png: no file in this folder has the suffix"),
        (["--input", "net.npy"], "net.npy: not an .npy file"),
        (["--input", "nhwc.npy"], r"nhwc.npy: 2x7x5x3, input 'data' needs 2x3x7x5"),
        (["--input", "x.npy", "--blob", "cnov"], "'cnov'"),
        (["--input", "x.npy", "--until", "pool5"], "'pool5'"),
        (["--input", "text.png"], "text.png: not an image"),
        (["--input", "photo.png", "--crop", "99999"], "has more than 134,217,728 pixels"),
    ],
)
def test_refused(files, arguments, message):
    (files / "folder.npy").mkdir()
    (files / "folder.png").mkdir()
    (files / "net.npy").write_text(TEXT)
    (files / "text.png").write_text(TEXT)
    Image.fromarray(np.full((7, 5, 3), 200, np.uint8)).save(files / "photo.png")
    np.save(files / "nhwc.npy", np.load(files / "x.npy").transpose(0, 2, 3, 1))

    result = call(files, *arguments)

    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "input 'data' (2x3x7x5) is missing; give --input FILE"),
        (["--input", "x.npy", "--input", "x.npy"], "input 'data' is given twice"),
        (["--input", "x.npy", "--out", "o.csv"], "blobs are written as .npz, or one of them as"),
        (["--input", "x.npy", "--blob", "fc,prob", "--out", "o.npy"], "2 are wanted (fc, prob)"),
        (["--input", "x.npy", "--out", "-", "--json"], "leave --json out"),
        (["--input", "dato=x.npy"], "the net has the inputs data"),
        (["--input", "x.npy", "--outputs", "conv,"], "--outputs conv,: a name is empty"),
    ],
)
def test_usage(files, arguments, message):
    result = call(files, *arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_stdin_is_read_once(files):
    arguments = ["forward", "-", "--weights", "-", "--input", str(files / "x.npy")]

    result = CliRunner().invoke(main, arguments, input=TEXT)

    assert result.exit_code == 2
    assert "stdin can be read only once" in result.stderr
    arguments[3] = str(files / "net.caffemodel")
    assert CliRunner().invoke(main, arguments, input=TEXT).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mean", "1,2"],
        ["--mean", "grey"],
        ["--crop", "0"],
        ["--crop", "1x2x3"],
        ["--preprocess", "imagenet"],
        ["--engine", "tensorrt"],
        ["--channels", "HSV"],
    ],
)
def test_usage_errors(files, arguments):
    result = call(files, "--input", "x.npy", *arguments)

    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[0]}'" in result.stderr


def test_weights_of_another_net(files):
    (files / "net.prototxt").write_text(TEXT.replace("num_output: 4", "num_output: 8"))

    result = call(files, "--input", "x.npy")

    assert result.exit_code == 1
    assert "layer 'conv'" in result.stderr


MORE = """
layer {
  name: "more" type: "InnerProduct" bottom: "fc" top: "more"
  inner_product_param { num_output: 2 }
}
"""


def test_weights_with_a_layer_more(files):
    """They may be of another net that has the same names: the run goes on, and says so."""
    assert call(files, "--input", "x.npy").stderr == ""
    more = read_prototxt(TEXT + MORE)
    save(files / "more.caffemodel", random_weights(more, 3), more)

    result = call(files, "--input", "x.npy", weights="more.caffemodel")

    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("Warning: ")
    assert "more.caffemodel has weights for layer 'more', which the net lacks" in result.stderr


def test_weights_that_only_caffe_ignores(files):
    """In HDF5 it finds no layer with a slash in its name; it is read here, and no other net's."""
    (files / "net.prototxt").write_text(TEXT.replace('name: "fc"', 'name: "a/fc"'))
    net = read_prototxt(files / "net.prototxt")
    for name in ("w.caffemodel", "w.h5"):
        save(files / name, random_weights(net, 3), net)

    given = [call(files, "--input", "x.npy", weights=name) for name in ("w.caffemodel", "w.h5")]

    assert [result.stderr for result in given] == ["", ""]
    assert given[0].stdout == given[1].stdout != ""


def test_what_a_data_layer_would_read_is_missing(files):
    data = 'dummy_data_param { data_filler { type: "gaussian" }'
    text = TEXT.replace('"Input"', '"DummyData"').replace("input_param {", data)
    (files / "net.prototxt").write_text(text)

    result = call(files)

    assert result.exit_code == 1
    assert "input 'data' is missing; the net needs" in result.stderr
    assert "(--input data=FILE)" in result.stderr
    assert call(files, "--input", f"data={files}/x.npy").exit_code == 0


SIDE = """
layer { name: "other" type: "Input" top: "other" input_param { shape { dim: 3 dim: 4 } } }
layer { name: "side" type: "Mystery" bottom: "other" top: "side" }
"""


@pytest.mark.parametrize("weights", ["random", "net.caffemodel"])
@pytest.mark.parametrize("text", [SIDE + TEXT, TEXT + SIDE], ids=["before", "behind"])
def test_only_what_is_needed(files, text, weights):
    """Neither the input nor the type of a layer that the blobs asked for do without."""
    (files / "net.prototxt").write_text(text)

    for arguments in (["--blob", "prob"], ["--until", "conv"]):
        result = call(files, "--input", f"data={files}/x.npy", *arguments, weights=weights)
        assert result.exit_code == 0, result.output
    result = call(files, "--input", f"data={files}/x.npy", "--blob", "side", weights=weights)
    assert result.exit_code == 2
    assert "input 'other' (3x4) is missing; give --input FILE" in result.stderr


def test_two_inputs_need_names(files):
    (files / "net.prototxt").write_text(TEXT.replace('top: "data"', 'top: "data" top: "b"'))

    assert call(files, "--input", "x.npy").exit_code == 2
    assert call(files, *(f"--input={n}={files}/x.npy" for n in ("data", "b"))).exit_code == 0


def test_a_blob_may_have_any_name(files):
    """np.savez would take 'file' for its own argument."""
    (files / "net.prototxt").write_text(TEXT.replace('"fc"', '"file"'))
    np.save(files / "x.npy", np.ones((2, 3, 7, 5)))

    result = call(files, "--input", "x.npy", "--blob", "file", "--out", "o.npz", weights="random")

    assert result.exit_code == 0, result.output
    with np.load(files / "o.npz") as saved:
        assert list(saved) == ["file"]


@pytest.mark.parametrize(
    ("axes", "hint"),
    [
        ((0, 2, 3, 1), r"put its axes in order: x.transpose(0, 3, 1, 2)"),
        ((0, 1, 3, 2), r"put its axes in order: x.transpose(0, 1, 3, 2)"),
    ],
)
def test_axes_in_another_order(files, axes, hint):
    """Whoever does what the hint says is let in."""
    x = np.load(files / "x.npy")
    np.save(files / "other.npy", x.transpose(axes))

    result = call(files, "--input", "other.npy")

    assert result.exit_code == 1
    assert hint in result.stderr
    assert eval(hint.split(": ")[1], {"x": x.transpose(axes)}).shape == x.shape


def test_without_the_batch_axis(files):
    (files / "net.prototxt").write_text(TEXT.replace("dim: 2 ", "dim: 1 "))
    x = np.load(files / "x.npy")[0]
    for array, hint in (
        (x, "add the batch axis: x[None]\n"),
        (x.transpose(1, 2, 0), "put its axes in order: x[None].transpose(0, 3, 1, 2)\n"),
        (x[:, :6], "needs 1x3x7x5\n"),
    ):
        np.save(files / "other.npy", array)
        assert call(files, "--input", "other.npy").stderr.endswith(hint)
    np.save(files / "other.npy", x[None])
    assert call(files, "--input", "other.npy").exit_code == 0


def test_what_is_not_done_to_an_input_is_said(files):
    Image.fromarray(np.full((7, 5, 3), 200, np.uint8)).save(files / "photo.png")

    for arguments, said in (
        (["x.npy"], ""),
        (["x.npy", "--crop", "8", "--mean", "3"], "as it is, without --mean, --crop\n"),
        (["photo.png"], "photo.png (--preprocess caffe); see --preprocess\n"),
        (["photo.png", "--preprocess", "caffe"], ""),
        (["photo.png", "--mean", "1,2,3"], ""),
    ):
        result = call(files, "--input", *arguments)
        assert result.exit_code == 0, result.output
        assert result.stderr.endswith(said)
        assert bool(result.stderr) == bool(said)


@pytest.mark.parametrize(
    ("option", "wrong", "right", "advice"),
    [
        ("--mean", "104,117", "104,117,123", "or three: blue,green,red, as in 104,117,123; or a"),
        ("--scale", "1;2", "1", "give one value, or three: blue,green,red"),
        ("--mean", "104,nan,123", "104,117,123", "give one value, or three: blue,green,red"),
        ("--crop", "7*5", "7x5", "give N or ROWSxCOLUMNS, as in 256 or 256x320"),
    ],
)
def test_image_options_say_what_they_take(files, option, wrong, right, advice):
    Image.fromarray(np.full((7, 5, 3), 200, np.uint8)).save(files / "photo.png")
    assert call(files, "--input", "photo.png", option, right).exit_code == 0

    result = call(files, "--input", "photo.png", option, wrong)

    assert result.exit_code == 2
    assert advice in " ".join(result.stderr.split())


@pytest.mark.parametrize("name", ["none.npy", "none.binaryproto"])
def test_a_mean_file_that_is_not_there(files, name):
    Image.fromarray(np.full((7, 5, 3), 200, np.uint8)).save(files / "photo.png")

    result = call(files, "--input", "photo.png", f"--mean={files}/{name}")

    assert result.exit_code == 1
    assert f"{name}: no such file" in result.stderr


def test_a_net_with_a_data_layer(files):
    """What it would read is an .npy, of any batch size; the labels need not be there."""
    data = (
        'layer { name: "data" type: "Data" top: "data" top: "label" data_param { batch_size: 9 } }'
    )
    net = files / "net.prototxt"
    net.write_text(data + TEXT[TEXT.index('layer {\n  name: "conv"') :])
    given = f"data={files}/x.npy"

    for weights in ("net.caffemodel", "random"):
        result = call(files, "--input", given, "--blob", "prob", "--json", weights=weights)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["prob"]["shape"] == [2, 6]

    result = call(files, "--blob", "prob")
    assert result.exit_code == 1
    assert (
        "the shape of 'data' is in its data only; set crop_size in transform_param" in result.output
    )
    result = call(files, "--input", f"x={files}/x.npy")
    assert "the net has the inputs data, label; write --input NAME=FILE" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--blob", "fc", "--until", "conv"], "blob 'fc' comes after 'conv', where the run stops"),
        (["--blob", "relu"], "no blob 'relu' to compute; that is a layer, its blob is 'conv'"),
    ],
)
@pytest.mark.parametrize("engine", ["numpy", "opencv"])
def test_blobs_that_are_not_computed(files, arguments, message, engine):
    pytest.importorskip("cv2")
    twin = [a.replace("fc", "conv").replace("relu", "conv") for a in arguments]
    assert call(files, "--input", "x.npy", "--engine", engine, *twin).exit_code == 0

    result = call(files, "--input", "x.npy", "--engine", engine, *arguments)

    assert result.exit_code == 1
    assert message in result.stderr


def test_random_is_a_word_of_its_own(files):
    assert call(files, "--input", "x.npy", weights="random").exit_code == 0

    result = CliRunner().invoke(
        main,
        ["forward", f"{files}/net.prototxt", "--weights", "Random", "--input", f"{files}/x.npy"],
    )
    assert result.exit_code == 2
    assert "did you mean random?" in result.stderr


@pytest.mark.parametrize("engine", ["numpy", "opencv"])
def test_weights_that_carry_their_net(files, engine):
    """As the net and as the weights, for engines that read files too."""
    pytest.importorskip("cv2")
    net = read_prototxt(TEXT)
    save(files / "half.npz", random_weights(net, 3), net)
    both = [str(files / "half.npz"), "--weights", str(files / "half.npz")]
    rest = ["--input", str(files / "x.npy"), "--engine", engine, "--json"]

    result = CliRunner().invoke(main, ["forward", *both, *rest])

    assert result.exit_code == 0, result.output
    assert result.stdout == call(files, "--input", "x.npy", "--engine", engine, "--json").stdout

    save(files / "bare.npz", {k: v[:] for k, v in random_weights(net, 3).items()})
    result = CliRunner().invoke(main, ["summary", str(files / "bare.npz")])
    assert result.exit_code == 1
    assert "bare.npz contains no prototxt; give the net's own file" in result.stderr


def test_a_size_that_only_layers_behind_the_blob_refuse(tmp_path):
    text = (
        TEXT.partition('layer { name: "relu"')[0]
        + """
layer {
  name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 }
}
"""
    )
    (tmp_path / "net.prototxt").write_text(text)
    np.save(tmp_path / "x.npy", np.ones((2, 3, 4, 3)))
    arguments = [
        "forward", str(tmp_path / "net.prototxt"), "--weights", "random",
        "--input", str(tmp_path / "x.npy"), "--input-shape", "2,3,4,3",
    ]  # fmt: skip

    conv = CliRunner().invoke(main, [*arguments, "--blob", "conv"])
    pool = CliRunner().invoke(main, [*arguments, "--blob", "pool"])

    assert conv.stdout.startswith("conv  2x4x2x1")
    assert pool.exit_code == 1
    assert "layer 'pool' (Pooling): kernel 3x3 is too large" in pool.stderr


@pytest.mark.parametrize("command", ["forward", "verify", "view"])
def test_a_release_brings_its_options(half_width, tmp_path, command):
    """Those of classify: but for what is given, and not with arrays."""
    net, weights = half_width
    Image.fromarray(np.full((300, 400, 3), 77, np.uint8)).save(tmp_path / "x.png")
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 224, 224), "f4"))
    more = {
        "forward": ["--until", "conv_1", "--out", tmp_path / "out.npz"],
        "verify": ["--until", "pool1", "--against", "float64"],
        "view": ["-o", tmp_path / "page.html"],
    }[command]

    def said(name, *options):
        arguments = [net, "--weights", weights, "--input", tmp_path / name, *more, *options]
        result = CliRunner().invoke(main, [command, *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return [
            line.removeprefix("Note: ") for line in result.stderr.splitlines() if "Note" in line
        ]

    (bare,) = said("x.png")
    (mean,) = said("x.png", "--mean", "7")
    assert bare.startswith(f"{weights} is open_nsfw of ")
    assert bare.endswith("; images: --preprocess open-nsfw")
    assert mean == f"{bare}; but with --mean of the command line"
    if command != "view":  # which takes a while
        assert said("x.png", "--preprocess", "open-nsfw") == said("x.npy") == []


def test_options_of_a_release_are_those_by_name(half_width, tmp_path):
    """The same data; another of other options."""
    net, weights = half_width
    Image.fromarray(np.arange(36000, dtype=np.uint32).astype(np.uint8).reshape(100, 120, 3)).save(
        tmp_path / "x.png"
    )

    def data(*options):
        arguments = [net, "--weights", weights, "--input", tmp_path / "x.png", "--until", "data"]
        out = tmp_path / "out.npz"
        result = CliRunner().invoke(
            main, ["forward", *map(str, arguments), "--out", str(out), *options]
        )
        assert result.exit_code == 0, result.output
        return np.load(out)["data"]

    assert np.array_equal(data(), data("--preprocess", "open-nsfw"))
    assert np.array_equal(data("--crop", "230"), data("--preprocess", "open-nsfw", "--crop", "230"))
    assert not np.array_equal(data(), data("--preprocess", "caffe"))
