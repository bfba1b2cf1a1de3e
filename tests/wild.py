"""Nets as others write them, as text: no builder of ours has a part in it."""


def layer(type, name, bottoms, top=None, more=""):
    """A layer on one line; its top has its name where none is given."""
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{type}" {reads} top: "{top or name}" {more} }}\n'


def conv(name, bottom, num_output, kernel, stride=1, more="bias_term: false"):
    """A convolution that leaves out what Caffe has as its default."""
    pad = f"pad: {kernel // 2} " if kernel > 1 else ""
    strided = f"stride: {stride} " if stride > 1 else ""
    values = f"num_output: {num_output} kernel_size: {kernel} {pad}{strided}{more}"
    return layer("Convolution", name, bottom, more=f"convolution_param {{ {values} }}")


def norm(suffix, blob, more="", relu=""):
    """BatchNorm and Scale in place, and a ReLU if it has a name."""
    text = layer("BatchNorm", f"bn{suffix}", blob, blob, f"batch_norm_param {{ {more} }}")
    text += layer("Scale", f"scale{suffix}", blob, blob, "scale_param { bias_term: true }")
    return text + (layer("ReLU", relu, blob, blob) if relu else "")


def head(blob, pool="kernel_size: 7 stride: 1", name="pool5", fc="fc1000", classes=1000):
    return (
        layer("Pooling", name, blob, more=f"pooling_param {{ pool: AVE {pool} }}")
        + layer("InnerProduct", fc, name, more=f"inner_product_param {{ num_output: {classes} "
                'weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0 } }')
        + layer("Softmax", "prob", fc)
    )  # fmt: skip


def data(shape="dim: 1 dim: 3 dim: 224 dim: 224"):
    return layer("Input", "data", "", more=f"input_param {{ shape {{ {shape} }} }}")


def resnet_18():
    """As github HolmesShuan/ResNet-18-Caffemodel-on-ImageNet: Input layer, fillers kept,
    ``moving_average_fraction`` 0.9, and a projection in the first stage.
    """
    msra = 'bias_term: false weight_filler { type: "msra" }'
    fraction = "moving_average_fraction: 0.9"
    text = 'name: "ResNet-18"\n' + data() + conv("conv1", "data", 64, 7, 2, msra)
    text += norm("_conv1", "conv1", fraction, relu="conv1_relu")
    text += layer("Pooling", "pool1", "conv1", more="pooling_param { kernel_size: 3 stride: 2 }")
    bottom = "pool1"
    for stage, width in ((2, 64), (3, 128), (4, 256), (5, 512)):
        for block in "ab":
            unit, stride = f"{stage}{block}", 2 if stage > 2 and block == "a" else 1
            shortcut = bottom
            if block == "a":
                shortcut = f"res{unit}_branch1"
                text += conv(shortcut, bottom, width, 1, stride, msra)
                text += norm(f"{unit}_branch1", shortcut, fraction)
            first, second = f"res{unit}_branch2a", f"res{unit}_branch2b"
            text += conv(first, bottom, width, 3, stride, msra)
            text += norm(f"{unit}_branch2a", first, fraction, relu=f"{first}_relu")
            text += conv(second, first, width, 3, 1, msra)
            text += norm(f"{unit}_branch2b", second, fraction)
            bottom = f"res{unit}"
            text += layer("Eltwise", bottom, f"{shortcut} {second}")
            text += layer("ReLU", f"{bottom}_relu", bottom, bottom)
    return text + head(bottom)


def bottlenecks():
    """Two stages, as nobody should write them: the path is drawn before the shortcut and is the
    first bottom of the sum, nothing but ReLU works in place, the kernel is given by rows and
    columns, the pooling is padded and rounds down, the batch is 10.
    """

    def unit(name, bottom, width, stride, project):
        text = ""
        blob = bottom
        for part, channels, kernel, step in (
            ("x", width, 1, 1), ("y", width, 3, stride), ("z", 4 * width, 1, 1)
        ):  # fmt: skip
            text += conv(f"{name}/{part}", blob, channels, kernel, step)
            text += layer("BatchNorm", f"{name}/{part}/bn", f"{name}/{part}")
            blob = f"{name}/{part}/sc"
            text += layer(
                "Scale", blob, f"{name}/{part}/bn", more="scale_param { bias_term: true }"
            )
            if part != "z":
                text += layer("ReLU", f"{name}/{part}/relu", blob, blob)
        shortcut = bottom
        if project:
            text += conv(f"{name}/s", bottom, 4 * width, 1, stride)
            text += layer("BatchNorm", f"{name}/s/bn", f"{name}/s")
            shortcut = f"{name}/s/sc"
            text += layer("Scale", shortcut, f"{name}/s/bn", more="scale_param { bias_term: true }")
        text += layer(
            "Eltwise", f"{name}/sum", f"{blob} {shortcut}", more="eltwise_param { operation: SUM }"
        )
        return text + layer("ReLU", f"{name}/relu", f"{name}/sum", f"{name}/sum")

    stem = "num_output: 6 kernel_h: 7 kernel_w: 7 pad_h: 3 pad_w: 3 stride_h: 2 stride_w: 2"
    return (
        data("dim: 10 dim: 3 dim: 64 dim: 64")
        + layer("Convolution", "conv1", "data", more=f"convolution_param {{ {stem} }}")
        + norm("1", "conv1", relu="relu1")
        + layer("Pooling", "pool1", "conv1",
                more="pooling_param { kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }")
        + unit("a1", "pool1", 5, 1, True)
        + unit("a2", "a1/sum", 5, 1, False)
        + unit("b1", "a2/sum", 12, 2, True)
        + head("b1/sum", "global_pooling: true", fc="scores", classes=7)
    )  # fmt: skip


def nvidia_18():
    """As github NVIDIA/caffe, models/resnet18: dotted names, BatchNorm that scales, two units."""
    scales = "batch_norm_param { moving_average_fraction: 0.9 eps: 0.0001 scale_bias: true }"

    def cell(name, bottom, width, kernel, stride, relu=True):
        text = conv(name, bottom, width, kernel, stride)
        text += layer("BatchNorm", f"{name}/bn", name, more=scales)
        return text + (layer("ReLU", f"{name}/relu", f"{name}/bn", f"{name}/bn") if relu else "")

    text = data() + cell("conv1", "data", 64, 7, 2)
    text += layer("Pooling", "pool1", "conv1/bn", more="pooling_param { kernel_size: 3 stride: 2 }")
    bottom = "pool1"
    for stage, width in ((2, 64), (3, 128)):
        for block in (1, 2):
            unit, stride = f"res{stage}.{block}", 2 if (stage, block) == (3, 1) else 1
            text += cell(f"{unit}.conv1", bottom, width, 3, stride)
            text += cell(f"{unit}.conv2", f"{unit}.conv1/bn", width, 3, 1, relu=False)
            shortcut = bottom
            if stride > 1:
                text += cell(f"{unit}.skipConv", bottom, width, 1, stride, relu=False)
                shortcut = f"{unit}.skipConv/bn"
            text += layer("Eltwise", f"{unit}.sum", f"{unit}.conv2/bn {shortcut}")
            bottom = f"{unit}.sum"
            text += layer("ReLU", f"{unit}.relu", bottom, bottom)
    return text + head(bottom, "kernel_size: 28 stride: 1", "pool2", "fc")


def squeezed():
    """As github shicai/SENet-Caffe: squeeze and excitation from stock layers, one basic unit."""
    unit = conv("conv2_1_1", "conv1", 16, 3) + norm("2_1_1", "conv2_1_1", relu="relu2_1_1")
    unit += conv("conv2_1_2", "conv2_1_1", 16, 3) + norm("2_1_2", "conv2_1_2")
    unit += layer("Pooling", "pool2_1", "conv2_1_2",
                  more="pooling_param { pool: AVE global_pooling: true }")  # fmt: skip
    unit += layer("InnerProduct", "down", "pool2_1", more="inner_product_param { num_output: 4 }")
    unit += layer("ReLU", "down/relu", "down", "down")
    unit += layer("InnerProduct", "up", "down", more="inner_product_param { num_output: 16 }")
    unit += layer("Sigmoid", "prob2_1", "up", "up")
    unit += layer(
        "Scale", "scaled", "conv2_1_2 up", more="scale_param { axis: 0 bias_term: false }"
    )
    unit += layer("Eltwise", "sum", "conv1 scaled") + layer("ReLU", "sum/relu", "sum", "sum")
    stem = conv("conv1", "data", 16, 3) + norm("_1", "conv1", relu="relu1")
    small = "dim: 1 dim: 1 dim: 28 dim: 28"
    return data(small) + stem + unit + head("sum", "global_pooling: true", classes=10)
