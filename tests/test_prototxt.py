"""Text -> net -> text -> net, and what a file that is no prototxt gets."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet_proto.errors import PrototxtError, ResNetProtoError
from resnet_proto.layers import Layer, Pooling, make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import parse_net, read_prototxt, to_prototxt
from resnet_proto.schema import fields, required
from resnet_proto.words import Word

# ---- the law, over random nets that the schema draws

STRINGS = st.text(st.characters(codec="utf-8"), max_size=8) | st.binary(max_size=8).map(
    lambda data: data.decode("utf-8", "surrogateescape")
)
SCALARS = {
    "string": STRINGS,
    "bool": st.booleans(),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(width=32, allow_nan=False),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
}
NAMES = st.sampled_from(["foo_param", "Bar", "_x9", "ceil_mode", "a", "b"])
WORDS = st.sampled_from(["1", "-2.5e-3", "0x1F", "AVE", "true", '"a\\"b"', "'c' \"d\"", "inf"])
VERBATIM = st.recursive(
    WORDS.map(Word),
    lambda inner: st.dictionaries(NAMES, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    max_leaves=6,
)
LAYER_PARTS = {"name", "type", "bottom", "top"}
OWN = sorted(fields("LayerParameter").keys() - LAYER_PARTS)


def value(field):
    """Values of a field of the schema, in a tree's form."""
    if field.kind == "message":
        one = tree(field.message)
    elif field.kind == "enum":
        one = st.sampled_from(list(field.values)).map(Word)
    else:
        one = SCALARS[field.kind]
    return st.lists(one, min_size=1, max_size=3).map(tuple) if field.repeated else one


def tree(message, but=()):
    """Trees of a message: any of its fields."""
    known = {n: st.deferred(later(f)) for n, f in fields(message).items() if n not in but}
    needed = {name: known.pop(name) for name in required(message)}
    return st.fixed_dictionaries(needed, optional=known)


def later(field):
    return lambda: value(field)


NAME_LISTS = st.lists(STRINGS, max_size=3).map(tuple)
QUICK = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def check_law(net, *, lenient=False):
    text = to_prototxt(net)
    again = read_prototxt(text, lenient=lenient)

    assert again == net
    assert to_prototxt(again) == text


@pytest.mark.parametrize("name", OWN)
def test_round_trip_of_each_field(name):
    """Whatever a field of a layer holds, reading back gives it again."""

    @settings(QUICK, max_examples=8)
    @given(value(fields("LayerParameter")[name]), st.sampled_from(["Pooling", "Tile", "Foo"]))
    def law(value, type):
        check_law(Net("n", (make_layer("a", type, ("x",), ("y",), {name: value}),)))

    law()


@settings(QUICK, max_examples=60)
@given(STRINGS.filter(bool), tree("NetParameter", but=("name", "layer", "layers")))
def test_round_trip_of_a_net_without_layers(name, rest):
    check_law(Net(name, (), rest))


@settings(QUICK, max_examples=60)
@given(st.lists(st.tuples(STRINGS, STRINGS, NAME_LISTS, NAME_LISTS), min_size=1, max_size=5))
def test_round_trip_of_names(parts):
    check_law(Net("", tuple(make_layer(*part) for part in parts)))


@settings(QUICK, max_examples=60)
@given(st.dictionaries(NAMES, st.lists(VERBATIM, min_size=1, max_size=3).map(tuple)))
def test_round_trip_of_unknown_fields(unknown):
    inner = {"convolution_param": {"num_output": 3, **unknown}}
    own = {f"{name}_param": values for name, values in unknown.items()}
    check_law(Net("n", (make_layer("a", "Foo", ("x",), ("y",), own),)))
    everywhere = {**unknown, **inner}
    check_law(Net("n", (make_layer("a", "Foo", ("x",), ("y",), everywhere),)), lenient=True)


# ---- reading

POOL = """name: "n"
input: "data"
input_shape { dim: 2 dim: 3 dim: 7 dim: 5 }
layer {
  name: "p" type: "Pooling" bottom: "data" top: "p"
  pooling_param { pool: AVE kernel_size: 3 }
}
"""
POOL_NET = Net(
    "n",
    (Pooling.of("p", "data", "p", pool="AVE", kernel_size=3),),
    {"input": ("data",), "input_shape": ({"dim": (2, 3, 7, 5)},)},
)


@pytest.mark.parametrize("encoded", [POOL, POOL.replace("\n", "\r\n"), POOL.replace("\n", "\r")])
def test_text_and_path(tmp_path, encoded):
    path = tmp_path / "pool: {it}.prototxt"
    path.write_bytes(encoded.encode())
    plain = tmp_path / "pool.prototxt"
    plain.write_bytes(encoded.encode())

    assert read_prototxt(encoded) == POOL_NET
    assert read_prototxt(path) == POOL_NET  # a Path is a path, whatever its name
    assert read_prototxt(str(plain)) == POOL_NET


@pytest.mark.parametrize("text", ['name: "n"', 'name:"n"', "name:'n'", "layer{}", '\nname :"n"'])
def test_short_text_is_no_path(text):
    assert isinstance(read_prototxt(text), Net)


def test_comments_stay_comments():
    """Of several lines, too: what is in them is never a part of the net."""
    text = to_prototxt(POOL_NET, comments=["one", "two\nname: 'no'\r\nlayer {"])

    assert text.splitlines()[:4] == ["# one", "# two", "# name: 'no'", "# layer {"]
    assert read_prototxt(text) == POOL_NET


def test_classes():
    """Types with a class become it, others are carried as they are."""
    known, other = read_prototxt(
        'layer { type: "Pooling" }\nlayer { type: "Python" python_param { layer: "L" } }'
    ).layers

    assert type(known) is Pooling
    assert type(other) is Layer
    assert other.fields == {"python_param": {"layer": "L"}}


def test_lenient():
    text = 'layer {\n  type: "Pooling"\n  pooling_param { avg_include_pad: false }\n}\n'
    warnings = []

    with pytest.raises(PrototxtError, match=r"has no field 'avg_include_pad'.*--lenient"):
        read_prototxt(text)
    net = read_prototxt(text, lenient=True, warnings=warnings)

    assert net.layers[0].param == {"avg_include_pad": ("false",)}
    assert read_prototxt(to_prototxt(net), lenient=True) == net
    assert warnings == [
        "<text>:3:19: PoolingParameter has no field 'avg_include_pad'; kept as it is",
    ]


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_released_files(released_dir, depth):
    net = read_prototxt(released_dir / f"ResNet-{depth}-deploy.prototxt")

    assert net.name == f"ResNet-{depth}"
    assert read_prototxt(to_prototxt(net)) == net


def test_a_real_file(half_width):
    net = read_prototxt(half_width[0])

    assert read_prototxt(to_prototxt(net)) == net


# ---- what is no net

HTML = "\n<!DOCTYPE html>\n<html></html>\n"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file, not a prototxt"),
        (b"\x1f\x8b\x08\0", "a gzip file, not a prototxt; unpack it first"),
        (b"PK\x03\x04\x14\0", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer, .* git lfs pull"),
        (HTML.encode(), r"a web page \(HTML\)"),
        (b"\x0a\x05LeNet\xa2\x06\x10\x0a\x04data\0\0\x80?", "a caffemodel, not .* go to --weights"),
        (b"\x12\x10\x0a\x04data\0\0\x80?", "a caffemodel, not .* go to --weights"),
        (b"\x2a\x10\x0a\x04data\0\0\x80?", r"binary file \(a caffemodel\?\)"),
        (b"\x80\x02\x8a\x0al\xfc\x9c", "a pickle .*, not a prototxt; give the prototxt"),
        (b'\x20\0\0\0\0\0\0\0{"__metadata__":{}}', "safetensors file, not .*; give the prototxt"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"an image \(PNG\), not .* --input FILE` runs"),
        (b"", "this is empty"),
        (b"# nothing\n", "this is empty"),
        (b'\xef\xbb\xbfname: "n"', "byte order mark; save the file as UTF-8 without it"),
        (b'\xff\xfen\0a\0m\0e\0:\0 \0"\0"\0', "UTF-16 text, .* save it as UTF-8"),
        (b'layers { layer { name: "c" type: "Conv" } }', "'c' .*: Caffe knows no such type"),
    ],
)
def test_other_files(tmp_path, data, problem):
    path = tmp_path / "net.prototxt"
    path.write_bytes(data)

    with pytest.raises(PrototxtError, match=rf"^\S*net.prototxt.*{problem}"):
        read_prototxt(path)
    if data and b"\n<" not in data and b"\xef" not in data:
        path.write_bytes(b'name: "n" # ' + data.replace(b"\0", b"").replace(b"\n", b""))
        assert read_prototxt(path) == Net("n")


def test_other_text():
    with pytest.raises(PrototxtError, match="<text> is a web page"):
        read_prototxt(HTML)
    with pytest.raises(PrototxtError, match="<stdin>: this is empty"):
        parse_net("", source="<stdin>")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(PrototxtError, match=r"nosuch.prototxt: no such file"):
        read_prototxt(str(tmp_path / "nosuch.prototxt"))
    with pytest.raises(PrototxtError, match="cannot be read: Is a directory"):
        read_prototxt(tmp_path)
    with pytest.raises(PrototxtError, match="cannot be read"):
        read_prototxt("a\0b")


# ---- hostile text

BITS = [*"{}<>[]:;,\"'\\-+.0189efx# \n\r\t\0\x01\ufeffé\udcff\ud800_", "name", "layer", "inf"]
BITS += ["type", "foo_param", '"a"', "1.5", "\\u", "\\x", "0x", "{}", "[]", "99999999999", "//"]
SEED = POOL + (
    'layer { type: "Foo" foo_param { a: [1, "x"] b { c: -1.f } } include { phase: TEST } }\n'
    'layer { name: "c" type: "Convolution" convolution_param { pad: [1, 0] bias_term: t } }\n'
)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_text(seed):
    """Text with random damage is refused, or is a net that can be written and read back."""
    rng = random.Random(seed)
    taken = 0
    for _ in range(500):
        text = SEED
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(text) + 1)
            end = start + rng.choice([0, 0, 1, 1, 3, 20])
            text = text[:start] + rng.choice([*BITS, ""]) + text[end:]
        try:
            net = parse_net(text, lenient=rng.random() < 0.5)
        except ResNetProtoError as error:
            str(error).encode()  # can be shown
        else:
            taken += 1
            assert read_prototxt(to_prototxt(net), lenient=True) == net
    assert 20 < taken < 480
