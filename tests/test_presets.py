"""Every preset against figures that others published."""

from dataclasses import replace

import pytest

from resnet_proto.build import deploy_net
from resnet_proto.errors import ResNetProtoError
from resnet_proto.presets import PRESETS, preset
from resnet_proto.report.summary import summarize
from resnet_proto.settings import changed, read_toml, to_toml
from resnet_proto.spec import ResNetSpec

# Learned values. Others' counts: torchvision (18 to 152, wide-resnet-50-2, resnext), timm
# (resnet-50-d), github osmr/imgclsmob (10, 26, preact, se, cifar-preact, cifar-wide-28-10); for
# option A and plain the sums of the shapes, which the paper rounds to 0.27M ... 19.4M.
# 50 and the half-width net have one more count each: their released caffemodels.
PARAMETERS = {
    "resnet-10": 5_418_792,
    "resnet-18": 11_689_512,
    "resnet-26": 15_995_176,
    "resnet-34": 21_797_672,
    "resnet-50": 25_557_032 + 64,  # the released one has a bias in conv1
    "resnet-101": 44_549_160,
    "resnet-152": 60_192_808,
    "resnet-200": 64_673_832,
    "resnet-50-1by2": 6_927_528 + 13_312,  # a bias in every convolution
    "resnet-50-d": 25_576_264,
    "preact-resnet-18": 11_687_848,
    "preact-resnet-34": 21_796_008,
    "preact-resnet-50": 25_549_480,
    "preact-resnet-101": 44_541_608,
    "preact-resnet-152": 60_185_256,
    "preact-resnet-200": 64_666_280,
    "plain-18": 11_515_688,
    "plain-34": 21_623_848,
    "wide-resnet-50-2": 68_883_240,
    "resnext-50-32x4d": 25_028_904,
    "resnext-101-32x4d": 44_177_704,
    "resnext-101-64x4d": 83_455_272,
    "se-resnet-50": 28_088_024,
    "se-resnet-101": 49_326_872,
    "se-resnet-152": 66_821_848,
    "se-resnext-50-32x4d": 27_559_896,
    "cifar-resnet-20": 269_722,
    "cifar-resnet-32": 464_154,
    "cifar-resnet-44": 658_586,
    "cifar-resnet-56": 853_018,
    "cifar-resnet-110": 1_727_962,
    "cifar-resnet-1202": 19_421_274,
    "cifar-preact-resnet-164": 1_703_258,
    "cifar-preact-resnet-1001": 10_327_706,
    "cifar-plain-20": 269_722,
    "cifar-plain-32": 464_154,
    "cifar-plain-44": 658_586,
    "cifar-plain-56": 853_018,
    "cifar-plain-110": 1_727_962,
    "cifar-wide-resnet-16-8": 10_961_370,  # arXiv 1605.07146, table 4: 11.0M
    "cifar-wide-resnet-28-10": 36_479_194,
}

# Multiply-adds of convolutions and classifier: sums over table 1 and section 4.2.
MACS = {
    "resnet-18": 1_814_073_344,
    "resnet-34": 3_663_761_408,
    "resnet-50": 3_857_973_248,
    "resnet-101": 7_570_194_432,
    "resnet-152": 11_282_415_616,
    "plain-18": 1_794_805_760,
    "plain-34": 3_644_493_824,
    "cifar-resnet-20": 40_551_040,
    "cifar-resnet-32": 68_862_592,
    "cifar-resnet-44": 97_174_144,
    "cifar-resnet-56": 125_485_696,
    "cifar-resnet-110": 252_887_680,
    "cifar-resnet-1202": 2_829_238_912,
    "cifar-plain-20": 40_551_040,
    "cifar-plain-32": 68_862_592,
    "cifar-plain-44": 97_174_144,
    "cifar-plain-56": 125_485_696,
    "cifar-plain-110": 252_887_680,
}

# Others' figures in millions; they also count what BatchNorm, pooling and gates do, up to 3 %.
# github osmr/imgclsmob, torchvision's documentation, timm (50-d), arXiv 1605.07146 (16-8).
ABOUT = {
    "resnet-10": 894.0,
    "preact-resnet-18": 1_818.4,
    "preact-resnet-34": 3_669.4,
    "preact-resnet-50": 3_869.2,
    "preact-resnet-101": 7_586.5,
    "preact-resnet-152": 11_305.1,
    "resnext-50-32x4d": 4_230.0,
    "resnext-101-32x4d": 7_991.6,
    "resnext-101-64x4d": 15_491.9,
    "resnet-50-d": 4_350.0,
    "se-resnet-50": 3_877.0,
    "se-resnet-101": 7_600.0,
    "se-resnet-152": 11_324.6,
    "se-resnext-50-32x4d": 4_253.3,
    "cifar-preact-resnet-164": 255.3,
    "cifar-preact-resnet-1001": 1_536.4,
    "cifar-wide-resnet-28-10": 5_247.0,
}


# Presets of which others publish a variant: what differs, their learned values, their millions.
# github osmr/imgclsmob (ResNet-BC-26b, PreResNet-200b, WRN-16-10), torchvision's documentation.
V15 = {"stride_in": "3x3"}
VARIANTS = {
    "resnet-26": (V15, 15_995_176, 2_356.7),
    "resnet-200": (V15 | {"order": "pre-activation"}, 64_666_280, 15_040.3),
    "preact-resnet-200": (V15, 64_666_280, 15_040.3),
    "wide-resnet-50-2": (V15, 68_883_240, 11_398.0),
    "cifar-wide-resnet-16-8": ({"width_multiplier": 10.0}, 17_116_634, 2_414.0),
}


def summary(name):
    return summarize(deploy_net(PRESETS[name].spec))


def test_every_preset_has_a_published_count():
    assert PARAMETERS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_parameters(name):
    assert summary(name).parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", MACS)
def test_macs(name):
    assert summary(name).macs == MACS[name]


@pytest.mark.parametrize("name", ABOUT)
def test_macs_are_about_what_others_count(name):
    ours = summary(name).macs / 1e6

    assert 0.955 * ABOUT[name] < ours < 1.001 * ABOUT[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_variant_that_others_count(name):
    change, parameters, millions = VARIANTS[name]

    found = summarize(deploy_net(replace(PRESETS[name].spec, **change)))

    assert found.parameters == parameters
    assert 0.993 * millions < found.macs / 1e6 < 1.001 * millions


def test_every_preset_has_published_macs():
    """The half-width net's are in build/test_deploy.py."""
    assert PRESETS.keys() - {*MACS, *ABOUT, *VARIANTS} == {"resnet-50-1by2"}


def test_stride_in_the_3x3_costs_more():
    """v1.5: torchvision's resnet50 has 4.09e9 multiply-adds."""
    spec = changed(ResNetSpec(), {"unit": "bottleneck", "stride_in": "3x3"}, "x")

    assert summarize(deploy_net(spec)).macs == 4_089_184_256


def test_projection_everywhere():
    """Option C of ResNet-18 and 34."""
    for stages, parameters, macs in (
        ((2, 2, 2, 2), 12_043_816, 1_878_298_624),
        ((3, 4, 6, 3), 22_716_840, 3_830_747_136),
    ):
        everywhere = summarize(deploy_net(ResNetSpec(stages=stages, shortcut="C")))

        assert (everywhere.parameters, everywhere.macs) == (parameters, macs)


@pytest.mark.parametrize("name", PRESETS)
def test_print_and_read(name):
    """A preset printed as TOML and read back is the same spec."""
    spec = PRESETS[name].spec

    assert changed(ResNetSpec(), read_toml(to_toml(spec), "x"), "x") == spec


@pytest.mark.parametrize("name", PRESETS)
def test_depth_is_in_the_name(name):
    """Paper, table 1: the depth counts conv1, the units' convolutions and the classifier.

    Wide nets for CIFAR count the three projections too, and not the classifier.
    """
    spec = PRESETS[name].spec
    counted = spec.depth + 2 if "cifar-wide" in name else spec.depth

    assert str(counted) in name.replace("-", " ").split()
    assert str(counted) in spec.name.replace("-", " ").split()


def test_unknown_preset():
    assert preset("cifar-resnet-20").depth == 20
    with pytest.raises(ResNetProtoError, match="no preset is called 'cifar-resnt-20'; near: cifar"):
        preset("cifar-resnt-20")
