"""The layers of released models, with the shapes of their blobs, drawn from the papers' tables.

Names are those of the released deploy nets. For each model: name -> shapes of the blobs. That a
drawing is right is shown by the bytes of the released file, of which its values make up 99 %.
"""

from dataclasses import replace

from nets.googlenet import INCEPTIONS

from resnet_proto.build import deploy_net
from resnet_proto.evaluate.released import structure
from resnet_proto.presets import preset


class Layers(dict):
    """Name -> shapes; each method puts layers down."""

    def conv(self, name, out, inner, kernel, *, bias=True, group=1):
        self[name] = [(out, inner // group, kernel, kernel), (out,)][: 1 + bias]

    def inner(self, name, out, inner):
        self[name] = [(out, inner), (out,)]

    def norm(self, name, channels, scale="/scale", bn="/bn"):
        """BatchNorm and Scale, ``name`` with these ends."""
        self[name + bn] = [(channels,), (channels,), (1,)]
        self[name + scale] = [(channels,), (channels,)]

    def conv_bn(self, name, out, inner, kernel, *, group=1, **ends):
        self.conv(name, out, inner, kernel, bias=False, group=group)
        self.norm(name, out, **ends)


def of_net(net):
    """Of a net: its own shapes."""
    return Layers((step.layer.name, list(step.blobs.values())) for step in net.walk() if step.blobs)


def generated(name, **fields):
    """Ours, which is the authors' layer for layer."""
    return of_net(deploy_net(replace(preset(name), **fields)))


def alexnet():
    """Krizhevsky et al. 2012; the order of pooling and normalisation makes no blob."""
    layers = Layers()
    layers.conv("conv1", 96, 3, 11)
    layers.conv("conv2", 256, 96, 5, group=2)
    layers.conv("conv3", 384, 256, 3)
    layers.conv("conv4", 384, 384, 3, group=2)
    layers.conv("conv5", 256, 384, 3, group=2)
    layers.inner("fc6", 4096, 256 * 6 * 6)
    layers.inner("fc7", 4096, 4096)
    layers.inner("fc8", 1000, 4096)
    return layers


def vgg(*counts):
    """Simonyan and Zisserman 2014, table 1: D and E."""
    layers, inner = Layers(), 3
    for block, (n, channels) in enumerate(zip(counts, (64, 128, 256, 512, 512), strict=True), 1):
        for i in range(1, n + 1):
            layers.conv(f"conv{block}_{i}", channels, inner, 3)
            inner = channels
    layers.inner("fc6", 4096, 512 * 7 * 7)
    layers.inner("fc7", 4096, 4096)
    layers.inner("fc8", 1000, 4096)
    return layers


def googlenet(*, training):
    """Szegedy et al. 2014, table 1; in training with the two other classifiers, section 5."""
    layers = Layers()
    layers.conv("conv1/7x7_s2", 64, 3, 7)
    layers.conv("conv2/3x3_reduce", 64, 64, 1)
    layers.conv("conv2/3x3", 192, 64, 3)
    inner = 192
    for key, (one, to_three, three, to_five, five, projected) in INCEPTIONS.items():
        if training and key in ("4b", "4e"):  # behind 4a and 4d
            head = {"4b": "loss1", "4e": "loss2"}[key]
            layers.conv(f"{head}/conv", 128, inner, 1)
            layers.inner(f"{head}/fc", 1024, 128 * 4 * 4)
            layers.inner(f"{head}/classifier", 1000, 1024)
        name = f"inception_{key}"
        layers.conv(f"{name}/1x1", one, inner, 1)
        layers.conv(f"{name}/3x3_reduce", to_three, inner, 1)
        layers.conv(f"{name}/3x3", three, to_three, 3)
        layers.conv(f"{name}/5x5_reduce", to_five, inner, 1)
        layers.conv(f"{name}/5x5", five, to_five, 5)
        layers.conv(f"{name}/pool_proj", projected, inner, 1)
        inner = one + three + five + projected
    layers.inner("loss3/classifier", 1000, inner)
    return layers


def squeezenet(channels, kernel):
    """Iandola et al. 2016, table 1."""
    layers = Layers()
    layers.conv("conv1", channels, 3, kernel)
    inner = channels
    for number, squeezed in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        layers.conv(f"fire{number}/squeeze1x1", squeezed, inner, 1)
        layers.conv(f"fire{number}/expand1x1", 4 * squeezed, squeezed, 1)
        layers.conv(f"fire{number}/expand3x3", 4 * squeezed, squeezed, 3)
        inner = 8 * squeezed
    layers.conv("conv10", 1000, inner, 1)
    return layers


def mobilenet():
    """Howard et al. 2017, table 1."""
    layers, inner = Layers(), 32
    layers.conv_bn("conv1", 32, 3, 3)
    names = "2_1 2_2 3_1 3_2 4_1 4_2 5_1 5_2 5_3 5_4 5_5 5_6 6".split()
    widths = (64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
    for name, channels in zip(names, widths, strict=True):
        layers.conv_bn(f"conv{name}/dw", inner, inner, 3, group=inner)
        layers.conv_bn(f"conv{name}/sep", channels, inner, 1)
        inner = channels
    layers.conv("fc7", 1000, inner, 1)
    return layers


def mobilenet_v2():
    """Sandler et al. 2018, table 2; the release expands in the first bottleneck too, to 32."""
    layers, inner = Layers(), 32
    layers.conv_bn("conv1", 32, 3, 3)
    names = "2_1 2_2 3_1 3_2 4_1 4_2 4_3 4_4 4_5 4_6 4_7 5_1 5_2 5_3 6_1 6_2 6_3".split()
    widths = (16, 24, 24, *(32,) * 3, *(64,) * 4, *(96,) * 3, *(160,) * 3, 320)
    for name, channels in zip(names, widths, strict=True):
        wide = inner * (1 if name == "2_1" else 6)
        layers.conv_bn(f"conv{name}/expand", wide, inner, 1)
        layers.conv_bn(f"conv{name}/dwise", wide, wide, 3, group=wide)
        layers.conv_bn(f"conv{name}/linear", channels, wide, 1)
        inner = channels
    layers.conv_bn("conv6_4", 1280, inner, 1)
    layers.conv("fc7", 1000, 1280, 1)
    return layers


def densenet(growth, *counts):
    """Huang et al. 2016, table 1."""
    layers, inner = Layers(), 2 * growth
    layers.conv_bn("conv1", inner, 3, 7)
    for block, n in enumerate(counts, 2):
        for i in range(1, n + 1):
            name = f"conv{block}_{i}"
            layers.norm(f"{name}/x1", inner)
            layers.conv(f"{name}/x1", 4 * growth, inner, 1, bias=False)
            layers.norm(f"{name}/x2", 4 * growth)
            layers.conv(f"{name}/x2", growth, 4 * growth, 3, bias=False)
            inner += growth
        layers.norm(f"conv{block}_blk", inner)
        if block < 5:
            layers.conv(f"conv{block}_blk", inner // 2, inner, 1, bias=False)
            inner //= 2
    layers.conv("fc6", 1000, inner, 1)
    return layers


def senet(*counts, group=1):
    """Hu et al. 2018, table 1; with groups, twice the width within a block."""
    layers, inner = Layers(), 64
    end = "/bn/scale"
    layers.conv_bn("conv1/7x7_s2", 64, 3, 7, scale=end)
    for stage, n in enumerate(counts, 2):
        narrow, out = 64 << (stage - 2), 256 << (stage - 2)
        wide = 2 * narrow if group > 1 else narrow
        for i in range(1, n + 1):
            name = f"conv{stage}_{i}"
            layers.conv_bn(f"{name}_1x1_reduce", wide, inner, 1, scale=end)
            layers.conv_bn(f"{name}_3x3", wide, wide, 3, scale=end, group=group)
            layers.conv_bn(f"{name}_1x1_increase", out, wide, 1, scale=end)
            layers.conv(f"{name}_1x1_down", out // 16, out, 1)
            layers.conv(f"{name}_1x1_up", out, out // 16, 1)
            if i == 1:
                layers.conv_bn(f"{name}_1x1_proj", out, inner, 1, scale=end)
            inner = out
    layers.inner("classifier", 1000, inner)
    return layers


def senet_154():
    """Hu et al. 2018, section 6: a stem of three, wide blocks in 64 groups, 3x3 projections."""
    layers, inner = Layers(), 128
    end = "/bn/scale"
    layers.conv_bn("conv1_1/3x3_s2", 64, 3, 3, scale=end)
    layers.conv_bn("conv1_2/3x3", 64, 64, 3, scale=end)
    layers.conv_bn("conv1_3/3x3", 128, 64, 3, scale=end)
    for stage, n in enumerate((3, 8, 36, 3), 2):
        out = 256 << (stage - 2)
        for i in range(1, n + 1):
            name = f"conv{stage}_{i}"
            layers.conv_bn(f"{name}_1x1_reduce", out // 2, inner, 1, scale=end)
            layers.conv_bn(f"{name}_3x3", out, out // 2, 3, scale=end, group=64)
            layers.conv_bn(f"{name}_1x1_increase", out, out, 1, scale=end)
            layers.conv(f"{name}_1x1_down", out // 16, out, 1)
            layers.conv(f"{name}_1x1_up", out, out // 16, 1)
            if i == 1:
                layers.conv_bn(f"{name}_1x1_proj", out, inner, 1 if stage == 2 else 3, scale=end)
            inner = out
    layers.inner("classifier", 1000, inner)
    return layers


def resnext(*counts, group, width):
    """Xie et al. 2016, table 1; ``width`` channels in the first stage's blocks."""
    layers, inner, number = Layers(), 64, 0
    ends = {"scale": "_scale", "bn": "_bn"}
    layers.conv_bn("conv1", 64, 3, 7, **ends)
    for stage, n in enumerate(counts):
        wide, out = width << stage, 256 << stage
        for i in range(n):
            number += 1
            name = f"resx{number}"
            layers.conv_bn(f"{name}_conv1", wide, inner, 1, **ends)
            layers.conv_bn(f"{name}_conv2", wide, wide, 3, **ends, group=group)
            layers.conv_bn(f"{name}_conv3", out, wide, 1, **ends)
            if i == 0:
                layers.conv_bn(f"{name}_match_conv", out, inner, 1, **ends)
            inner = out
    layers.inner("classifier", 1000, inner)
    return layers


DRAWN = {
    "ResNet-50": (generated("resnet-50"),),
    "ResNet-101": (generated("resnet-101"),),
    "ResNet-152": (generated("resnet-152"),),
    "ResNet-18 (HolmesShuan)": (generated("resnet-18", project_first_stage=True),),
    "SE-ResNet-50": (senet(3, 4, 6, 3),),
    "SE-ResNet-101": (senet(3, 4, 23, 3),),
    "SE-ResNet-152": (senet(3, 8, 36, 3),),
    "SE-ResNeXt-50 (32x4d)": (senet(3, 4, 6, 3, group=32),),
    "SE-ResNeXt-101 (32x4d)": (senet(3, 4, 23, 3, group=32),),
    "SENet-154": (senet_154(),),
    "ResNeXt-50 32x4d": (resnext(3, 4, 6, 3, group=32, width=128),),
    "ResNeXt-101 32x4d": (resnext(3, 4, 23, 3, group=32, width=128),),
    "ResNeXt-101 64x4d": (resnext(3, 4, 23, 3, group=64, width=256),),
    "DenseNet-121": (densenet(32, 6, 12, 24, 16),),
    "DenseNet-161": (densenet(48, 6, 12, 36, 24),),
    "DenseNet-169": (densenet(32, 6, 12, 32, 32),),
    "DenseNet-201": (densenet(32, 6, 12, 48, 32),),
    "MobileNet": (mobilenet(),),
    "MobileNet v2": (mobilenet_v2(),),
    "BVLC AlexNet": (alexnet(),),
    "BVLC CaffeNet": (alexnet(),),
    "BVLC GoogLeNet": (googlenet(training=False), googlenet(training=True)),
    "VGG-16": (vgg(2, 2, 3, 3, 3),),
    "VGG-19": (vgg(2, 2, 4, 4, 4),),
    "SqueezeNet 1.0": (squeezenet(96, 7),),
    "SqueezeNet 1.1": (squeezenet(64, 3),),
}
"""Release -> its layers; a second time with those that its file has for training."""
STRUCTURES = {
    name: tuple(structure(layers.items()) for layers in drawn) for name, drawn in DRAWN.items()
}
