"""What the nets of this folder are drawn with: layers, one after the other.

Each method puts layers down and returns the name of the last top, which is the last layer's name.
Only ReLU, Scale and Dropout work in place, as in the nets that Caffe's users released.
"""

from dataclasses import replace

from resnet_proto.layers import (
    LRN,
    BatchNorm,
    Concat,
    Convolution,
    Dropout,
    InnerProduct,
    Layer,
    Pooling,
    ReLU,
    Scale,
    make_layer,
)
from resnet_proto.net import Net


class Pen:
    """Draws a net whose input is the blob ``data`` of this shape."""

    def __init__(self, name: str, *shape: int) -> None:
        self.name = name
        fields = {"input_param": {"shape": ({"dim": shape},)}}
        self.layers: list[Layer] = [make_layer("input", "Input", (), ("data",), fields)]

    @property
    def net(self) -> Net:
        return Net(self.name, tuple(self.layers))

    def put(
        self,
        kind: type[Layer],
        name: str,
        bottoms: str | list[str],
        lr_mult: float | None = None,
        **values,
    ) -> str:
        """A layer with a top of its own; ``lr_mult`` is for its only blob."""
        layer = kind.of(name, bottoms, name, **values)
        if lr_mult is not None:
            layer = replace(layer, fields={**layer.fields, "param": ({"lr_mult": lr_mult},)})
        self.layers.append(layer)
        return name

    def over(self, kind: type[Layer], name: str, blob: str, **values) -> str:
        """A layer in place."""
        self.layers.append(kind.of(name, blob, blob, **values))
        return blob

    def conv(self, name: str, bottom: str, num_output: int, kernel: int, **values) -> str:
        """Convolution with bias."""
        return self.put(
            Convolution, name, bottom, num_output=num_output, kernel_size=kernel, **values
        )

    def conv_relu(self, name: str, bottom: str, num_output: int, kernel: int, **values) -> str:
        return self.relu(name, self.conv(name, bottom, num_output, kernel, **values))

    def relu(self, name: str, blob: str) -> str:
        return self.over(ReLU, f"{name}/relu", blob)

    def normalised(self, name: str, bottom: str) -> str:
        """BatchNorm with a top of its own, and Scale: Caffe's two layers for the papers' one."""
        blob = self.put(BatchNorm, f"{name}/bn", bottom)
        return self.over(Scale, f"{name}/scale", blob, bias_term=True)

    def conv_bn(
        self, name: str, bottom: str, num_output: int, kernel: int, *, relu: bool = True, **values
    ) -> str:
        """Convolution without bias, BatchNorm, Scale and, but for linear ones, ReLU."""
        blob = self.conv(name, bottom, num_output, kernel, bias_term=False, **values)
        blob = self.normalised(name, blob)
        return self.relu(name, blob) if relu else blob

    def max_pool(self, name: str, bottom: str, kernel: int, stride: int, **values) -> str:
        return self.put(Pooling, name, bottom, kernel_size=kernel, stride=stride, **values)

    def average_pool(self, name: str, bottom: str, **values) -> str:
        """Average pooling; of whole maps where no kernel is given."""
        values = values or {"global_pooling": True}
        return self.put(Pooling, name, bottom, pool="AVE", **values)

    def lrn(self, name: str, bottom: str) -> str:
        """Caffe's alpha is the paper's times local_size: lrn_layer.cpp divides by it."""
        return self.put(LRN, name, bottom, local_size=5, alpha=1e-4, beta=0.75)

    def concat(self, name: str, bottoms: list[str]) -> str:
        return self.put(Concat, name, bottoms)

    def inner(self, name: str, bottom: str, num_output: int) -> str:
        return self.put(InnerProduct, name, bottom, num_output=num_output)

    def dropout(self, name: str, blob: str, ratio: float = 0.5) -> str:
        return self.over(Dropout, name, blob, dropout_ratio=ratio)
