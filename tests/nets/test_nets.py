"""Each net against figures that others published, and through every command that reads nets."""

import pytest
from nets.classic import NETS

from resnet_proto.check import check_text
from resnet_proto.layers import make_layer
from resnet_proto.net import Net
from resnet_proto.prototxt import read_prototxt, to_prototxt
from resnet_proto.report.summary import summarize

# Learned values, and multiply-adds of one image at the net's own size. Others round the latter:
# tests/oracles/test_classic_nets.py has torch count them too.
PUBLISHED = {
    # Han et al. (arXiv 1506.02626), table 3: 431K and 4586K FLOP, two to a multiply-add; to the
    # digit the sums 520 + 25,050 + 400,500 + 5,010 and 288,000 + 1,600,000 + 400,000 + 5,000.
    "lenet": (431_080, 2_293_000),
    # HewlettPackard/dlcookbook-dlbs, table of models; MACs: Sze et al. (arXiv 1703.09039), table
    # II: 666M of convolutions and 58.6M behind them.
    "alexnet": (60_965_224, 724_406_816),
    "caffenet": (60_965_224, 724_406_816),
    # HewlettPackard/dlcookbook-dlbs; MACs: the paper's "1.5 billion" (section 1).
    "googlenet": (6_998_552, 1_582_671_872),
    # torchvision's num_params, and its _ops of 15.47G; arXiv 1703.09039, table II: 15.5G.
    "vgg-16": (138_357_544, 15_470_264_320),
    # torchvision's num_params of squeezenet1_0 and squeezenet1_1; it pads conv10 of neither, and
    # has 224 x 224.
    "squeezenet-1.0": (1_248_424, 861_339_936),
    "squeezenet-1.1": (1_235_496, 387_747_520),
    # Values: osmr/imgclsmob. MACs: the paper's table 8, 569M.
    "mobilenet": (4_231_976, 568_740_352),
    # torchvision's num_params, and its _ops of 0.301G; the paper's table 4: 300M.
    "mobilenet-v2": (3_504_872, 300_774_272),
    # torchvision's num_params, and its _ops of 2.834G.
    "densenet-121": (7_978_856, 2_834_161_664),
    # VGG-16 without the 4,097,000 values of fc8, with 21 scores of 4096, 512 and 256 channels; the
    # paper's table 1: 134M.
    "fcn-8s": (138_357_544 - 4_097_000 + 21 * (4096 + 512 + 256 + 3), 180_965_880_576),
}


@pytest.mark.parametrize("name", NETS)
def test_values_and_macs_are_those_of_others(name):
    found = summarize(NETS[name]())

    assert found.unknown is None
    assert (found.parameters, found.macs) == PUBLISHED[name]


def test_squeezenet_at_torchvisions_size():
    """At 224 x 224 version 1.1 is its squeezenet1_1, whose _ops are 0.349G."""
    net = NETS["squeezenet-1.1"]()
    data = {"input_param": {"shape": ({"dim": (1, 3, 224, 224)},)}}

    smaller = Net("x", (make_layer("input", "Input", (), ("data",), data), *net.layers[1:]))

    assert summarize(smaller).macs == 349_151_936


@pytest.mark.parametrize("name", NETS)
def test_text_round_trip(name):
    net = NETS[name]()

    assert read_prototxt(to_prototxt(net)) == net


@pytest.mark.parametrize("name", NETS)
def test_nothing_is_wrong_with_it(name):
    assert check_text(to_prototxt(NETS[name]()), "deploy.prototxt").findings == ()
