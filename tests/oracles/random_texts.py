"""Prototxt texts with random mistakes, for the parser.

A layer of type Clip, which the Caffe of the tests lacks, ends the net as soon as it is parsed.
"""

import re

TEXTS = (
    'name: "n" layer { name: "c" type: "Clip" bottom: "x" top: "y" }\n'
    "layer { name: 'a' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 0x3 } } }",
    'name: "n" # a net\nlayer { name: "c" type: "Clip" }\n'
    'layer { name: "conv" type: "Convolution" bottom: "x" top: "y" loss_weight: [1, -.5f]\n'
    "  param { lr_mult: 1 } param { lr_mult: 2e0; decay_mult: 0 },\n"
    "  convolution_param { num_output: 4 kernel_size: [3, 2] engine: CAFFE bias_term: false\n"
    '    weight_filler: < type: "xavier" std: 1e-2 > } }',
    'input: ["a", "b"] input_dim: 1 input_dim: - 3; input_shape { dim: 1, dim: 2 }\n'
    'state: { phase: TEST level: 010 stage: "s" "t" } force_backward: t debug_info: 0\n'
    "layer { type: \"Clip\" include { phase: TEST not_stage: 'x' } exclude {} phase: TRAIN\n"
    "  blobs { shape { dim: [5, 6] } data: [1.5, inf, - nan] double_data: 1e300 }\n"
    "  propagate_down: [true, False, f] pooling_param { pool: AVE stride: 2 } }",
    'layer { type: "Clip" }\nlayers { name: "old" type: CONVOLUTION blobs_lr: 1 blobs_lr: 2.F '
    "weight_decay: 0\n  convolution_param { num_output: 20 pad: 1 } include: { max_level: 2 } }\n"
    'layers { layer { name: "v0" type: "conv" kernelsize: 3 biasterm: True } bottom: "x\\n\\x41" }',
)
NUMBERS = (
    *("0", "1", "-1", "- 1", "+1", "00", "08", "010", "0x", "0x1f", "0X1F", "1_0", "4294967296"),
    *("2147483648", "-2147483649", "9223372036854775808", "18446744073709551616", "1" * 40, "[1]"),
    *("1.", ".5", "1.5", "1e5", "1e", "1e+", "1.f", "2F", "1ef", "0f", "00.5", "0x1p3", "1e400"),
    *("inf", "-inf", "Infinity", "nan", "NAN", "- nan", "infinit", "-.5", "-\n1", "- #\n1", "[]"),
)
WORDS = (
    *("true", "True", "TRUE", "t", "f", "yes", "AVE", "ave", "TEST", "TRAIN", "MAX", "CAFFE"),
    *("name", "layer", "dim", "type", "stage", "phase", "include", "shape", "pool", "data"),
    *("nosuch", "Layer", "[caffe.x]", "any.where", "0", "1", "2", "-1", "loss_weight", "level"),
)
STRINGS = (
    *('"a"', "'b'", '"a', "a'", r'"\q"', r'"\x"', r'"\777"', r'"\u00e9"', r'"\ud83d"', '"a\nb"'),
    *("''", '""', '"a" "b"', "'a'\n'b'", "\"a\"'b'", '"\\\n"', '"é"', '"\t"', r'"\xfff"', '["a"]'),
    *(r'"\0"', '"\0"', r'"\U0010ffff"', r'"\U00110000"', '"\udce9"', '"a"#\n"b"', '"\'"', "a"),
)
SIGNS = (
    *"{ } [ ] < > : ; , . - + / ' \" # \\ \n \r \t \v \f \0 = ( ) * @ ! %".split(" "),
    *(
        " ",
        "\x01",
        "\x7f",
        "\xa0",
        "\ufeff",
        "\u2028",
        "é",
        "\udce9",
        "//",
        "/*",
        ": :",
        ";;",
        ",;",
    ),
    *("# c\n", "#\r", "\r\n", " : ", ":<", ": {", "[{", "}]", "},", "};", "> ;", ": [", "] ;"),
)
SPACES = (
    "",
    " ",
    "\n",
    "\t",
    "\r",
    "\v",
    "\f",
    " # c\n",
    "#\n",
    " ;",
    ",",
    "; ",
    "\0",
    "\xa0",
    "/**/",
)
TOKENS = (
    *(NUMBERS + WORDS + STRINGS + SIGNS),
    *('name: "x"', "dim: 1", "layer {}", "include {}", "shape < >", "level: 1", "debug_info: 1"),
    *("propagate_down: [1]", "include [{}, <>]", "loss_weight: []", "dim: [1, 2]", "exclude: {},"),
)
SPLIT = re.compile(r"""(\s+|[A-Za-z_]+|[0-9.]+|"[^"]*"|'[^']*'|.)""")


def like(word):
    """Tokens that may stand where this one does."""
    if not word:
        return TOKENS
    if word[0] in "\"'":
        return STRINGS
    if word[0].isdigit() or word[0] == ".":
        return NUMBERS
    return WORDS if word[0].isalpha() else SIGNS


def random_text(rng):
    """A text with one to three changes, of words or of letters."""
    words = [word for word in SPLIT.split(TEXTS[int(rng.integers(len(TEXTS)))]) if word]
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        i = int(rng.integers(len(words)))
        way = int(rng.integers(10))
        if way == 0 and len(words) > 1:
            del words[i]
        elif way == 1:
            words.insert(i, words[i])
        elif way == 2:
            words.insert(i, str(rng.choice(TOKENS)))
        elif way == 3:
            other = int(rng.integers(len(words)))
            words[i], words[other] = words[other], words[i]
        elif way == 4:
            k = int(rng.integers(len(words[i]) + 1))
            words[i] = words[i][:k] + str(rng.choice(TOKENS)) + words[i][k + 1 :]
        elif words[i].isspace():
            words[i] = str(rng.choice(SPACES))
        else:
            words[i] = str(rng.choice(like(words[i])))
    return "".join(words)
