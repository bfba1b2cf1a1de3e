"""Small nets in the manner of torchvision's and others, for what torch exports of them."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


def conv_bn(i, o, kernel=3, stride=1, groups=1, act=nn.ReLU):
    pad = (kernel - 1) // 2
    layers = [nn.Conv2d(i, o, kernel, stride, pad, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *([act(inplace=True)] if act else []))


class Block(nn.Module):
    """A basic block, or a bottleneck with its stride in the 3x3."""

    def __init__(self, i, o, stride, *, bottleneck):
        super().__init__()
        if bottleneck:
            self.path = nn.Sequential(
                conv_bn(i, 5, 1), conv_bn(5, 5, 3, stride), conv_bn(5, o, 1, act=None)
            )
        else:
            self.path = nn.Sequential(conv_bn(i, o, 3, stride), conv_bn(o, o, act=None))
        self.downsample = conv_bn(i, o, 1, stride, act=None) if stride > 1 or i != o else None

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(self.path(x) + identity)


class ResNet(nn.Module):
    def __init__(self, *, bottleneck):
        super().__init__()
        self.stem = conv_bn(3, 8, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(
            Block(8, 8, 1, bottleneck=bottleneck), Block(8, 12, 2, bottleneck=bottleneck)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 7)

    def forward(self, x):
        x = self.avgpool(self.blocks(self.pool(self.stem(x))))
        return self.fc(torch.flatten(x, 1))


class MobileNet(nn.Module):
    """The first: depthwise and pointwise convolutions, ``view`` by the batch's size."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn(3, 8, 3, 2), conv_bn(8, 8, 3, 1, 8), conv_bn(8, 12, 1),
            conv_bn(12, 12, 3, 2, 12), conv_bn(12, 10, 1), nn.AvgPool2d((6, 8)),
        )  # fmt: skip
        self.fc = nn.Linear(10, 7)

    def forward(self, x):
        x = self.layers(x)
        return F.softmax(self.fc(x.view(x.size(0), -1)), dim=1)


class Inverted(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        n = 3 * i
        self.same = stride == 1 and i == o
        self.path = nn.Sequential(
            conv_bn(i, n, 1, act=nn.ReLU6), conv_bn(n, n, 3, stride, n, nn.ReLU6),
            conv_bn(n, o, 1, act=None),
        )  # fmt: skip

    def forward(self, x):
        return x + self.path(x) if self.same else self.path(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn(3, 6, 3, 2, act=nn.ReLU6), Inverted(6, 6, 1), Inverted(6, 8, 2)
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 7))

    def forward(self, x):
        return F.log_softmax(self.classifier(self.layers(x).mean([2, 3])), dim=1)


class Fire(nn.Module):
    def __init__(self, i, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(i, squeeze, 1)
        self.one, self.three = (
            nn.Conv2d(squeeze, expand, 1),
            nn.Conv2d(squeeze, expand, 3, padding=1),
        )

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


class SqueezeNet(nn.Module):
    """Its pooling rounds up."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8, 4, 6),
            nn.MaxPool2d(3, 2, ceil_mode=True), Fire(12, 5, 4), nn.Dropout(), nn.Conv2d(8, 7, 1),
            nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)),
        )  # fmt: skip

    def forward(self, x):
        return torch.flatten(self.layers(x), 1)


class UNet(nn.Module):
    """Up by transposed convolutions or bilinearly; what goes across is cropped or not."""

    def __init__(self, *, bilinear):
        super().__init__()
        self.down1, self.down2 = conv_bn(3, 6), conv_bn(6, 8)
        self.middle = conv_bn(8, 10)
        if bilinear:
            self.up2 = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(10, 8, 1)
            )
            self.up1 = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 6, 1))
        else:
            self.up2 = nn.ConvTranspose2d(10, 8, 2, 2)
            self.up1 = nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1)
        self.join2, self.join1 = conv_bn(16, 8), conv_bn(12, 6)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        y = self.middle(F.max_pool2d(b, 2))
        y = self.join2(torch.cat([self.up2(y), b], 1))
        y = self.up1(y)
        y = self.join1(torch.cat([y, a], 1))[:, :, 1:-2, 3:-1]
        return torch.sigmoid(self.last(y))


class SqueezeExcite(nn.Module):
    def __init__(self, n, gate):
        super().__init__()
        self.fc1, self.fc2, self.gate = nn.Conv2d(n, 3, 1), nn.Conv2d(3, n, 1), gate()

    def forward(self, x):
        return x * self.gate(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class Linear(nn.Module):
    """As SENet's own: two inner products, and ``view`` there and back."""

    def __init__(self, n):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(n, 3), nn.Linear(3, n)

    def forward(self, x):
        n, c, _, _ = x.size()
        y = torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1).view(n, c)))))
        return x * y.view(n, c, 1, 1).expand_as(x)


class SENet(nn.Module):
    """With hard sigmoid and hard swish too, as MobileNet v3."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn(3, 8, 3, 2), SqueezeExcite(8, nn.Sigmoid), conv_bn(8, 6, 3, 1, 2, nn.Hardswish),
            SqueezeExcite(6, nn.Hardsigmoid), conv_bn(6, 9, 3, 2, 3, nn.SiLU), Linear(9),
        )  # fmt: skip
        self.fc = nn.Linear(9, 7)

    def forward(self, x):
        return self.fc(self.layers(x).mean((2, 3)))


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 6, 7, 2)
        sizes = (6, 10, 14)
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) for n in sizes])
        self.convs = nn.ModuleList([nn.Conv2d(n, 4, 3, 1, 1, bias=False) for n in sizes])
        self.transition = nn.Sequential(
            nn.BatchNorm2d(18), nn.ReLU(), nn.Conv2d(18, 8, 1, bias=False), nn.AvgPool2d(2, 2)
        )
        self.norm, self.classifier = nn.BatchNorm2d(8), nn.Linear(8, 7)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        x = F.relu(self.norm(self.transition(x)))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class Others(nn.Module):
    """What the others have not: GroupNorm, InstanceNorm, PReLU, ELU, chunk, PixelShuffle, pads."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, (3, 2), (2, 1), (1, 0), dilation=(1, 2))
        self.group, self.instance = nn.GroupNorm(3, 12), nn.InstanceNorm2d(6, affine=True)
        self.prelu, self.elu = nn.PReLU(12), nn.ELU(0.7)
        self.average = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.up = nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, x):
        x = self.prelu(self.group(self.conv(F.pad(x, (1, 2, 0, 1)))))
        a, b = x.chunk(2, 1)
        y = torch.max(self.elu(a), self.instance(b)) - 0.5 * a.abs().clamp(min=0.1).sqrt()
        y = self.average(y)
        return F.pixel_shuffle(self.up(y), 2), y.mean(1, keepdim=True), y.amax((2, 3)), y[:, 1] / 3


NETS = {
    "resnet": lambda: ResNet(bottleneck=False),
    "resnet, bottleneck": lambda: ResNet(bottleneck=True),
    "mobilenet": MobileNet,
    "mobilenet v2": MobileNetV2,
    "squeezenet": SqueezeNet,
    "unet": lambda: UNet(bilinear=False),
    "unet, bilinear": lambda: UNet(bilinear=True),
    "senet": SENet,
    "densenet": DenseNet,
    "others": Others,
}
SHAPE = (2, 3, 24, 32)


def net(name):
    """A net for inference, whose statistics and factors are not those of a new one."""
    torch.manual_seed(1)
    model = NETS[name]().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model
