"""What can be asked of a spec."""

from dataclasses import fields, replace

import pytest

from resnet_proto.build import deploy_net
from resnet_proto.errors import ResNetProtoError
from resnet_proto.presets import PRESETS
from resnet_proto.recipe import Training
from resnet_proto.settings import changed, read_toml, to_toml
from resnet_proto.spec import (
    TASK_DATA,
    TASKS,
    Names,
    ResNetSpec,
    adapted,
    for_finetuning,
    for_task,
)


def unit_names(spec):
    return [
        spec.names.of_unit(i + 2, index, units)
        for i, units in enumerate(spec.stages)
        for index in range(units)
    ]


def test_unit_names_of_the_released_nets():
    """Letters in ResNet-50, a b1 b2 in stages 3 and 4 of 101 and 152."""
    last = {
        key: [
            spec.names.of_unit(i + 2, n - 1, n)
            for spec in [PRESETS[key].spec]
            for i, n in enumerate(spec.stages)
        ]
        for key in ("resnet-50", "resnet-101", "resnet-152")
    }

    assert last == {
        "resnet-50": ["2c", "3d", "4f", "5c"],
        "resnet-101": ["2c", "3b3", "4b22", "5c"],
        "resnet-152": ["2c", "3b7", "4b35", "5c"],
    }


@pytest.mark.parametrize(("units", "last"), [(26, "2z"), (27, "2b26")])
def test_unit_names_beyond_the_alphabet(units, last):
    names = unit_names(ResNetSpec(stages=(units,)))

    assert names[-1] == last
    assert len(set(names)) == units


def test_names_by_a_pattern_of_ones_own():
    names = Names(
        unit="s{stage0}u{block}", place="{unit}/conv{number}", projection="{unit}/skip",
        convolution="{place}", batch_norm="{place}/bn", scale="{place}/scale",
        relu="{place}/relu", sum="{unit}", sum_relu="{unit}/relu", other="{unit}/{role}",
        stem_convolution="stem{part}", classifier="scores",
    )  # fmt: skip
    net = deploy_net(ResNetSpec(stages=(1, 1), width=(5,), squeeze=4, names=names))

    written = [layer.name for layer in net.layers]
    assert written[:3] == ["stem1", "bn_conv1", "scale_conv1"]
    for name in ("s0u1/skip", "s0u1/conv1/bn", "s1u1/conv2", "s1u1/gate", "s1u1/relu", "scores"):
        assert name in written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ()}, "stages are none"),
        (
            {
                "unit": "fully-connected",
                "stem": "none",
                "pool": "none",
                "project_first_stage": True,
            },
            "fully-connected goes with project_first_stage false, not true",
        ),
        ({"gate_bias": 1.0}, "gate_bias is 1.0; expected at most 0"),
        ({"stages": (3, 0)}, r"stages is \[3, 0\]; expected 1 to 10000"),
        ({"stages": (9_000, 2_000)}, "11,000 units; 10,000 are the most"),
        ({"unit": "inverted"}, 'unit is "inverted"; expected "basic" or "bottleneck" or'),
        ({"width": (0,)}, r"width is \[0\]"),
        ({"width": (1, 2, 3)}, "width has 3 values for 2 stages"),
        ({"classes": -1}, "classes is -1"),
        ({"classes": "many"}, 'classes is "many"; expected a whole number'),
        ({"classes": True}, "classes is true; expected a whole number"),
        ({"highway": 1}, "highway is 1; expected true or false"),
        ({"eps": "small"}, 'eps is "small"; expected a number'),
        ({"eps": float("nan")}, "eps is nan"),
        ({"output_stride": 4}, "output_stride is 4; expected 0 or 8 or 16 or 32"),
        ({"cardinality": 32}, "cardinality 32 and base_width 64 go with unit bottleneck"),
        ({"stride_in": "3x3"}, "stride_in 3x3 goes with unit bottleneck"),
        ({"halve_first": True}, "halve_first goes with unit bottleneck; unit is basic"),
        ({"projection_kernel": 3, "shortcut": "D"}, "projection_kernel 3 goes with shortcut B and"),
        ({"squeeze_relu": True}, "squeeze_relu goes with squeeze, order original and a shortcut"),
        ({"squeeze_least": 8}, "squeeze_least 8 goes with squeeze; squeeze is 0"),
        ({"stem": "none"}, "stem is none, which goes with unit fully-connected"),
        ({"unit": "fully-connected"}, "fully-connected goes with stem none, not 7x7; unit"),
        ({"highway": True, "shortcut": "none"}, r"highway goes with a shortcut \(A, B, C or D\)"),
        ({"highway": True, "order": "pre-activation"}, "highway goes with order original"),
        ({"shortcut": "none", "project_first_stage": True}, "project_first_stage goes with a sh"),
        ({"shortcut": "A", "project_first_stage": True}, "A projects nowhere"),
        ({"width_multiplier": 0.1}, "width_multiplier 0.1 leaves a stage of"),
        ({"names": {"unit": "{layer}"}}, r"names.unit is '\{layer\}', which has \{layer\}; known"),
        ({"names": {"unit": "{stage"}}, r"names.unit is '\{stage', where a brace stands alone"),
        ({"names": {"pool1": "x"}}, "names: there is no field 'pool1'; did you mean pool"),
        ({"names": "x"}, "'names' is a table; set a field of it"),
        ({"name": {"x": 1}}, "'name' is a value, not a table"),
        ({"depth": 50}, "there is no field 'depth'"),
    ],
)
def test_refused(change, message):
    """Each with a twin that is taken: the spec that it changes."""
    good = ResNetSpec("x", (3, 1), "basic", width=(4,), classes=1)

    with pytest.raises(ResNetProtoError, match=message):
        changed(good, change, "the spec")


@pytest.mark.parametrize(
    "change",
    [
        {"width": (1, 2)},
        {"unit": "bottleneck", "cardinality": 32},
        {"unit": "bottleneck", "stride_in": "3x3"},
        {"unit": "fully-connected", "stem": "none", "pool": "none"},
        {"highway": True},
        {"shortcut": "none"},
        {"shortcut": "A"},
        {"project_first_stage": True},
        {"width_multiplier": 0.25},
        {"names": {"unit": "u{block}of{stage}"}},
    ],
)
def test_taken(change):
    good = ResNetSpec("x", (3, 1), "basic", width=(4,), classes=1)

    assert changed(good, change, "the spec") != good


def test_every_contradiction_is_named_at_once():
    with pytest.raises(ResNetProtoError, match=r"cardinality 2 .*; stride_in 3x3 goes with"):
        ResNetSpec(cardinality=2, stride_in="3x3")


def test_numbers_come_in_their_fields_form():
    spec = ResNetSpec(width=32, stages=[1, 2], eps=0)

    assert (spec.width, spec.stages, spec.eps) == ((32,), (1, 2), 0.0)
    assert hash(spec) == hash(ResNetSpec(width=(32,), stages=(1, 2), eps=0.0))


def test_the_last_width_doubles():
    assert ResNetSpec(stages=(1,) * 5, width=(3, 10)).widths == (3, 10, 20, 40, 80)
    assert ResNetSpec(stages=(1, 1), width=(5,), width_multiplier=0.5).widths == (2, 5)


def test_every_field_says_what_it_is():
    for about in (*fields(ResNetSpec), *fields(Names)):
        assert about.metadata["doc"], about.name


def test_finetuning_gives_the_classifier_another_name():
    """Caffe copies by name, so weights of 1,000 classes would end it, or stay."""
    spec = PRESETS["resnet-18"].spec

    names = [layer.name for layer in deploy_net(for_finetuning(spec)).layers]

    assert "fc1000_finetune" in names
    assert "fc1000" not in names
    assert for_finetuning(spec).training.finetune


def test_two_layers_of_one_name_are_refused():
    names = Names(convolution="same")

    with pytest.raises(ResNetProtoError, match=r"layers the name 'same'; use \{unit\}"):
        deploy_net(ResNetSpec(stages=(1,), names=names))


@pytest.mark.parametrize("task", TASKS)
def test_a_task_brings_its_recipe_and_there_is_a_way_back(task):
    spec = PRESETS["resnet-50"].spec

    there = for_task(spec, task)

    assert there.task == task
    assert there.training.data in TASK_DATA[task]
    assert there.title == ("ResNet-50" if task == "classification" else f"ResNet-50-{task}")
    assert for_task(there, task) == there
    assert changed(ResNetSpec(), read_toml(to_toml(there), "x"), "x") == there
    back = for_task(there, "classification")
    assert (back.title, back.training) == ("ResNet-50", spec.training)


def test_what_is_set_goes_before_what_a_task_brings():
    spec = adapted(
        PRESETS["resnet-50"].spec,
        {"task": "segmentation", "output_stride": 16, "training": {"batch": 3}},
        "x",
    )

    assert (spec.output_stride, spec.classes, spec.input_size) == (16, 21, 321)
    assert (spec.training.batch, spec.training.data) == (3, "hdf5")
    with pytest.raises(ResNetProtoError, match='task is "pose"; expected "classification" or'):
        adapted(spec, {"task": "pose"}, "x")
    with pytest.raises(ResNetProtoError, match="no task 'pose'; known: classification, local"):
        for_task(spec, "pose")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "pre-activation"}, "task r-fcn goes with order original"),
        ({"dialect": "nvidia"}, "task r-fcn goes with dialect mainline"),
        ({"unit": "fully-connected", "stem": "none"}, "task r-fcn goes with unit basic and bottl"),
        ({"training": Training()}, "goes with training.data roi-data; it is lmdb"),
    ],
)
def test_what_does_not_go_with_detection(change, message):
    spec = for_task(ResNetSpec(), "r-fcn")

    with pytest.raises(ResNetProtoError, match=message):
        replace(spec, **change)
