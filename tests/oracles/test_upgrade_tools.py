"""Nets, solvers and caffemodels of older formats against Caffe's own upgrade.

The tools beside the Caffe that trains upgrade them; both results are compared field by field.
Where a net runs, pycaffe reads the old file itself, and every blob is compared.
"""

import random
import subprocess

import numpy as np
import pytest
from old_nets import NETS

from resnet_proto import forward, load, read_prototxt
from resnet_proto.engine import compare
from resnet_proto.engine.others import read_job, run_jobs, write_job
from resnet_proto.errors import ResNetProtoError
from resnet_proto.formats.upgrade import upgrade
from resnet_proto.layers import normal
from resnet_proto.prototxt import message_text, net_of, to_prototxt
from resnet_proto.schema import decode, encode, fields, required
from resnet_proto.text_format import parse
from resnet_proto.upgrade import SOLVER_TYPES, V0_FIELDS, V0_TYPES, V1_TYPES, upgraded
from resnet_proto.words import Word

ABORTED = -6


@pytest.fixture(scope="module")
def tool(upgrade_tools, tmp_path_factory):
    """Kind, content -> status and what the tool writes; None if it has ended before."""
    folder = tmp_path_factory.mktemp("tools")

    def run(kind, content):
        path, new = folder / "old", folder / "new"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        new.unlink(missing_ok=True)
        done = subprocess.run(
            [upgrade_tools / f"upgrade_{kind}", path, new], capture_output=True, check=False
        )
        return done.returncode, new.read_bytes() if new.exists() else None

    return run


def plain(tree):
    """A tree without empty names, types and repeated fields: ours do not tell them from none."""
    tree = {k: v for k, v in normal(tree).items() if v != ""}
    layers = [{k: v for k, v in layer.items() if v != ""} for layer in tree.get("layer", ())]
    return {**tree, "layer": layers}


def ours(text):
    """What `upgrade` writes of a net, as a tree."""
    new = to_prototxt(net_of(upgraded(parse(text, "NetParameter")), "old"))
    return plain(parse(new, "NetParameter"))


def assert_same(tool, text):
    """The tool takes it, and writes what we do."""
    status, new = tool("net_proto_text", text)
    assert status == 0
    assert ours(text) == plain(parse(new.decode(), "NetParameter"))


# ---- trees that the schema draws

NOT_THERE = {("PoolingParameter", "round_mode"), ("InfogainLossParameter", "axis")}
"""Fields that the fork is too old for."""


def value(rng, field):
    """Any value of a field."""
    if field.kind == "message":
        return drawn(rng, field.message, 0.5)
    if field.kind == "enum":
        return Word(rng.choice(list(field.values)))
    if field.kind in ("string", "bytes"):
        return rng.choice(["", "a", 'b "q"', "c\\d", "é", "\udcff\n", "mean.binaryproto"])
    if field.kind == "bool":
        return rng.random() < 0.5
    if field.kind in ("float", "double"):
        return normal(rng.choice([0.0, 1.0, -2.5, 1e-5, 0.1, 3e38, float("inf"), rng.random()]))
    low, high = (0, 2**32 - 1) if field.kind.startswith("u") else (-(2**31), 2**31 - 1)
    return rng.choice([0, 1, 2, 7, low, high, rng.randint(low, high)])


def many(rng, field):
    """``value``, several if the field is repeated."""
    if not field.repeated:
        return value(rng, field)
    return tuple(value(rng, field) for _ in range(rng.randint(1, 3)))


def drawn(rng, message, share, but=()):
    """A message with this share of its fields; of 1, all."""
    return {
        name: many(rng, field)
        for name, field in fields(message).items()
        if name not in but
        and (message, name) not in NOT_THERE
        and (name in required(message) or rng.random() < share)
    }


@pytest.mark.parametrize("seed", range(8))
def test_random_v1_nets(tool, seed):
    """Every field may be there, whatever the type: Caffe does not look."""
    rng = random.Random(seed)
    layers = tuple(
        drawn(rng, "V1LayerParameter", rng.choice([0.1, 0.3, 0.8]), but=("layer",))
        for _ in range(12)
    )
    net = drawn(rng, "NetParameter", 0.5, but=("layer", "layers", "input", "input_dim"))
    if rng.random() < 0.5:
        net |= {"input": ("x", "y"), "input_dim": tuple(rng.sample(range(1, 99), 9))}
        net.pop("input_shape", None)

    assert_same(tool, message_text({**net, "layers": layers}))


def test_each_v1_type_by_name_and_by_number(tool):
    numbers = fields("V1LayerParameter")["type"].values

    assert list(V1_TYPES) == sorted(numbers, key=numbers.get)
    assert [numbers[name] for name in V1_TYPES] == list(range(len(V1_TYPES)))
    assert_same(tool, "".join(f"layers {{ type: {name} }}\n" for name in numbers))
    assert_same(tool, "".join(f"layers {{ type: {i} }}\n" for i in numbers.values()))


@pytest.mark.parametrize("name", [n for n in fields("V1LayerParameter") if n != "layer"])
def test_each_v1_field(tool, name):
    """With all that it can hold."""
    rng = random.Random(name)
    field = fields("V1LayerParameter")[name]
    one = drawn(rng, field.message, 1) if field.kind == "message" else value(rng, field)
    layers = ({"type": Word("DATA")}, {name: (one, one) if field.repeated else one})

    assert_same(tool, message_text({"layers": layers}))


def v0_layer(rng, i, made, padded):
    """A V0 layer of bottoms that are there; now and then with a field of another type."""
    type = rng.choice([*V0_TYPES, "conv", "pool", "padding", "padding"])
    bottoms = rng.sample(made, min(len(made), rng.randint(0, 2)))
    if type in ("conv", "pool") and padded and rng.random() < 0.9:
        bottoms = [padded[-1]]
    elif type == "padding":
        bottoms = [rng.choice(made)]
    takes = fields("V0LayerParameter")
    own = [name for name, (_, types) in V0_FIELDS.items() if type in types.split()]
    own += ["scale", "meanfile", "cropsize", "mirror", "blobs", "blobs_lr", "weight_decay"]
    own += (
        ["hdf5_output_param"] * (type == "hdf5_output")
        + ["new_num"]
        + ["pad"] * (type == "padding")
    )
    if rng.random() < 0.01:
        own = list(takes)
    layer = {"name": f"l{i}", "type": type}
    layer |= {key: many(rng, takes[key]) for key in own if rng.random() < 0.5 and key != "type"}
    more = drawn(rng, "V1LayerParameter", 0.03, but=("layer", "bottom", "top"))
    tops = tuple(f"t{i}{'ab'[k]}" for k in range(1 if type == "padding" else rng.randint(0, 2)))
    if type == "padding":
        padded += tops
    else:
        made += tops
    return {"layer": layer, "bottom": tuple(bottoms), "top": tops, **more}


@pytest.mark.parametrize("seed", range(16))
def test_random_v0_nets(tool, seed):
    rng = random.Random(seed)
    net = {"name": "n", "input": ("x", "y"), "input_dim": tuple(rng.sample(range(1, 99), 8))}
    if rng.random() < 0.5:
        net |= {"force_backward": True, "state": {"level": 3}, "debug_info": True}
    made, padded = ["x", "y"], []
    text = message_text({**net, "layers": tuple(v0_layer(rng, i, made, padded) for i in range(9))})

    status, new = tool("net_proto_text", text)

    if status:
        with pytest.raises(ResNetProtoError):
            ours(text)
    else:
        assert ours(text) == plain(parse(new.decode(), "NetParameter"))


@pytest.mark.parametrize("type", [*V0_TYPES])
def test_each_v0_type(tool, type):
    """With all fields that it may have."""
    rng = random.Random(type)
    takes = fields("V0LayerParameter")
    own = [name for name, (_, types) in V0_FIELDS.items() if type in types.split()]
    own += ["hdf5_output_param"] * (type == "hdf5_output")
    layer = {name: many(rng, takes[name]) for name in ("name", "scale", "mirror", *own)}

    assert_same(tool, message_text({"layers": ({"layer": {**layer, "type": type}},)}))


# ---- nets as people wrote them, and what is current


@pytest.mark.parametrize("name", NETS)
def test_nets_of_old(tool, name):
    assert_same(tool, NETS[name])


CURRENT = """
name: "n" force_backward: true
layer { name: "data" type: "Data" top: "data" data_param { source: "x" scale: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" PARAMS }
"""


@pytest.mark.parametrize(
    "head", ["", 'input: "x"', "input_dim: 1", 'input: "x" input_shape { dim: [3, 7] }']
)
@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_current_nets(tool, head, n):
    """Only inputs are old here: transformation fields of a current layer stay."""
    params = "param { lr_mult: 1 } " * n
    assert_same(tool, head + CURRENT.replace("PARAMS", params))


def test_rates_of_batch_norm(tool):
    """The fork drops all three ``param``; mainline, and we, only set their rates to 0.

    Source: upgrade_proto.cpp at 9b89154, UpgradeNetBatchNorm.
    """
    text = CURRENT.replace("PARAMS", 'param { name: "m" lr_mult: 1 } param {} param { lr_mult: 0 }')
    _, new = tool("net_proto_text", text)

    theirs, found = plain(parse(new.decode(), "NetParameter")), ours(text)

    rates = {"lr_mult": 0.0, "decay_mult": 0.0}
    assert found["layer"][1].pop("param") == ({"name": "m", **rates}, rates, rates)
    assert found == theirs


# ---- what is refused, each with a twin

DATA = 'input: "x" input_dim: [2, 3, 7, 5] '
PAD = 'layers { layer { name: "p" type: "padding" pad: 1 } bottom: "x" top: "p" }\n'
CONV = (
    'layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 } bottom: "p" top: "c" }'
)
REFUSED = {
    "both kinds": (
        "layers { type: RELU } layer {}", "layers { type: RELU } layers {}", "both 'layer' and",
    ),
    "a type of V0 that is unknown": (
        'layers { layer { name: "r" type: "prelu" } }',
        'layers { layer { name: "r" type: "relu" } }',
        r"'r' \(V0 type 'prelu'\): Caffe knows no such type",
    ),
    "a field of another type": (
        'layers { layer { type: "relu" stride: 2 } }',
        'layers { layer { type: "pool" stride: 2 } }',
        "number 1 .V0 type 'relu'. has stride, which",
    ),
    "a field of no type": (
        'layers { layer { name: "r" num_output: 2 } }', 'layers { layer { name: "r" } }',
        "'r' .* has num_output",
    ),
    "padding for a layer that does not pad": (
        DATA + PAD + CONV.replace('"conv" num_output: 4 kernelsize: 3', '"relu"'),
        DATA + PAD + CONV, "'c' .* reads layer 'p' .*; only a conv or a pool may",
    ),
    "padding twice": (
        DATA + PAD + PAD.replace('"p"', '"q"').replace('"x"', '"p"'),
        DATA + PAD + PAD.replace('"p"', '"q"'), "only a conv or a pool",
    ),
    "two blobs to pad": (
        DATA + PAD + CONV.replace('bottom: "p"', 'bottom: ["p", "x"]'),
        DATA + PAD + CONV.replace('bottom: "p"', 'bottom: ["x", "x"]'),
        "'c' .* has 2 bottoms, .* one each is needed",
    ),
    "padding with two tops": (
        DATA + PAD.replace('top: "p"', 'top: ["p", "q"]') + CONV, DATA + PAD + CONV, "and 2 tops",
    ),
    "a blob that nobody makes": (PAD + CONV, DATA + PAD + CONV, "reads blob 'x', which no layer"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_its_twin(tool, case):
    bad, good, message = REFUSED[case]

    assert_same(tool, good)
    assert tool("net_proto_text", bad)[0] in (1, ABORTED)
    with pytest.raises(ResNetProtoError, match=message):
        read_prototxt(bad)


@pytest.mark.parametrize(
    ("bad", "good", "message"),
    [
        (
            'layers { layer { type: "relu" } } layers { type: RELU name: "r" }',
            'layers { layer { type: "relu" } } layers { layer { type: "relu" name: "r" } }',
            "number 2 .* has no 'layer' within, and others have",
        ),
        (
            'layers { layer { type: "relu" } } layer { type: "ReLU" name: "r" }',
            'layers { layer { type: "relu" } } layers { layer { type: "relu" name: "r" } }',
            "both 'layer' and 'layers'",
        ),
    ],
)
def test_what_caffe_loses(tool, bad, good, message):
    """Here Caffe goes on without a word, with a layer that has lost its type or its all."""
    assert_same(tool, good)
    status, new = tool("net_proto_text", bad)
    assert (status, b'"r"' in new) == (0, False)

    with pytest.raises(ResNetProtoError, match=message):
        read_prototxt(bad)


# ---- solvers


@pytest.mark.parametrize("old", [*SOLVER_TYPES, *range(len(SOLVER_TYPES))])
def test_solvers(tool, tmp_path, old):
    text = f'net: "n" base_lr: 0.01 solver_type: {old} net_param {{ layers {{ type: RELU }} }}'
    (tmp_path / "old").write_text(text)

    result = upgrade(tmp_path / "old", tmp_path / "new")
    status, new = tool("solver_proto_text", text)

    assert (result.kind, result.done, status) == ("solver", ["solver_type"], 0)
    found = parse((tmp_path / "new").read_text(), "SolverParameter")
    assert found == parse(new.decode(), "SolverParameter")


def test_refused_solver_and_its_twins(tool, tmp_path):
    both = 'net: "n" solver_type: ADAM type: "Adam"'
    (tmp_path / "old").write_text(both)

    assert tool("solver_proto_text", both)[0] == ABORTED
    with pytest.raises(ResNetProtoError, match="old: the solver has solver_type and type"):
        upgrade(tmp_path / "old", tmp_path / "new")
    (tmp_path / "old").write_text(both.replace("solver_type: ADAM", ""))
    assert upgrade(tmp_path / "old", tmp_path / "new").done == []


# ---- caffemodels


def model_of(text, rng):
    """The net as Caffe of its time saved it: with blobs in each layer that has weights."""
    tree = parse(text, "NetParameter")
    net = net_of(tree, "old")
    sizes = {
        step.label: list(step.blobs.values()) for step in net.walk(shapes=SHAPES.get(net.name))
    }
    layers = []
    for connection in tree["layers"]:
        own = connection.get("layer", connection)
        blobs = tuple(blob(rng, shape) for shape in sizes.get(own["name"], ()))
        own = {**own, "blobs": blobs} if blobs else own
        layers.append({**connection, "layer": own} if "layer" in connection else own)
    return encode("NetParameter", {**tree, "layers": tuple(layers)})


def blob(rng, shape):
    """Weights with the four axes of old."""
    sizes = (1,) * (4 - len(shape)) + shape
    axes = dict(zip(("num", "channels", "height", "width"), sizes, strict=True))
    values = rng.standard_normal(int(np.prod(shape))) * (2 / max(1, np.prod(shape[1:]))) ** 0.5
    return {**axes, "data": tuple(values.astype(np.float32).tolist())}


SHAPES = {"CaffeNet": {"data": (2, 3, 61, 61), "label": (2,)}}


@pytest.mark.parametrize("name", NETS)
def test_caffemodels(tool, tmp_path, name):
    """The whole message is the tool's, weights and all; and load reads old and new alike."""
    data = model_of(NETS[name], np.random.default_rng(0))
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    old.write_bytes(data)

    result = upgrade(old, new)
    status, theirs = tool("net_proto_binary", data)

    assert (result.kind, status) == ("caffemodel", 0)
    assert plain(decode("NetParameter", new.read_bytes())) == plain(decode("NetParameter", theirs))
    before, after = load(old), load(new)
    assert list(before) == list(after) != []
    for key in before:
        assert before[key].tobytes() == after[key].tobytes()
        assert before.blobs[key][:4] == after.blobs[key][:4]


@pytest.mark.parametrize("seed", range(6))
def test_random_caffemodels(tool, tmp_path, seed):
    rng = random.Random(seed)
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    but = ("layer", "blobs")
    layers = tuple(drawn(rng, "V1LayerParameter", 0.2, but) for _ in range(9))
    some = {
        "num": 1,
        "channels": 2,
        "height": 1,
        "width": 3,
        "data": (1.0, 2.5, 3.0, 4.0, 5.0, 6.0),
    }
    layers = tuple({**layer, "blobs": (some,) * rng.randint(0, 2)} for layer in layers)
    net = drawn(rng, "NetParameter", 0.5, ("layer", "layers", "input", "input_dim"))
    data = encode("NetParameter", {**net, "layers": layers})
    old.write_bytes(data)

    upgrade(old, new)
    status, theirs = tool("net_proto_binary", data)

    assert status == 0
    assert plain(decode("NetParameter", new.read_bytes())) == plain(decode("NetParameter", theirs))


# ---- Caffe's own view


@pytest.mark.parametrize("name", ["lenet", "many", "v0"])
@pytest.mark.parametrize("stored", ["old", "upgraded"])
def test_old_nets_and_weights_run(tmp_path, caffe_python, name, stored):
    """Caffe reads text and weights of old itself; every blob is ours of the same two files."""
    rng = np.random.default_rng(1)
    text, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    text.write_text(NETS[name])
    model.write_bytes(model_of(NETS[name], rng))
    net, weights = read_prototxt(text), load(model)
    inputs = {k: rng.standard_normal(s).astype(np.float32) for k, s in net.inputs().items()}
    blobs = forward(net, weights, inputs)
    if stored == "upgraded":
        for path in (text, model):
            assert upgrade(path, path, force=True).done

    write_job(tmp_path, text, model, inputs)
    run_jobs(caffe_python, [tmp_path])
    theirs = read_job(tmp_path)

    assert set(theirs) == set(blobs)
    for row in compare.compare(blobs, theirs):
        assert row.within(compare.TOLERANCE), row


def test_more_rates_than_blobs(tmp_path, caffe_python):
    """The upgrade takes them, and then the net does not. As many as there are blobs are fine."""
    for folder, rates in (("bad", "blobs_lr: 1. " * 3), ("good", "blobs_lr: 1. " * 2)):
        path = tmp_path / folder
        path.mkdir()
        text = NETS["lenet"].replace("blobs_lr: 1. blobs_lr: 2.", rates)
        (path / "net.prototxt").write_text(text)
        write_job(path, path / "net.prototxt", None, {})
    run_jobs(caffe_python, [tmp_path / "bad", tmp_path / "good"])

    with pytest.raises(ResNetProtoError, match="Too many params specified for layer ip1"):
        read_job(tmp_path / "bad")
    assert read_job(tmp_path / "good")
    with pytest.raises(ResNetProtoError, match=r"layer 'ip1' .* has 3 param for 2 blobs"):
        list(read_prototxt(tmp_path / "bad/net.prototxt").walk())
    assert list(read_prototxt(tmp_path / "good/net.prototxt").walk())
