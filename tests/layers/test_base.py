"""The registry, fields, and what every type has to keep."""

import re
import subprocess
import sys

import numpy as np
import pytest

from resnet_proto import schema
from resnet_proto.errors import NetError, PrototxtError
from resnet_proto.layers import REGISTRY, Convolution, Field, Layer, make_layer, register
from resnet_proto.layers.base import ENUMS, FIELDS, MESSAGES, REPEATED
from resnet_proto.net import Net
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.words import Word


@pytest.mark.parametrize("type", REGISTRY)
def test_a_type_is_found_in_its_module(type):
    cls = REGISTRY[type]

    assert cls.__name__ == type
    assert cls.__module__ == f"resnet_proto.layers.{REGISTRY.modules[type]}"
    assert isinstance(make_layer("a", type), cls)


def test_registered_twice():
    with pytest.raises(ValueError, match="layer type 'Convolution' is registered twice"):
        register(type("Convolution", (Layer,), {}))
    assert REGISTRY["Convolution"] is Convolution


def test_unknown_type():
    assert "Crop9" not in REGISTRY
    assert type(make_layer("a", "Crop9")) is Layer
    with pytest.raises(ImportError, match="cannot import name 'Crop9'"):
        from resnet_proto.layers import Crop9  # noqa: F401


def test_modules_are_imported_when_needed():
    code = (
        "import sys, resnet_proto.layers as layers\n"
        "layers.make_layer('a', 'Crop')\n"
        "print(sorted(m for m in layers.REGISTRY.modules.values()"
        " if f'resnet_proto.layers.{m}' in sys.modules))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "['crop']"


class Two(Layer):
    message = "own_param"
    other_messages = ("loss_param",)

    own = Field(1)
    normalize = Field(True, "loss_param")


def test_fields_of_another_message():
    layer = Two.of("t", "x", ("y", "z"), own=2, normalize=False)

    assert layer.fields == {"own_param": {"own": 2}, "loss_param": {"normalize": False}}
    assert (layer.own, layer.normalize, layer.tops) == (2, False, ("y", "z"))
    assert Two("t", "Two").resolved() == {"own": 1}
    assert Two("t", "Two").resolved_others() == {"loss_param": {"normalize": True}}
    forks = Two("t", "Two", fields={"loss_param": {"of_a_fork": 3}})
    assert forks.resolved_others() == {"loss_param": {"of_a_fork": 3, "normalize": True}}

    with pytest.raises(NetError, match="Two has no field 'axis'"):
        Two.of("t", "x", "y", axis=1)


@pytest.mark.parametrize(
    ("type", "fields", "message"),
    [
        ("Convolution", {"convolution_param": {"num_output": "4"}},
         "num_output is '4'; expected a whole number"),
        ("Convolution", {"convolution_param": {"num_output": None}}, "num_output is None"),
        ("Convolution", {"convolution_param": {"num_output": 4.5}}, "num_output is 4.5"),
        ("Convolution", {"convolution_param": {"kernel_size": "3"}},
         "kernel_size is '3'; expected a whole number"),
        ("Convolution", {"convolution_param": {"stride": [2, 1.5]}}, "stride is 1.5; expected a w"),
        ("Eltwise", {"eltwise_param": {"coeff": [1, "x"]}}, "coeff is 'x'; expected a number"),
        ("Input", {"input_param": {"shape": [1, 3]}}, "shape is 1; expected fields"),
        ("Convolution", {"convolution_param": {"bias_term": "no"}},
         "bias_term is 'no'; expected true or false"),
        ("Convolution", {"convolution_param": 4}, "convolution_param is 4; expected its fields"),
        ("Convolution", {"convolution_param": {"weight_filler": "msra"}},
         "weight_filler is 'msra'; expected fields"),
        ("Pooling", {"pooling_param": {"pool": 1}}, "pool is 1; expected an enum's name"),
        ("ReLU", {"relu_param": {"negative_slope": "x"}}, "negative_slope is 'x'; expected a num"),
        ("ReLU", {"relu_param": {"negative_slope": 10**400}}, "negative_slope is larger than any"),
        ("SoftmaxWithLoss", {"loss_param": {"normalization": 3}}, "normalization is 3; exp"),
        ("ReLU", {"param": [1, 0]},
         "param is 1; expected fields: name, share_mode, lr_mult, decay_mult"),
        ("ReLU", {"include": "TRAIN"}, "include is 'TRAIN'; expected fields: phase, "),
    ],
)  # fmt: skip
def test_values_of_another_kind(type, fields, message):
    with pytest.raises(NetError, match=rf"layer 'a' \({type}\): {message}"):
        make_layer("a", type, "x", "y", fields)


@pytest.mark.parametrize(
    ("type", "fields", "message"),
    [
        ("Pooling", {"pooling_param": {"pool": "AVG", "kernel_size": 2}},
         ": pool cannot be 'AVG'; known: MAX, AVE, STOCHASTIC"),
        ("Eltwise", {"eltwise_param": {"operation": "MEAN"}},
         ": operation cannot be 'MEAN'; known: PROD, SUM, MAX"),
        ("Reduction", {"reduction_param": {"operation": "PROD"}},
         ": operation cannot be 'PROD'; known: SUM, ASUM, SUMSQ, MEAN"),
        ("ReLU", {"include": [{"phase": "TESTING"}]},
         ": phase cannot be 'TESTING'; known: TRAIN, TEST"),
        ("Convolution", {"convolution_param": {"weight_filler": {"variance_norm": "FAN"}}},
         ": variance_norm cannot be 'FAN'; known: FAN_IN, FAN_OUT, AVERAGE"),
        ("Convolution", {"convolution_param": {"padding": 1}},
         ": convolution_param has no field 'padding'; did you mean pad?"),
        ("Convolution", {"convolution_param": {"num_outputs": 4}},
         ": convolution_param has no field 'num_outputs'; did you mean num_output?"),
        ("Convolution", {"num_output": 4},
         " has no field 'num_output'; it belongs in convolution_param"),
        ("Convolution", {"convolution_params": {"num_output": 4}},
         " has no field 'convolution_params'; did you mean convolution_param"),
        ("SoftmaxWithLoss", {"loss_param": {"normalise": True}},
         ": loss_param has no field 'normalise'; did you mean normalize"),
        ("AbsVal", {"top": "y"}, " has no field 'top'"),
        ("Convolution", {"convolution_param": {"weight_filler": {"typ": "msra"}}},
         ": weight_filler has no field 'typ'; did you mean type?"),
        ("InnerProduct", {"param": [{"lr_mult": 1}, {"lr_mul": 2}]},
         ": param has no field 'lr_mul'; did you mean lr_mult?"),
        ("ReLU", {"include": {"phases": "TEST"}},
         ": include has no field 'phases'; did you mean phase?"),
        ("ReLU", {"exclude": {"phase": "TEST", "min_levl": 1}},
         ": exclude has no field 'min_levl'; did you mean min_level, max_level?"),
        ("Data", {"transform_param": {"crop": 224}},
         ": transform_param has no field 'crop'; did you mean crop_size?"),
        ("Input", {"input_param": {"shape": {"dims": [1, 3]}}},
         ": shape has no field 'dims'; did you mean dim?"),
        ("DetectionOutput", {"detection_output_param": {"save_output_param": {
            "resize_param": {"hight": 3}}}},
         ": resize_param has no field 'hight'; did you mean height?"),
        ("LSTM", {"recurrent_param": {"bias_filler": {"val": 1}}},
         ": bias_filler has no field 'val'; did you mean value?"),
    ],
)  # fmt: skip
def test_what_caffe_does_not_have(type, fields, message):
    """Caffe refuses it, and so does reading what would be written."""
    with pytest.raises(NetError, match=re.escape(f"layer 'a' ({type}){message}")):
        make_layer("a", type, "x", "y", fields)

    assert type == "AbsVal" or refused(to_prototxt(Net("", (Layer("a", type, "x", "y", fields),))))
    make_layer("a", type, "x", "y", {"propagate_down": (False,), "pooling_param": {"pool": "AVE"}})


def refused(text):
    with pytest.raises(PrototxtError):
        read_prototxt(text)
    return True


def test_unknown_fields_that_are_kept():
    """Of a net that is read leniently, of a type that nobody knows, and where it is asked for."""
    text = """
layer { name: "c" type: "Convolution" bottom: "x" top: "y" of_a_fork: 1
  param { of_a_fork: 3 }
  convolution_param { num_output: 4 kernel_size: 3 padding: 2 } }
layer { name: "u" type: "Unheard" bottom: "y" top: "z" unheard_param { padding: 2 } }
"""
    net = read_prototxt(text, lenient=True)
    c, u = net.layers

    assert [c.fields["of_a_fork"], c.param["padding"]] == [("1",), ("2",)]
    assert c.fields["param"] == ({"of_a_fork": ("3",)},)
    assert u.fields == {"unheard_param": ({"padding": ("2",)},)}
    assert make_layer(u.name, u.type, u.bottoms, u.tops, u.fields) == u
    assert make_layer(c.name, c.type, c.bottoms, c.tops, c.fields, lenient=True) == c
    with pytest.raises(NetError, match=r"layer 'c' \(Convolution\) has no field 'of_a_fork'"):
        make_layer(c.name, c.type, c.bottoms, c.tops, c.fields)


def test_values_of_the_right_kind():
    """Strings for enums, one value for a list, numpy's numbers: as the text would say it."""
    text = """
layer { name: "c" type: "Convolution" bottom: "x" top: "y" include { phase: TEST }
  param { name: "w" share_mode: PERMISSIVE }
  convolution_param { num_output: 4 kernel_size: 3 engine: CAFFE bias_term: false
    weight_filler { type: "msra" variance_norm: FAN_OUT } } }
layer { name: "p" type: "Pooling" bottom: "y" top: "z" pooling_param { pool: AVE kernel_size: 2 } }
"""
    filler = {"type": "msra", "variance_norm": "FAN_OUT"}
    convolution = {"num_output": np.int64(4), "kernel_size": np.int64(3), "engine": "CAFFE",
                   "bias_term": False, "weight_filler": filler}  # fmt: skip
    rules = {"include": [{"phase": "TEST"}], "param": [{"name": "w", "share_mode": "PERMISSIVE"}]}

    net = Net("", (
        make_layer("c", "Convolution", "x", "y", {"convolution_param": convolution, **rules}),
        make_layer("p", "Pooling", "y", "z", {"pooling_param": {"pool": "AVE", "kernel_size": 2}}),
    ))  # fmt: skip

    assert net == read_prototxt(text) == read_prototxt(to_prototxt(net))


def test_items_of_repeated_fields_are_what_the_schema_says():
    """Which their annotations say again."""
    kinds = {"uint32": int, "int32": int, "float": float, "message": dict}
    messages = schema.fields("LayerParameter")
    found = 0
    for cls in REGISTRY.values():
        for name in dir(cls):
            ours = getattr(cls, name)
            if isinstance(getattr(ours, "default", None), tuple):
                field = schema.fields(messages[ours.message or cls.message].message)[name]
                assert (field.repeated, kinds[field.kind]) == (True, ours.item)
                found += 1

    assert found


def test_every_enum_of_a_layer_is_known():
    """By its class, or by its name in what classes do not declare."""
    words = {
        name for cls in REGISTRY.values() for name in dir(cls)
        if isinstance(getattr(getattr(cls, name), "default", None), Word)
    }  # fmt: skip
    messages, enums = ["LayerParameter"], {}
    for message in messages:
        for name, field in schema.fields(message).items():
            if field.kind == "enum":
                enums.setdefault(name, set()).add(tuple(field.values))
            if field.kind == "message" and field.message not in messages:
                messages.append(field.message)

    assert enums.keys() == words | ENUMS.keys()
    assert {name: {values} for name, values in ENUMS.items()} == {
        name: enums[name] for name in ENUMS
    }


def test_an_unknown_type_has_the_fields_of_any_layer():
    """What its own message holds nobody knows."""
    of_a_fork = {"of_a_fork_param": {"shape": 3, "param": "z"}}

    layer = make_layer("a", "OfAFork", "x", "y", {**of_a_fork, "param": {"lr_mult": 2}})
    assert layer.fields == {**of_a_fork, "param": ({"lr_mult": 2},)}
    with pytest.raises(NetError, match="layer 'a': param has no field 'lr'; did you mean lr_mult"):
        make_layer("a", "OfAFork", "x", "y", {**of_a_fork, "param": {"lr": 2}})


def test_of_refuses_what_is_deeper_too():
    shape = {"weight_filler": {"type": "msra"}, "num_output": 4}
    assert Convolution.of("c", "x", "y", **shape).num_output == 4

    with pytest.raises(
        NetError, match=r"layer 'c' \(Convolution\): weight_filler has no field 'ty'"
    ):
        Convolution.of("c", "x", "y", **shape | {"weight_filler": {"ty": "msra"}})


def test_one_value_of_a_repeated_field():
    """As in the text, it is a list of one."""
    text = """
layer { name: "d" type: "Input" top: "x" include { stage: "fine" }
  input_param { shape { dim: 5 } } }
layer { name: "r" type: "AbsVal" bottom: "x" top: "y" param { lr_mult: 0 }
  exclude { not_stage: "a" }
  propagate_down: false loss_weight: 2 transform_param { mean_value: 3 } }
"""
    input_of_one = {"include": {"stage": "fine"}, "input_param": {"shape": {"dim": 5}}}
    rest = {"param": {"lr_mult": 0}, "exclude": {"not_stage": "a"}, "propagate_down": False,
            "loss_weight": 2.0, "transform_param": {"mean_value": 3.0}}  # fmt: skip
    net = Net("", (
        make_layer("d", "Input", (), "x", input_of_one), make_layer("r", "AbsVal", "x", "y", rest),
    ))  # fmt: skip

    assert net == read_prototxt(text)
    assert [layer.name for layer in net.at(stages=("fine", "a")).filtered().layers] == ["d", "r"]


def test_messages_and_repeated_fields_are_the_schemas():
    """Those that no class declares: of the layer itself, and of messages within messages."""
    own = {cls.message for cls in REGISTRY.values()}
    declared = {schema.fields("LayerParameter")[name].message for name in own - {""}}
    messages, found, repeated = ["LayerParameter"], {}, {"bottom", "top", "blobs"}
    for message in messages:
        for name, field in schema.fields(message).items():
            if field.kind == "message":
                if name not in own:
                    assert found.setdefault(name, field.message) == field.message
                if field.message not in messages:
                    messages.append(field.message)
            if field.repeated and message not in {*declared, "BlobProto"}:
                repeated.add(name)

    assert {name: tuple(schema.fields(message)) for name, message in found.items()} == MESSAGES
    assert repeated - {"bottom", "top", "blobs"} == REPEATED


def test_fields_of_a_layer():
    named_by_layer = {"name", "type", "bottom", "top"}

    assert schema.fields("LayerParameter").keys() - named_by_layer == FIELDS
