"""The schema is compiled, agrees with the layer classes, and its binary form is protobuf's."""

import math

import pytest

from resnet_proto import schema
from resnet_proto.errors import FormatError, NetError
from resnet_proto.forks import FORKS
from resnet_proto.layers import REGISTRY, normal
from resnet_proto.words import Word


def test_descriptor_set_is_up_to_date(tmp_path, protoc):
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    fresh, folder = tmp_path / "caffe.binpb", schema.COMPILED.parent
    protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={fresh}", "caffe.proto"])

    def read(path):
        return FileDescriptorSet.FromString(path.read_bytes())

    assert read(schema.COMPILED) == read(fresh), "caffe.binpb is out of date; run `make schema`"


@pytest.mark.parametrize("cls", REGISTRY.values(), ids=REGISTRY)
def test_layer_classes_agree(cls):
    """Each class has the fields and defaults of its message, and a type that is Caffe's."""
    own, *others = cls.message, *cls.other_messages
    for message, fields_of_class in (
        (own, cls.known_fields()),
        *((message, cls.known_fields(message)) for message in others),
    ):
        known = schema.fields("LayerParameter").get(message)
        fields = schema.fields(known.message) if known else {}

        assert fields_of_class.keys() == fields.keys()
        for name, field in fields_of_class.items():
            default = fields[name].default
            assert normal(field.default) == default if default else not field.default
            assert isinstance(field.default, tuple) == fields[name].repeated
            assert isinstance(field.default, Word) == (fields[name].kind == "enum")
            assert field.values == tuple(fields[name].values)


def test_types():
    assert set(REGISTRY) - schema.MAINLINE_TYPES == FORKS.keys()
    assert not schema.MAINLINE_TYPES & FORKS.keys()
    assert len(schema.MAINLINE_TYPES) == 61


@pytest.mark.parametrize(
    ("message", "name", "number", "default"),
    [
        ("NetParameter", "layer", 100, ()),
        ("PoolingParameter", "round_mode", 13, "CEIL"),
        ("LossParameter", "normalization", 3, "VALID"),
        ("SolverParameter", "snapshot_format", 37, "BINARYPROTO"),
        ("WindowDataParameter", "crop_mode", 11, "warp"),
        ("MVNParameter", "eps", 3, 1e-9),
        ("BatchNormParameter", "use_global_stats", 1, None),
        ("FillerParameter", "sparse", 7, -1),
        ("BlobProto", "double_diff", 9, ()),
        ("ConvolutionParameter", "bias_filler", 8, {}),
    ],
)
def test_fields(message, name, number, default):
    field = schema.fields(message)[name]

    assert (field.number, field.default) == (number, normal(default))
    assert schema.message(message).fields_by_name[name].number == number


TREE = {
    "name": "conv\udcff/é",
    "type": "Convolution",
    "bottom": ("data", "data2"),
    "loss_weight": (0.5,),
    "phase": Word("TEST"),
    "blobs": ({"shape": {"dim": (2, 3)}, "data": (1.0, math.inf), "double_data": (1e300,)},),
    "propagate_down": (True, False),
    "include": ({},),
    "convolution_param": {
        "pad": (1, 0),
        "weight_filler": {"type": "msra", "std": 0.25, "sparse": -3},
        "engine": Word("CUDNN"),
    },
    "pooling_param": {},
}


def test_binary_round_trip():
    data = schema.encode("LayerParameter", TREE)

    assert schema.decode("LayerParameter", data) == TREE
    assert data.startswith(b"\x0a\x08conv\xff/\xc3\xa9\x12\x0bConvolution\x1a\x04data")


def test_packed():
    """Caffe packs the values of a blob, and not the sides of a kernel."""
    assert schema.encode("BlobShape", {"dim": (1, 300)}) == bytes.fromhex("0a0301ac02")
    assert schema.encode("ConvolutionParameter", {"pad": (1, 2)}) == bytes.fromhex("18011802")


def test_unknown_fields_are_left_out():
    extra = {**TREE, "warp_param": ({"zoom": (Word("2"),)},)}

    assert schema.encode("LayerParameter", extra) == schema.encode("LayerParameter", TREE)
    assert schema.decode("ScaleParameter", bytes.fromhex("08 02 d0 0f 05")) == {"axis": 2}


@pytest.mark.parametrize(
    "fields", [{"pad": -1}, {"pool": Word("MEAN")}, {"pad": 1.5}, {"pad": 2**32}, {"pool": None}]
)
def test_value_that_its_field_cannot_hold(fields):
    with pytest.raises(NetError, match=r"PoolingParameter: (pad|pool) cannot be"):
        schema.encode("PoolingParameter", fields)
    assert schema.encode("PoolingParameter", {"pad": 1, "pool": Word("AVE")})


@pytest.mark.parametrize("data", [b"\x0a\xff", b"\x0a\x05abc", b"\x0f", b"\x80"])
def test_bytes_that_are_no_message(data):
    with pytest.raises(FormatError, match="are not a LayerParameter"):
        schema.decode("LayerParameter", data)
    assert schema.decode("LayerParameter", b"\x0a\x03abc") == {"name": "abc"}
