r"""The text parser takes what Caffe's takes, and its errors show where and what.

``VALUES`` and ``FORMS`` are probes: spellings that are taken, beside spellings that are
refused. protoc (today's C++ parser) and the real Caffe (protobuf 3.17's) are asked about
each of them. One difference is known: protoc takes ``\X41``, Caffe does not.
"""

import json
import math
import subprocess
import sys

import pytest

from resnet_proto import schema
from resnet_proto.errors import PrototxtError
from resnet_proto.text_format import parse
from resnet_proto.words import Word

LAYER = 'layer { name: "a" type: "Input" top: "a" %s }'
words = str.split
FLOAT_MAX = 3.4028234663852886e38

# Where a value stands -> {spelling: what it means}, and spellings that are refused.
VALUES = {
    "input_dim: %s": (  # int32
        {
            "0": 0,
            "-0": 0,
            "12": 12,
            "-7": -7,
            "- 7": -7,
            "-\n7": -7,
            "- # seven\n7": -7,
            "2147483647": 2**31 - 1,
            "-2147483648": -(2**31),
            "0x1F": 31,
            "0X1f": 31,
            "-0x10": -16,
            "0x7fffffff": 2**31 - 1,
            "010": 8,
            "-010": -8,
            "00": 0,
            "000000000000000000000000000000001": 1,
            "0x0000000000000000000000000000001": 1,
            "[5]": 5,
        },
        words(
            "+4 --1 2147483648 -2147483649 0x80000000 037777777777 0x 0xg 08 1.0 1. 1e3 1f 1e a 1_0"
            ' 0b1 1L "1" -"1" 99999999999999999999999999 0x1.0 {} [[5]] \u0661'
        ),
    ),
    "input_shape { dim: %s }": (  # int64
        {
            "9223372036854775807": 2**63 - 1,
            "-9223372036854775808": -(2**63),
            "-0x8000000000000000": -(2**63),
        },
        ["9223372036854775808", "-9223372036854775809", "18446744073709551616"],
    ),
    LAYER % "convolution_param { num_output: %s }": (  # uint32
        {"1": 1, "4294967295": 2**32 - 1, "0x20": 32, "040": 32},
        ["-1", "- 1", "-0", "+4", "4294967296", "1.0", "1e1", "[1]"],
    ),
    LAYER % "loss_weight: %s": (  # float
        {
            "1": 1.0,
            "1.": 1.0,
            ".5": 0.5,
            "0.5": 0.5,
            "1.f": 1.0,
            "2F": 2.0,
            "2.5f": 2.5,
            "0f": 0.0,
            "0e5": 0.0,
            "1e5": 1e5,
            "1E+5": 1e5,
            "25e-2f": 0.25,
            "-1": -1.0,
            "- 2": -2.0,
            "-.5": -0.5,
            "inf": math.inf,
            "-Inf": -math.inf,
            "- INFINITY": -math.inf,
            "infinity": math.inf,
            "1e400": math.inf,
            "-3.5e38": -math.inf,
            "3.4028235e38": FLOAT_MAX,
            "1e-50": 0.0,
            "18446744073709551616": 2.0**64,
            "0.1": 0.10000000149011612,
        },
        words(
            "+1 +4 --1 0x10 010 08 08.5 00.5 00f 1e 1e+ 1ef 1..2 1.2.3 1.2f3 1.2fx 1e5.0 0x1p3 1d"
            ' 1_0 . .f infi "1" true {}'
        ),
    ),
    "force_backward: %s": (
        dict.fromkeys(["true", "True", "t", "1", "01", "0x1"], True)
        | dict.fromkeys(["false", "False", "f", "0", "00", "0X0"], False),
        words('TRUE tRue T F yes on 2 0x2 -1 -0 1.0 1f "true" [true]'),
    ),
    LAYER % "convolution_param { engine: %s }": (
        dict.fromkeys(["CAFFE", "1", "0x1", "01"], "CAFFE") | {"DEFAULT": "DEFAULT", "2": "CUDNN"},
        ["caffe", '"CAFFE"', "3", "-1", "- 1", "1.0", "CAFFE CUDNN", "[CAFFE]", "TRAIN"],
    ),
    "name: %s": (
        {
            '"x"': "x",
            "'x'": "x",
            "'a\"b'": 'a"b',
            '"a" "b"': "ab",
            "'a'\n # more\n\"b\"'c'": "abc",
            '"x\ty"': "x\ty",
            '"x\ry"': "x\ry",
            '"x\x01\x7fy"': "x\x01\x7fy",
            '"é"': "é",
            '"\udce9"': "\udce9",
            '"\udcc3" "\udca9"': "é",
            r'"\a\b\f\n\r\t\v\\\?\'\""': "\a\b\f\n\r\t\v\\?'\"",
            r'"\101\1\0123\0"': "A\x01\n3\0",
            r'"\400\777"': "\0\udcff",
            r'"\x41\x4\x414"': "A\x04A4",
            r'"\303\251"': "é",
            r'"\303" "\251"': "é",
            r'"\u00e9\U0001F600"': "é\U0001f600",
            r'"\ud83d\uDE00"': "\U0001f600",
            r'"\U0000d83d\ude00"': "\U0001f600",
            r'"\ud83dx"': "\udced\udca0\udcbdx",
            r'"\U00110000"': r"\U00110000",
        },
        [
            *("x", "1", '["x"]', '"x', "'x", "\"x'", '"x\ny"', '"x\\\ny"', '"x\0y"', r'"x\"'),
            *(r'"\q"', r'"\8"', r'"\x"', r'"\xg"', r'"\X41"', r'"\u12"', r'"\U00200000"'),
        ],
    ),
}

# Text that is taken, beside text that is refused.
FORMS = [
    ('name: "x"', 'name "x"'),
    ('name : "x"', 'name : : "x"'),
    ('name:"x"debug_info:1', 'debug_info: 1name: "x"'),
    ('name: "x";', 'name: "x";;'),
    ('name: "x", debug_info: t', 'name: "x",, debug_info: t'),
    ('name: "x"', '; name: "x"'),
    ('name: "x" debug_info: f', 'name: "x" name: "y"'),
    ("name: 'x'", "NAME: 'x'"),
    ("name: 'x'", "Name: 'x'"),
    ("name: 'x'", "nosuch: 'x'"),
    ("name: 'x'", "name = 'x'"),
    ("name: 'x'", "name:"),
    ("name: 'x'", "name"),
    ("name: 'x'", '"name": "x"'),
    ("name: 'x'", "1: 'x'"),
    ("name: 'x'", "[caffe.name]: 'x'"),
    ("name: 'x'", "caffe.name: 'x'"),
    ("force_backward: 1", "force-backward: 1"),
    ("", "}"),
    ("# only a comment", "// no comment"),
    ('# c\nname: "x" # d', '/* c */ name: "x"'),
    ("force_backward:1#c", "force_backward:1/c"),
    ('name: "x"\r\ndebug_info: 1\r\n', 'name: "x"\\\ndebug_info: 1'),
    ('name: "x"\rdebug_info: 1', 'name: "x"\0debug_info: 1'),
    ('# é \udcff\nname: "x"', "\ufeffname: 'x'"),
    ('# c\rname: "x"', '# c\0\nname: "x"'),
    ('name: \t\v\f"x"', 'name:\xa0"x"'),
    ('name: "x" ', '\x01name: "x"'),
    ('name: "x" ', '\x7fname: "x"'),
    ('input: ["a", "b"]', 'input ["a", "b"]'),
    ('input: ["a" "b", \'c\']', 'input: ["a"; "b"]'),
    ("input: []", "input: [,]"),
    ('input: ["a"] input: "b"', 'input: ["a",]'),
    ("input_dim: [1, - 2, 0x3];", "input_dim: [1 2]"),
    ("input_dim: [1] input_dim: 2", "input_dim: 1 2"),
    ("input_dim: [1, 2]", "input_dim: [1,, 2]"),
    ("input_shape { dim: 1 }", "input_shape = { dim: 1 }"),
    ("input_shape: { dim: 1 }", "input_shape:: { dim: 1 }"),
    ("input_shape < dim: 1 >", "input_shape < dim: 1 }"),
    ("input_shape: < dim: 1 >", "input_shape { dim: 1 >"),
    ("input_shape {}", "input_shape {"),
    ("input_shape { dim: 1; dim: [2, 3], }", "input_shape { ; }"),
    ("input_shape { dim: 1 };", "input_shape { dim: 1 };;"),
    ("input_shape: [{ dim: 1 }, < dim: 2 >]", "input_shape: [{ dim: 1 } { dim: 2 }]"),
    ("input_shape [{ dim: 1 }]", "input_shape [{ dim: 1 },]"),
    ("input_shape: []", "input_shape: 1"),
    ("state { level: 1 phase: TEST }", "state { level: 1 level: 1 }"),
    ("state {}", "state {} state {}"),
    ("state { level: 1 }", "state: [{ level: 1 }]"),
    (LAYER % "phase: TEST", LAYER % "phase: [TEST]"),
    (LAYER % "propagate_down: [true, 0, f]", LAYER % "propagate_down { }"),
    (LAYER % "loss_weight: [1, 2.5f, - 3]", LAYER % "loss_weight: [+1]"),
    (LAYER % "exclude {} exclude: <phase: 0>", LAYER % "exclude { phase: 2 }"),
    (LAYER % "convolution_param: { pad: 1 pad: [2, 3] }", LAYER % "convolution_param { pad: -1 }"),
    (
        LAYER % "convolution_param { kernel_size: 3, stride: 2; pad: 1 }",
        LAYER % "convolution_param { kernel_size: 3 : stride: 2 }",
    ),
    (
        LAYER % "convolution_param { weight_filler{value:-.5} bias_filler{value:inf} }",
        LAYER % "convolution_param { weight_filler{value:-.5} weight_filler{value:1} }",
    ),
    (LAYER % "", LAYER % "" + " }"),
    (LAYER % "blobs { double_data: [1e300, 1e400] }", LAYER % "blobs { data: 0x1 }"),
    (LAYER % "pooling_param { pool: AVE }", LAYER % "pooling_param { floor_mode: false }"),
    (LAYER % "pooling_param { pool: AVE }", LAYER % "foo_param { pool: AVE }"),
    ("layers { type: CONVOLUTION }", "layers { type: 999 }"),
    ('layers { layer { name: "x" type: "conv" } }', 'layers { type: "CONVOLUTION" }'),
]

TAKEN = [where % text for where, (taken, _) in VALUES.items() for text in taken]
TAKEN += [taken for taken, _ in FORMS]
REFUSED = [where % text for where, (_, refused) in VALUES.items() for text in refused]
REFUSED += [refused for _, refused in FORMS]
TAKEN, REFUSED = list(dict.fromkeys(TAKEN)), list(dict.fromkeys(REFUSED))

PAIRS = [(where, text, value) for where, (t, _) in VALUES.items() for text, value in t.items()]


def net(text, **options):
    return parse(text, "NetParameter", **options)


def innermost(tree):
    """The value that was set last."""
    while isinstance(tree, dict | tuple):
        tree = list(tree.values())[-1] if isinstance(tree, dict) else tree[-1]
    return tree


@pytest.mark.parametrize(("where", "text", "value"), PAIRS)
def test_values(where, text, value):
    got = innermost(net(where % text))

    assert got == value
    assert type(got) is (Word if "engine" in where else type(value))


@pytest.mark.parametrize("text", ["nan", "NaN", "- nan"])
def test_nan(text):
    assert math.isnan(innermost(net("layer { loss_weight: %s }" % text)))  # noqa: UP031


@pytest.mark.parametrize("text", TAKEN)
def test_taken(text):
    """What is taken is also the same with every optional sign left out or added."""
    assert net(text) == net(f" {text} # end\n") == net(text, lenient=True)


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    with pytest.raises(PrototxtError, match=r"<text>:\d+:\d+: "):
        net(text)


def test_required_fields():
    """Caffe refuses the text; protoc would only warn, and the real Caffe at hand has no Clip."""
    assert net(LAYER % "clip_param { max: 1 min: 0 }")
    with pytest.raises(PrototxtError, match=r"1:62: ClipParameter needs max, which is not set"):
        net(LAYER % "clip_param { min: 0 }")


# ---- the parsers that decide

CHILD = r"""
import json, os, sys, tempfile
oracle, texts = sys.argv[1], json.load(sys.stdin)
if oracle == "protoc":
    from grpc_tools import protoc
else:
    import caffe
answers = []
for text in texts:
    with tempfile.NamedTemporaryFile() as given, tempfile.TemporaryFile() as out, \
            tempfile.TemporaryFile() as log:
        given.write(text.encode("utf-8", "surrogateescape"))
        given.flush()
        os.lseek(given.fileno(), 0, os.SEEK_SET)
        child = os.fork()  # a refusal ends the process
        if not child:
            for file, number in (given, 0), (out, 1), (log, 2):
                os.dup2(file.fileno(), number)
            status = 0
            try:
                if oracle == "protoc":
                    status = protoc.main(sys.argv[1:])
                else:
                    caffe.Net(given.name, caffe.TEST)
            finally:
                os._exit(status & 255)
        status = os.waitpid(child, 0)[1]
        out.seek(0)
        log.seek(0)
        refused = status if oracle == "protoc" else b"Error parsing text-format" in log.read()
        answers.append(None if refused else out.read().hex())
json.dump(answers, sys.stdout)
"""


def ask(python, *arguments):
    run = subprocess.run(
        [python, "-c", CHILD, *arguments],
        input=json.dumps([*TAKEN, *REFUSED]),
        capture_output=True,
        text=True,
        check=True,
        env={"GLOG_minloglevel": "2", "PYTHONWARNINGS": "ignore"},
    )
    answers = json.loads(run.stdout)
    return answers[: len(TAKEN)], answers[len(TAKEN) :]


def test_protoc_agrees(protoc):
    folder = str(schema.COMPILED.parent)

    taken, refused = ask(
        sys.executable, "protoc", "--encode=caffe.NetParameter", f"-I{folder}", "caffe.proto"
    )

    assert [text for text, data in zip(REFUSED, refused, strict=True) if data is not None] == [
        r'name: "\X41"'
    ]
    for text, data in zip(TAKEN, taken, strict=True):
        assert schema.decode("NetParameter", bytes.fromhex(data)) == net(text), text


def test_caffe_agrees(caffe_python):
    taken, refused = ask(caffe_python, "caffe")

    assert [text for text, data in zip(TAKEN, taken, strict=True) if data is None] == []
    assert [text for text, data in zip(REFUSED, refused, strict=True) if data is not None] == []


# ---- fields that the schema lacks

FOREIGN = """\
  foo_param: { a: 1 b: [- 2, 0x1F, 1.f] c { d: "x" 'y\\n' } c < > e: AVE e: [] }
  bar_param: true
"""
FOREIGN_TREE = {
    "foo_param": (
        {
            "a": ("1",),
            "b": ("-2", "0x1F", "1.f"),
            "c": ({"d": ("\"x\" 'y\\n'",)}, {}),
            "e": ("AVE",),
        },
    ),
    "bar_param": ("true",),
}


@pytest.mark.parametrize("text", [f'type: "Foo"\n{FOREIGN}', f'{FOREIGN}type: "Foo"\n'])
def test_unknown_type_keeps_unknown_fields(text):
    tree = net(f"layer {{ {text} }}")["layer"][0]

    assert tree == {"type": "Foo", **FOREIGN_TREE}
    assert type(tree["foo_param"][0]["b"][1]) is Word


@pytest.mark.parametrize(
    "text", [f'type: "Tile"\n{FOREIGN}', f'{FOREIGN}type: "Scale"\n', FOREIGN, f'{FOREIGN}type:""']
)
def test_known_type_refuses_unknown_fields(text):
    warnings = []

    with pytest.raises(PrototxtError, match="LayerParameter has no field 'foo_param'"):
        net(f"layer {{ {text} }}")
    tree = net(f"layer {{ {text} }}", lenient=True, warnings=warnings)["layer"][0]

    assert {key: tree[key] for key in FOREIGN_TREE} == FOREIGN_TREE
    assert [line.split(" ", 1)[1] for line in warnings] == [
        "LayerParameter has no field 'foo_param'; kept as it is",
        "LayerParameter has no field 'bar_param'; kept as it is",
    ]


@pytest.mark.parametrize(
    ("refused", "accepted", "message"),
    [
        ('botom: "x"', 'bottom: "x"', "LayerParameter has no field 'botom'; nearest: bottom"),
        ("inclde {}", "include {}", "LayerParameter has no field 'inclde'; nearest: include"),
        ("include { fase: 1 }", "foo_param { fase: 1 }", "NetStateRule has no field 'fase'"),
        (
            "convolution_param { foo_param: 1 }",
            "foo_param { convolution_param: 1 }",
            "ConvolutionParameter has no field 'foo_param'",
        ),
        (
            'convolution_param { weight_filler { type: "new" gain: 2 } }',
            'convolution_param { weight_filler { type: "new" std: 2 } }',
            "FillerParameter has no field 'gain'",
        ),
    ],
)
@pytest.mark.parametrize("order", ['type: "Foo" {}', '{} type: "Foo"'])
def test_unknown_type_takes_no_other_unknown_field(refused, accepted, message, order):
    """The fields that every layer has are known, and so are the messages of Caffe's own types."""
    assert net(f"layer {{ {order.format(accepted)} }}")

    with pytest.raises(PrototxtError, match=message):
        net(f"layer {{ {order.format(refused)} }}")
    warnings = []
    assert net(f"layer {{ {order.format(refused)} }}", lenient=True, warnings=warnings)
    assert len(warnings) == 1


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("inner", ["layer", "layers"])
@pytest.mark.parametrize("type", ["Foo", "Scale"])
def test_a_layer_in_a_layer_lacks_a_brace(type, inner, lenient):
    text = f'layer {{ type: "{type}" scale_param {{ axis: 1 }} %s {inner} {{ }} %s'
    assert net(text % ("}", ""))

    with pytest.raises(PrototxtError, match="is a '}' missing for the block 'layer'"):
        net(text % ("", "}"), lenient=lenient)


@pytest.mark.parametrize(
    ("taken", "refused"),
    [
        ("a: 1", "a: +1"),
        ("a: 1", "a: 08"),
        ("a: 1", "a 1"),
        ("a { b: 1 }", "a { b: 1 >"),
        ("a: [1, 2]", "a: [1 2]"),
        ("a: []", "a: [,]"),
        ("a: [1]", "a: [1,]"),
        ("a: [{}]", "a [{}]"),
        ('a: "x"', 'a: "x'),
        ('a: "\\n"', 'a: "\\q"'),
        ("a: x", "a: -"),
        ("a {}", "a { 1 }"),
        ("a {};", "a {};;"),
    ],
)
def test_unknown_fields_are_text_format_too(taken, refused):
    assert net(f'layer {{ type: "Foo" foo_param {{ {taken} }} }}')
    with pytest.raises(PrototxtError):
        net(f'layer {{ type: "Foo" foo_param {{ {refused} }} }}')


# ---- errors

CONV = 'layer {\n  name: "c"\n  type: "Convolution"\n  convolution_param {\n    %s\n  }\n}\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            CONV % "kernel_sise: 3",
            "a.prototxt:5:5: ConvolutionParameter has no field 'kernel_sise'; nearest: "
            "kernel_size, kernel_w, kernel_h; --lenient keeps a field of a fork\n"
            "    kernel_sise: 3\n"
            "    ^",
        ),
        (
            CONV % "num_output: 6.4",
            "a.prototxt:5:17: expected an integer that is not negative for num_output, got '6.4'\n"
            "    num_output: 6.4\n"
            "                ^",
        ),
        (
            CONV % "num_output: 64 }",
            "a.prototxt:7:1: '}' closes no block; remove it, or find the one too many\n}\n^",
        ),
        (
            'layer {\n  type: "Tile"\n  tile_param {\n}\nlayer { name: "b" }\n',
            "a.prototxt:5:1: LayerParameter has no field 'layer'; is a '}' missing for the block "
            "'layer' opened on line 1?\n"
            'layer { name: "b" }\n'
            "^",
        ),
        (
            'layer {\n  convolution_param {\n    pad: 1\n  top: "c"\n}}\n',
            "a.prototxt:4:3: ConvolutionParameter has no field 'top'; is a '}' missing for the "
            "block 'convolution_param' opened on line 2?\n"
            '  top: "c"\n'
            "  ^",
        ),
        (
            "base_lr: 0.1\nnet: 'train_val.prototxt'\n",
            "a.prototxt:1:1: NetParameter has no field 'base_lr'; this is a solver; its net is in "
            "'train_val.prototxt'\n"
            "base_lr: 0.1\n"
            "^",
        ),
        (
            "# A title\n\nSome words.\n",
            "a.prototxt:3:1: NetParameter has no field 'Some'; this is not the prototxt of a net; "
            "that begins with name: or layer {\n"
            "Some words.\n"
            "^",
        ),
        (
            "name: 'a'\nlayr {}\n",
            "a.prototxt:2:1: NetParameter has no field 'layr'; nearest: layer, layers; --lenient "
            "keeps a field of a fork\n"
            "layr {}\n"
            "^",
        ),
        (
            "input_shape {}\r\nlayer {\r\n  relu_param {}\r\n",
            "a.prototxt:2:1: the block 'layer' that begins here is not closed; line 4 has the end "
            "of the text instead\n"
            "layer {\n"
            "^",
        ),
        (
            CONV % "engine: MKL",
            "a.prototxt:5:13: engine cannot be 'MKL'; known: DEFAULT, CAFFE, CUDNN\n"
            "    engine: MKL\n"
            "            ^",
        ),
        (
            CONV % "bias_term: no",
            "a.prototxt:5:16: expected true or false for bias_term, got 'no'\n"
            "    bias_term: no\n"
            "               ^",
        ),
        (
            CONV % "axis: 1 axis: 1",
            "a.prototxt:5:13: axis is set twice in ConvolutionParameter; keep one of the two\n"
            "    axis: 1 axis: 1\n"
            "            ^",
        ),
        (
            'name:\t"a\udcff',
            'a.prototxt:1:7: expected a quoted string for name, got a string without its closing "'
            " (it must end on its line)\n"
            'name: "a\ufffd\n'
            "      ^",
        ),
        (
            "debug_info: 1\rname: x\rforce_backward: 1",
            "a.prototxt:2:7: expected a quoted string for name, got 'x'\nname: x\n      ^",
        ),
        (
            'name: "\\d"',
            "a.prototxt:1:7: '\\d' is not an escape; a backslash is spelled '\\\\'\n"
            'name: "\\d"\n'
            "      ^",
        ),
        (
            "input_dim: 3000000000",
            "a.prototxt:1:12: input_dim takes int32; '3000000000' is too large\n"
            "input_dim: 3000000000\n"
            "           ^",
        ),
    ],
)
def test_errors(text, error):
    with pytest.raises(PrototxtError) as caught:
        net(text, source="a.prototxt")

    assert str(caught.value) == error


def test_error_in_a_long_line():
    """Only the part of the line around the error is shown."""
    with pytest.raises(PrototxtError) as caught:
        net("input_dim: 1 " * 100 + "nosuch: 1 " + "input_dim: 1 " * 100)
    _, shown, caret = str(caught.value).split("\n")

    assert len(shown) == 100
    assert shown[len(caret) - 1 :].startswith("nosuch: 1")


# ---- size

DEEP = 50_000


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        ("", "{"),
        ("", "layer {"),
        ('layer { type: "Foo" a_param { ', "a {"),
        ('layer { type: "Foo" a_param: ', "["),
        ("", '"\\'),
        ("", "'\n"),
        ('name: "', "\\"),
        ("input_dim: ", "1"),
        ("", "a: 1 "),
        ("", "layer { a: 1 } "),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_hostile_text(begin, piece, lenient):
    """Refused, or read, in steps that grow with its length only, and without deep recursion."""
    taken = lenient and "a: 1" in piece

    def read(text):
        if taken:
            net(text, lenient=True)
        else:
            with pytest.raises(PrototxtError):
                net(text, lenient=lenient)

    few, many = (lines_run(read, begin + piece * n) for n in (DEEP // 10, DEEP))
    assert many < 11 * few


def test_nesting():
    """As deep as 100 unknown messages."""
    text = 'layer { type: "Foo" %s }'

    assert net(text % ("a_param {" + "a {" * 99 + "}" * 100))
    with pytest.raises(PrototxtError, match="nested deeper than 100"):
        net(text % ("a_param {" + "a {" * 100 + "}" * 101))


def test_steps_grow_with_the_length():
    """A net of 5,000 layers: 300 lines for each."""
    layer = 'layer { name: "c%d" type: "Pooling" bottom: "d" top: "d" pooling_param { pad: 1 } }\n'
    few, many = (lines_run(net, "".join(layer % i for i in range(n))) for n in (500, 5000))

    assert few < many < 11 * few


def lines_run(function, text):
    """How many lines of Python run; the regular expressions behind them are not seen."""
    n_lines = 0

    def trace(frame, event, argument):
        nonlocal n_lines
        n_lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(text)
    finally:
        sys.settrace(before)
    return n_lines
