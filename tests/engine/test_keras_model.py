"""A net as a Keras model: names, order of axes, what it computes alone, what is refused."""

import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from oracles.test_many_types import NET as MANY
from small_nets import data, net, normalised, random_input, random_weights, residual

from resnet_proto import forward, read_prototxt, to_keras
from resnet_proto.engine import keras_layers, keras_model
from resnet_proto.engine.compare import TOLERANCE, compare, relative_l2
from resnet_proto.engine.keras_model import draw, import_keras, run_model, save_keras
from resnet_proto.errors import (
    FormatError,
    NetError,
    ResNetProtoError,
    UnknownLayerError,
    WeightsError,
)
from resnet_proto.layers import (
    BatchNorm,
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    Flatten,
    InnerProduct,
    Input,
    Pooling,
    ReLU,
    Reshape,
    Scale,
    Slice,
    Softmax,
    make_layer,
)
from resnet_proto.net import Net

pytestmark = [
    pytest.mark.usefixtures("keras"),
    pytest.mark.filterwarnings("ignore"),  # torch and numpy about each other, inside Keras
]


def assert_equal(some_net, drawing, inputs=None, weights=None):
    """Every blob that has a name in the model; return those names."""
    inputs = inputs or random_input(some_net)
    weights = weights or random_weights(some_net)
    rows = compare(
        run_model(drawing.model, inputs, drawing.blobs),
        forward(some_net, weights, inputs, dtype="float64"),
    )
    assert not [row for row in rows if not row.within(TOLERANCE)]
    return {row.blob for row in rows}


def test_every_blob_under_its_layers_name():
    """Of layers in place the last value; a Scale is part of the BatchNorm before it."""
    some_net = residual()
    weights = random_weights(some_net)

    drawing = draw(some_net, weights)

    assert_equal(some_net, drawing, weights=weights)
    assert drawing.blobs.keys() == {t for layer in some_net.layers for t in layer.tops} - {"data"}
    assert drawing.blobs["conv1"] == "relu_conv1"
    assert drawing.model.get_layer("bn_conv1").moving_mean.shape == (4,)
    assert drawing.model.output_shape == (None, 5)
    names = {layer.name for layer in drawing.model.layers}
    scales = {layer.name for layer in some_net.layers if layer.type == "Scale"}
    assert names >= {layer.name for layer in some_net.layers[1:]} - scales
    assert not names & scales


def test_images_are_nhwc_and_any_number(keras):
    """Against numpy's own transpose; two inputs go in by name too, several outputs come by name."""
    two = Net(
        "two",
        (
            data(2, 3, 7, 5, name="a"),
            data(2, 3, 7, 5, name="b"),
            Eltwise.of("sum", ("a", "b"), "s", coeff=(2.0, -1.0)),
            ReLU.of("relu", "a", "r"),
        ),
    )
    a, b = (np.random.default_rng(i).normal(size=(4, 3, 7, 5)).astype("f") for i in (1, 2))
    last = {"a": np.moveaxis(a, 1, 3), "b": np.moveaxis(b, 1, 3)}

    model = to_keras(two, {})

    for given in (last, [*last.values()]):
        found = model.predict(given, verbose=0)
        assert found.keys() == {"s", "r"}
        np.testing.assert_allclose(np.moveaxis(found["s"], 3, 1), 2 * a - b, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(np.moveaxis(found["r"], 3, 1), np.maximum(a, 0))


@pytest.mark.parametrize("flat", [False, True])
def test_inner_product_behind_images(flat):
    """Its weight goes into Keras' order; behind a Flatten, whose top has Caffe's, it need not."""
    layers = [Flatten.of("flat", "data", "flat")] if flat else []
    some_net = net(*layers, InnerProduct.of("fc", "flat" if flat else "data", "fc", num_output=6))
    weights = random_weights(some_net)

    drawing = draw(some_net, weights)

    assert_equal(some_net, drawing, weights=weights)
    kernel = drawing.model.get_layer("fc").get_weights()[0]
    assert (kernel == weights["fc.weight"].T).all() == flat


def test_names(keras):
    """A slash, a dot and others become _, and stay apart; who has such a name has the first choice.

    TensorFlow's scopes take ``[A-Za-z0-9_.\\\\/>-]``, torch's parameters no dot, Keras no slash.
    """
    odd = net(
        ReLU.of("in/1x1", "data", "a"),
        ReLU.of("in.1x1", "a", "b"),
        ReLU.of("in_1x1", "b", "c"),
        Slice.of("cut/2", "c", ("x/1", "x/2"), slice_point=(1,)),
        Power("p", "x/1", "p"),
        Power("pad", "x/2", "q"),
        Power("multiply", "q", "r/r"),
        Concat.of("é", ("p", "r/r"), "end"),
        make_layer("", "ReLU", ("end",), ("end",)),
        ReLU.of("data", "end", "top"),
    )

    drawing = draw(odd, {})

    assert_equal(odd, drawing)
    assert drawing.blobs == {
        "a": "in_1x1_2", "b": "in_1x1_3", "c": "in_1x1", "x/1": "cut_2_x_1", "x/2": "cut_2_x_2",
        "p": "p", "q": "pad", "r/r": "multiply", "end": "layer", "top": "data_2",
    }  # fmt: skip
    assert [x.name for x in drawing.model.inputs] == ["data"]
    again = draw(odd, {})
    assert [o.name for o in again.model.operations] == [o.name for o in drawing.model.operations]


def test_inputs_are_found_whatever_they_are_called(tmp_path):
    """As ONNX models have them; also where a layer overwrites one in place."""
    first = Input.of("i", (), ("in:0", "in/0"), shape=tuple({"dim": (2, n, 7, 5)} for n in (3, 4)))
    odd = Net("n", (
        first, ReLU.of("relu", "in/0", "in/0"), Concat.of("c", ("in/0", "in:0"), "c"),
    ))  # fmt: skip

    proof = save_keras(tmp_path / "m.keras", odd, {})

    assert {row.blob for row in proof.rows} == {"in/0", "c"}
    assert proof.worst.within(TOLERANCE)
    assert draw(odd, {}).inputs == {"in:0": "in_0", "in/0": "in_0_2"}


def Power(name, bottom, top):
    return make_layer(
        name,
        "Power",
        (bottom,),
        (top,),
        {"power_param": {"power": 2.0, "scale": 0.5, "shift": 3.0}},
    )


def test_a_blob_between_batch_norm_and_scale():
    """It is not in a model of the whole; asked for, it is, and the Scale stands alone."""
    some_net = net(
        BatchNorm.of("bn", "data", "b"), Scale.of("scale", "b", "s", bias_term=True),
        ReLU.of("relu", "s", "r"),
    )  # fmt: skip
    weights = random_weights(some_net)

    assert assert_equal(some_net, draw(some_net, weights)) == {"s", "r"}
    assert assert_equal(some_net, draw(some_net, weights, ["r", "b"])) == {"b", "s", "r"}
    assert to_keras(some_net, weights, outputs=["s"]).output_shape == (None, 7, 5, 3)
    with pytest.raises(NetError, match="no blob 'x'"):
        to_keras(some_net, weights, outputs=["x"])


def test_weights_that_are_missing_or_random():
    some_net = residual()
    with pytest.raises(WeightsError, match="conv1"):
        to_keras(some_net, {})
    assert to_keras(some_net).count_params() == sum(
        np.prod(shape)
        for step in some_net.walk()
        for name, shape in step.blobs.items()
        if name != "scale_factor"
    )


WINDOWS = net(
    Convolution.of("wide", "data", "wide", num_output=4, kernel_size=(8, 3), stride=(2, 1)),
    Pooling.of("over", "wide", "over", pool="AVE", kernel_size=2, stride=2, pad=1),
    make_layer("norm", "LRN", ("data",), ("norm",), {"lrn_param": {"local_size": 3, "alpha": 0.5}}),
    make_layer(
        "within", "LRN", ("norm",), ("within",),
        {"lrn_param": {"local_size": 3, "norm_region": "WITHIN_CHANNEL", "alpha": 2.0}},
    ),
    Pooling.of("ceil", "within", "ceil", kernel_size=3, stride=2),
    Convolution.of("holes", "within", "holes", num_output=6, kernel_size=2, dilation=(2, 3),
                   stride=(2, 1), pad=1, group=3),
    Deconvolution.of("up", "holes", "up", num_output=6, kernel_size=4, stride=3, pad=1, group=6),
    Concat.of("cat", ("up", "up"), "cat"),
)  # fmt: skip


def test_keras_alone_loads_it(tmp_path):
    """In a process where nothing of this package can be imported, and with safe_mode."""
    many = read_prototxt(MANY).until(["prob"]).needed(["prob"])
    given = {
        some_net.name: (
            some_net,
            random_weights(some_net),
            {"data": random_input(some_net)["data"]},
        )
        for some_net in (many, WINDOWS)
    }
    for name, (some_net, weights, inputs) in given.items():
        proof = save_keras(tmp_path / f"{name}.keras", some_net, weights)
        np.save(tmp_path / f"{name}.npy", np.moveaxis(inputs["data"], 1, 3))
        assert proof.worst.within(TOLERANCE)
    code = (
        "import sys\n"
        "sys.modules['resnet_proto'] = None\n"
        "import keras, numpy as np\n"
        "for name in sys.argv[1:]:\n"
        "    model = keras.saving.load_model(f'{name}.keras', safe_mode=True)\n"
        "    y = model.predict(np.load(f'{name}.npy'), verbose=0)\n"
        "    y = y if isinstance(y, dict) else {model.layers[-1].name: y}\n"
        "    np.savez(f'{name}.npz', **y)\n"
    )

    subprocess.run([sys.executable, "-c", code, *given], cwd=tmp_path, check=True)

    for name, (some_net, weights, inputs) in given.items():
        with np.load(tmp_path / f"{name}.npz") as found:
            theirs = dict(found)
        exact = forward(some_net, weights, inputs, dtype="float64", outputs=[*theirs])
        assert len(theirs) == (1 if some_net is many else 3)
        for blob, value in theirs.items():
            value = np.moveaxis(value, 3, 1) if value.ndim == 4 else value
            assert relative_l2(value, exact[blob]) <= TOLERANCE, blob
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            config = json.loads(archive.read("config.json"))
        for layer in config["config"]["layers"]:
            assert layer["module"].split(".")[0] == "keras"
            assert layer["class_name"] != "Lambda"


def test_one_step_of_training(keras):
    """With torch's own gradients of our torch module: the same weights behind it."""
    torch = pytest.importorskip("torch")
    some_net = net(
        Convolution.of("conv", "data", "c", num_output=4, kernel_size=3, pad=1),
        ReLU.of("relu", "c", "c"),
        Pooling.of("pool", "c", "p", kernel_size=3, stride=2),
        InnerProduct.of("fc", "p", "fc", num_output=5),
        Softmax.of("prob", "fc", "prob"),
        shape=(6, 3, 7, 5),
    )
    weights, x = random_weights(some_net), random_input(some_net)["data"]
    labels = np.array([3, 1, 4, 1, 0, 2])
    from resnet_proto import to_torch  # imports torch

    theirs = to_torch(some_net, weights, outputs=["fc"])
    torch.nn.functional.cross_entropy(
        theirs(torch.tensor(x))["fc"], torch.tensor(labels)
    ).backward()
    model = to_keras(some_net, weights)

    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    model.fit(np.moveaxis(x, 1, 3), labels, batch_size=6, epochs=1, verbose=0)

    after = {k: v - 0.5 * v.grad for k, v in theirs.named_parameters()}
    kernel, bias = model.get_layer("conv").get_weights()
    assert relative_l2(kernel.transpose(3, 2, 0, 1), after["conv.weight"].detach().numpy()) < 1e-5
    assert relative_l2(bias, after["conv.bias"].detach().numpy()) < 1e-5
    assert relative_l2(weights["conv.bias"], bias) > 1e-3


def test_batch_norm_and_dropout_in_training(keras):
    """Batch statistics, kept with Caffe's fraction; a layer that does not train leaves them."""
    some_net = net(
        BatchNorm.of("bn", "data", "b", moving_average_fraction=0.75, eps=1e-3),
        Scale.of("scale", "b", "b", bias_term=True),
        Dropout.of("drop", "b", "d", dropout_ratio=0.25),
    )
    model = to_keras(some_net, random_weights(some_net))
    bn = model.get_layer("bn")

    assert (bn.momentum, bn.epsilon) == (0.75, pytest.approx(1e-3))
    assert model.get_layer("drop").rate == 0.25
    x = np.random.default_rng(1).normal(4, 1, (8, 7, 5, 3)).astype("f")
    before = keras.ops.convert_to_numpy(bn.moving_mean).copy()
    model(x, training=True)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(bn.moving_mean),
        0.75 * before + 0.25 * x.mean((0, 1, 2)),
        rtol=1e-4,
    )


def test_what_has_no_way_is_named_whole():
    """All types at once, before anything is made; a cut before them is taken."""
    some_net = net(
        ReLU.of("relu", "data", "r"),
        make_layer("odd", "Guess", ("r",), ("x",)),
        make_layer("cols", "Im2col", ("r",), ("y",), {"convolution_param": {"kernel_size": (3,)}}),
        *(make_layer(f"more{i}", "Guess", ("r",), (f"z{i}",)) for i in range(4)),
    )

    with pytest.raises(UnknownLayerError) as refused:
        to_keras(some_net, {})
    assert str(refused.value).startswith(
        "these layer types cannot be written as Keras: Guess ('odd', 'more0', 'more1', ...); "
        "Im2col ('cols'); known: AbsVal, "
    )
    assert to_keras(some_net, {}, outputs=["r"]).output_shape == (None, 7, 5, 3)


@pytest.mark.parametrize(
    ("fields", "accepted", "message"),
    [
        ({"shape": {"dim": (7, -1)}}, {"shape": {"dim": (0, -1)}},
         r"layer 'p' \(Reshape\): the first axis of its top is not the images'"),
        ({"shape": {"dim": (2, 3, 7, 5)}}, {"shape": {"dim": (-1, 3, 7, 5)}},
         "the number of images cannot vary, as Keras wants it: layer 'p'"),
    ],
)  # fmt: skip
def test_another_number_of_images(fields, accepted, message):
    with pytest.raises(NetError, match=message):
        to_keras(net(Reshape.of("p", "data", "p", **fields)), {})

    some_net = net(Reshape.of("p", "data", "p", **accepted))
    drawing = draw(some_net, {})
    assert_equal(some_net, drawing)
    more = random_input(some_net)["data"].repeat(3, axis=0)
    assert run_model(drawing.model, {"data": more}, drawing.blobs)["p"].shape[0] == 6


@pytest.mark.parametrize(
    ("layer", "twin", "message"),
    [
        (Pooling.of("l", "data", ("x", "mask"), kernel_size=2),
         Pooling.of("l", "data", "x", kernel_size=2),
         r"layer 'l' \(Pooling\): its mask cannot be written"),
        (Convolution.of("l", "data", "x", num_output=2, kernel_size=2, dilation=0),
         Convolution.of("l", "data", "x", num_output=2, kernel_size=2, dilation=2),
         r"layer 'l' \(Convolution\): dilation 0 cannot be written"),
        (Pooling.of("l", "data", "x", kernel_size=2, pool="STOCHASTIC"),
         Pooling.of("l", "data", "x", kernel_size=2, pool="AVE"), "STOCHASTIC"),
        (make_layer("l", "Permute", ("data",), ("x",), {"permute_param": {"order": (1, 0, 2, 3)}}),
         make_layer("l", "Permute", ("data",), ("x",), {"permute_param": {"order": (0, 3, 2, 1)}}),
         "the images"),
    ],
)  # fmt: skip
def test_what_a_type_lacks(layer, twin, message):
    with pytest.raises(NetError, match=message):
        to_keras(net(layer))

    some_net = net(twin)
    assert_equal(some_net, draw(some_net, random_weights(some_net)))


def test_a_weight_of_zeros_that_no_memory_holds():
    """Groups of a Deconvolution are one weight in Keras, with zeros between."""
    up = {"num_output": 40000, "group": 40000, "kernel_size": 1, "bias_term": False}
    with pytest.raises(UnknownLayerError, match="group 40000, which would take a weight of 16000"):
        to_keras(net(Deconvolution.of("up", "data", "up", **up), shape=(2, 40000, 1, 1)))

    few = {**up, "num_output": 40, "group": 40}
    some_net = net(Deconvolution.of("up", "data", "up", **few), shape=(2, 40, 1, 1))
    drawing = draw(some_net, random_weights(some_net))
    assert_equal(some_net, drawing)
    assert not drawing.model.trainable_weights  # the zeros would learn


def test_a_file_that_is_wrong_is_not_kept(tmp_path, monkeypatch):
    """The old one stays; without the proof it is written."""
    some_net = residual()
    weights = random_weights(some_net)
    (tmp_path / "m.keras").write_text("old")
    monkeypatch.setitem(
        keras_layers.FUNCTIONS,
        "ReLU",
        lambda site, layer: site.layer("ReLU", site.bottoms[0], negative_slope=1e-2),
    )

    with pytest.raises(FormatError, match=r"m\.keras: \d+ of 14 blobs are not what the net"):
        save_keras(tmp_path / "m.keras", some_net, weights)
    assert (tmp_path / "m.keras").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]

    assert save_keras(tmp_path / "m.keras", some_net, weights, verify=False) is None
    assert zipfile.is_zipfile(tmp_path / "m.keras")
    monkeypatch.undo()
    assert save_keras(tmp_path / "any.name", some_net, weights).worst.within(TOLERANCE)


def test_a_deep_net(tmp_path, keras, monkeypatch):
    """Deeper than Keras can follow by itself; it is said, and Python's limit stays what it was."""
    before, limit = sys.getrecursionlimit(), 450  # a smaller one, so that the net may be
    layers = [ReLU.of(f"r{i}", "data" if not i else f"r{i - 1}", f"r{i}") for i in range(420)]
    monkeypatch.setattr(keras_model, "DEEP", 400)
    warnings = []

    try:
        sys.setrecursionlimit(limit)
        assert save_keras(tmp_path / "m.keras", net(*layers[:9]), {}, warnings=warnings)
        assert not warnings
        save_keras(tmp_path / "m.keras", net(*layers), {}, verify=False, warnings=warnings)
        assert sys.getrecursionlimit() == limit
        with pytest.raises(RecursionError):
            keras.saving.load_model(tmp_path / "m.keras")
        sys.setrecursionlimit(1421)
        assert keras.saving.load_model(tmp_path / "m.keras").output_shape == (None, 7, 5, 3)
    finally:
        sys.setrecursionlimit(before)

    assert warnings == [
        "421 layers lie one behind the other, more than Keras follows by itself; who loads the "
        "file first calls sys.setrecursionlimit(1421)"
    ]


def test_random_inputs_that_do_not_fit(tmp_path):
    """An Embed takes whole numbers: the file is written, and it is said that nothing was run."""
    fields = {"embed_param": {"input_dim": 4, "num_output": 3}}
    embed = make_layer("e", "Embed", ("half",), ("e",), fields)
    some_net = net(make_layer("half", "AbsVal", ("data",), ("half",), {}), embed, shape=(2, 5))

    proof = save_keras(tmp_path / "m.keras", some_net, random_weights(some_net))

    assert not proof.rows
    assert "our own forward pass does not run on random inputs: layer 'e'" in proof.missing
    assert zipfile.is_zipfile(tmp_path / "m.keras")


def test_what_keras_itself_refuses(monkeypatch):
    """It is an error that names the layer, whatever Keras raised."""

    def broken(site, layer):
        raise ZeroDivisionError("\n oh \n no")

    monkeypatch.setitem(keras_layers.FUNCTIONS, "ReLU", broken)
    with pytest.raises(UnknownLayerError, match=r"^layer 'r' \(ReLU\): Keras refuses it: oh no$"):
        to_keras(net(ReLU.of("r", "data", "r")), {})


def test_shared_weights_are_a_copy_for_each():
    shared = {"param": ({"name": "w"}, {"name": "b"})}
    some_net = net(
        *(
            replace(layer, fields={**layer.fields, **shared})
            for layer in (
                Convolution.of("one", "data", "one", num_output=3, kernel_size=3, pad=1),
                Convolution.of("two", "one", "two", num_output=3, kernel_size=3, pad=1),
            )
        )
    )
    weights = {k: v for k, v in random_weights(some_net).items() if k.startswith("one")}

    drawing = draw(some_net, weights)

    assert_equal(some_net, drawing, weights=weights)
    kernels = [drawing.model.get_layer(name).get_weights()[0] for name in ("one", "two")]
    np.testing.assert_array_equal(*kernels)


def test_batch_statistics():
    """A net that says ``use_global_stats: false``: the batch normalises at TEST too."""
    some_net = net(
        *normalised("conv", "data", "conv", 4, kernel_size=3),
        BatchNorm.of("bn", "conv", "bn", use_global_stats=False),
    )
    weights = random_weights(some_net)

    assert "bn" in assert_equal(some_net, draw(some_net, weights), weights=weights)


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        (None, "torch\n"),
        ("nonsense", "Keras cannot be imported, with backend nonsense: .*; pip install"),
    ],
)
def test_the_backend(tmp_path, variable, found):
    """Where neither TensorFlow nor JAX is, nobody has to choose torch; what is chosen counts."""
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: (\n"
        "    None if name in ('tensorflow', 'jax') else find(name, *a))\n"
        "from resnet_proto.engine.keras_model import import_keras\n"
        "from resnet_proto.errors import ResNetProtoError\n"
        "try:\n"
        "    print(import_keras().config.backend())\n"
        "except ResNetProtoError as error:\n"
        "    print(error)\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    env |= {"KERAS_HOME": str(tmp_path)} | ({"KERAS_BACKEND": variable} if variable else {})

    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )

    assert re.match(found, run.stdout)


def test_where_keras_is_not_installed(monkeypatch):
    """Another backend would not help."""
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ResNetProtoError, match=r"^Keras is not installed: pip install '[^']*'$"):
        import_keras()


@pytest.mark.parametrize(("version", "old"), [("2.15.0", True), ("3.1.1", True), ("3.10.0", False)])
def test_an_old_keras_is_refused(monkeypatch, keras, version, old):
    monkeypatch.setattr(keras, "__version__", version)
    if not old:
        assert keras_model.import_keras() is keras
        return
    with pytest.raises(
        ResNetProtoError, match=f"Keras {version} is installed; slices can be saved"
    ):
        keras_model.import_keras()
